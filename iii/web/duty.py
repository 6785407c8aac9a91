"""HTTP as a duty of the engine: serves from the engine's start until it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from socket import socket
from typing import TYPE_CHECKING

from iii.errors import IIIError
from iii.running.duty import Duty, Failed
from iii.threads import in_thread
from iii.web.endpoint import Endpoint

if TYPE_CHECKING:
    from iii.web.server import Server

__all__ = ["HttpServer"]

LOOK_S = 1.0


class HttpServer:
    """Begun on construction; drains when `stopping` is set. What serves is imported in a thread, while
    messages run already; connections wait in their socket. `console`: this process may serve it too."""

    def __init__(
        self,
        endpoint: Endpoint,
        sockets: Sequence[socket],
        stopping: asyncio.Event,
        drain_ms: int,
        failed: Failed,
        *,
        console: bool,
    ) -> None:
        self._endpoint, self._sockets = endpoint, sockets
        self._stopping, self._drain_ms, self._console = stopping, drain_ms, console
        self._server: Server | None = None
        self._duty = Duty("HTTP", self._serve, lost="nobody answers any more", failed=failed, until=stopping)

    def close(self) -> None:
        """Accept nothing more."""
        if self._server is not None:
            self._server.close()
        else:
            for each in self._sockets:
                each.close()

    async def end(self) -> None:
        """Once the engine stops."""
        await self._duty.ended()

    async def _serve(self) -> None:
        await in_thread(partial(import_module, "iii.web.server"))
        if self._server is None and not self._stopping.is_set():
            from iii.web.server import Server

            self._server = Server.of(self._endpoint, self._sockets, console=self._console)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)
            if self._server is not None and not self._server.listens:
                raise IIIError("a handler closed its listening socket")
        if self._server is not None:
            await self._server.drain(self._drain_ms)
