"""What is written at the end of a turn of the loop: the answers that were made in it.

A client on this machine, or a proxy before us, sleeps while it waits: to write each answer when it is made
wakes it once for each, and waking costs the kernel more than writing. So they gather. Whoever writes past
this flushes first, so that a connection's answers keep their order.
"""

from __future__ import annotations

import asyncio

__all__ = ["BYTES_MAX", "Outgoing"]

BYTES_MAX = 16 << 10
"""Of one answer; larger ones do not wait."""


class Outgoing:
    """For one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, transport: asyncio.Transport, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits, now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)
