"""Hypercorn's connections on sockets of our own: accept, limits of a request's head, drain.

Hypercorn's own `serve` leaves three promises open: it knows no limit for a head that arrives slowly, closes
idle connections in the face of a client that is just sending, and waits without end for open streams. So
the accept loop is here and each connection is its `TCPServer`; a test holds the names used.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import LifespanState

from iii.config import HttpConfig
from iii.web.asgi import AsgiApp
from iii.web.response import failure

__all__ = ["serve"]

IDLE_LAST_S = 1.0  # an idle connection's last second, for the request that is on its way
HEAD_ROOM_BYTES = 64 << 10  # heads a little too large get to the app, which says so in JSON

_log = logging.getLogger("iii.http")


async def serve(
    app: AsgiApp,
    http: HttpConfig,
    sockets: Sequence[socket.socket],
    shutdown: asyncio.Event,
    *,
    drain_ms: int = 10_000,
) -> None:
    """Serve `app` on listening sockets (port.listen) until `shutdown`; closes them.

    Then nothing new is accepted, requests that run have `drain_ms` to end, and what is left is cut off.
    """
    config = _hypercorn_config(http)
    context = WorkerContext(None)
    connections: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(
            ASGIWrapper(app),  # type: ignore[arg-type]
            loop,
            config,
            context,
            LifespanState({}),
            reader,
            writer,
        )
        connection.head_timeout_s = http.head_timeout_ms / 1000
        task = loop.create_task(connection.run_logged())
        connections.add(task)
        task.add_done_callback(connections.discard)

    servers = [await asyncio.start_server(accept, sock=each, backlog=2048) for each in sockets]
    try:
        await shutdown.wait()
    finally:
        for server in servers:
            server.close()
        await _drain(connections, context, drain_ms / 1000)


async def _drain(connections: set[asyncio.Task[None]], context: WorkerContext, drain_s: float) -> None:
    if connections:
        await asyncio.wait(connections, timeout=min(IDLE_LAST_S, drain_s))
    await context.terminated.set()
    if connections:
        await asyncio.wait(connections, timeout=max(0.0, drain_s - IDLE_LAST_S))
    for each in connections:
        each.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def _hypercorn_config(http: HttpConfig) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.include_server_header = False
    config.keep_alive_timeout = http.keep_alive_ms / 1000
    config.keep_alive_max_requests = 1 << 62
    config.h11_max_incomplete_size = http.head_bytes_max + HEAD_ROOM_BYTES
    config.h2_max_header_list_size = http.head_bytes_max
    return config


class _Connection(TCPServer):
    """A connection of Hypercorn's that answers 408 when the head of an HTTP/1 request takes too long."""

    head_timeout_s: float
    _head_timer: asyncio.TimerHandle | None = None
    _between_requests = True

    async def run_logged(self) -> None:
        try:
            await self.run()
        except Exception:
            _log.exception("A connection failed")
        finally:
            self._disarm()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._between_requests = event.idle
            self._disarm()
            if event.idle and self.reader.at_eof():
                return  # its client sends no more: waiting for the next request would only keep it open
            if event.idle and self._has_part_of_head():
                self._arm()
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(MAX_RECV)
            except OSError:
                break
            if data and self._between_requests:
                self._arm()
            await self.protocol.handle(RawData(data))
        await self.idle_task.stop()
        await self.protocol.handle(Closed())

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not (self._between_requests and self._has_part_of_head()):
            return
        sent = failure(408, f"the request head did not arrive within {self.head_timeout_s:g} s")
        lines = [b"HTTP/1.1 408 Request Timeout", *(b"%s: %s" % pair for pair in sent.headers)]
        assert isinstance(sent.body, bytes)
        self.writer.write(b"\r\n".join([*lines, b"connection: close", b"", sent.body]))
        self.writer.close()

    def _has_part_of_head(self) -> bool:
        """Whether the beginning of an HTTP/1 request waits for the rest. HTTP/2 frames (PING) are no head."""
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and bool(protocol.connection.trailing_data[0])
