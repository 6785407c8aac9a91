"""What transports do alike at the end of a request: stream, linger, give up a client that reads nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

from iii.web.stream import Stream, StreamBroken

__all__ = ["LINGER_BYTES_MAX", "LINGER_MS", "SendWatch", "send_stream"]

LINGER_MS = 1000
LINGER_BYTES_MAX = 8 << 20
"""How long, and for how much, a client that was refused is read from: to close on it at once would reset the
connection, and it might never read why."""


class SendWatch:
    """Cuts a connection off whose client took nothing of what is written for `timeout_ms`, until `stop`.

    written_bytes: what was written since it began, to be counted by whoever writes.
    """

    __slots__ = ("_loop", "_taken_bytes", "_timeout_s", "_timer", "_transport", "written_bytes")

    def __init__(
        self, transport: asyncio.WriteTransport, timeout_ms: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport, self._timeout_s, self._loop = transport, timeout_ms / 1000, loop
        self.written_bytes = 0
        self._taken_bytes = -self._unsent()
        self._timer = loop.call_later(self._timeout_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        taken_bytes = self.written_bytes - self._unsent()
        if taken_bytes <= self._taken_bytes:
            self._transport.abort()
        else:
            self._taken_bytes = taken_bytes
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    def _unsent(self) -> int:
        """Bytes that the client's system has not acknowledged. Those in ours count too: it asks for more only
        when a third of its megabytes is gone, and a slow client may take minutes for that."""
        queued = bytearray(4)
        with suppress(OSError, ValueError):  # it is closed
            ioctl(self._transport.get_extra_info("socket").fileno(), TIOCOUTQ, queued)
        return self._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)


async def send_stream(
    stream: Stream,
    drained: asyncio.Event,
    write: Callable[[bytes], Awaitable[object]],
    left: Awaitable[object],
) -> bool:
    """Send chunks until the stream ends, `left` tells that the client did or, for endless ones, the engine
    drains. Whether that is all of the body; where it is not, the client must not take it for that."""
    pump = asyncio.ensure_future(_pump(stream, write))
    watchers: list[asyncio.Future[Any]] = [asyncio.ensure_future(left)]
    if stream.endless:
        watchers.append(asyncio.ensure_future(drained.wait()))
    try:
        await asyncio.wait({pump, *watchers}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pump, *watchers):
            task.cancel()
        await asyncio.wait({pump, *watchers})
        await stream.aclose()
    if pump.cancelled():
        return stream.endless and drained.is_set()
    return pump.result()


async def _pump(stream: Stream, write: Callable[[bytes], Awaitable[object]]) -> bool:
    """Whether all of it was sent."""
    try:
        async for chunk in stream:
            if chunk:
                await write(chunk)
            await asyncio.sleep(0)  # others have their turn, where it is made without waiting
    except (StreamBroken, OSError):  # OSError: the client is gone
        return False
    return True
