"""HTTP as a duty of the engine: serves until the engine stops, and says so where it fails before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from socket import socket

from iii.web.endpoint import Endpoint

__all__ = ["HttpServer"]

log = logging.getLogger("iii.http")


class HttpServer:
    """Started on construction; ends when `stopping` is set. `failed` is called where it ends before."""

    def __init__(
        self,
        endpoint: Endpoint,
        sockets: Sequence[socket],
        stopping: asyncio.Event,
        *,
        drain_ms: int,
        failed: Callable[[], object],
    ) -> None:
        from iii.web.server import serve

        self._stopping, self._failed = stopping, failed
        work = serve(endpoint, sockets, stopping, drain_ms=drain_ms)
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)

    async def end(self) -> None:
        """Wait for its end, once it was told to stop; or stop it where the engine did not start."""
        if not self._stopping.is_set():
            self._task.cancel()
        if not self._task.done():
            await asyncio.wait((self._task,))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A server ends when it is told to; one that fails takes the engine's owner with it."""
        if not self._stopping.is_set() and not task.cancelled() and task.exception() is not None:
            log.critical("HTTP failed: nobody answers any more", exc_info=task.exception())
            self._failed()
