"""A connection of Hypercorn's, with promises added that it leaves open.

A head has a time to arrive in (408), a client has one to take its answer in (it is cut off), and a connection
that ends leaves nothing that waits. HTTP/1 is Hypercorn's; HTTP/2 is ours (http2/), and only where the
configuration asks for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import LifespanState

from iii.config import HttpConfig
from iii.web.asgi import AsgiApp
from iii.web.crowd import BODY, HEAD, IDLE, Newcomers, Waiting, has_unread
from iii.web.hosts import Hosts
from iii.web.http1.gate import Gate
from iii.web.http1.protocol import Http1, Saying, last_words, said
from iii.web.http2.connection import Http2
from iii.web.http2.preface import OFF, Preface
from iii.web.http2.sizes import AnswerSizes
from iii.web.refused import head_too_slow, made_room
from iii.web.sending import LINGER_BYTES_MAX, LINGER_MS, SendWatch

__all__ = ["Hypercorn"]

HEAD_ROOM_BYTES = 64 << 10  # heads a little too large get to the app, which says so in JSON

FRAMES_BYTES_MAX = 8 << 10  # read at a time: a thousand frames that ask for nothing may be in it

_log = logging.getLogger("iii.http")


class Hypercorn:
    """Serves connections it is given with `app`, under `hosts`; `say`: how what is refused before it is asked
    is put. For one event loop; made on it."""

    def __init__(self, app: AsgiApp, http: HttpConfig, hosts: Hosts, say: Saying = said) -> None:
        self._app, self._http, self._hosts, self._say = ASGIWrapper(app), http, hosts, say  # type: ignore[arg-type]
        self._asgi_app, self._sizes = app, AnswerSizes()
        self._config, self._context = _hypercorn_config(http), WorkerContext(None)
        self._loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: Waiting[_Connection] = Waiting()
        self._newcomers: Newcomers[_Connection] = Newcomers(self._seat)
        self.entered: Callable[[asyncio.BaseProtocol], object] = lambda protocol: None

    def protocol(self, client: str = "") -> asyncio.StreamReaderProtocol:
        """The protocol of a new connection."""
        return self._protocol(_Reader(limit=MAX_RECV, loop=self._loop))

    def take_over(self, transport: asyncio.Transport, unread: bytes, eof: bool, is_new: bool) -> None:
        """Go on with a connection that another protocol has begun: `unread` is what it did not answer,
        `is_new` whether it answered nothing."""
        reader = _Reader(limit=MAX_RECV, loop=self._loop)
        protocol = self._protocol(reader, is_new)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        reader.feed_data(unread)
        if eof:
            reader.feed_eof()

    async def ended(self) -> None:
        """Wait until no connection is open."""
        while self._connections:
            await asyncio.wait(self._connections)

    async def close_idle(self) -> None:
        """Close idle connections, and the others when their requests are answered."""
        await self._context.terminated.set()

    async def abort(self) -> None:
        """Cut off what is left."""
        left = list(self._connections)
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def longest(self) -> tuple[int, float] | None:
        while (longest := self._waiting.longest()) is not None and longest[2].is_busy:
            self._waiting.remove(longest[2])
        return None if longest is None else longest[:2]

    def close_longest(self) -> None:
        if (longest := self._waiting.longest()) is not None:
            self._waiting.remove(longest[2])
            longest[2].make_room()

    def _protocol(self, reader: _Reader, is_new: bool = True) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(reader, partial(self._serve, is_new), self._loop)

    def _serve(self, is_new: bool, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(
            self._app, self._loop, self._config, self._context, LifespanState({}), reader, writer
        )
        connection.http, connection.asgi_app, connection.sizes = self._http, self._asgi_app, self._sizes
        connection.hosts, connection.say, connection.is_new = self._hosts, self._say, is_new
        connection.waiting = self._waiting
        self._newcomers.add(connection)
        task = self._loop.create_task(connection.run_logged())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self.entered(writer.transport.get_protocol())

    def _seat(self, connection: _Connection) -> None:
        if not connection.writer.is_closing():
            connection.wait()


def _hypercorn_config(http: HttpConfig) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.include_server_header = False
    config.keep_alive_timeout = http.keep_alive_ms / 1000
    config.keep_alive_max_requests = 1 << 62
    config.h11_max_incomplete_size = http.head_bytes_max + HEAD_ROOM_BYTES
    return config


class _Reader(asyncio.StreamReader):
    @property
    def has_unread(self) -> bool:
        return bool(self._buffer)  # type: ignore[attr-defined]


class _Connection(TCPServer):
    reader: _Reader
    http: HttpConfig
    asgi_app: AsgiApp
    sizes: AnswerSizes
    hosts: Hosts
    say: Saying
    is_new: bool  # nothing of it was answered yet
    waiting: Waiting[_Connection]  # those that have nothing to answer
    _http2: Http2 | None = None
    _watch: SendWatch | None = None
    _senders = 0  # of them that wait; several with HTTP/2
    _head_timer: asyncio.TimerHandle | None = None
    _between_requests = True

    async def run_logged(self) -> None:
        try:
            await self.run()
        except Exception:
            _log.exception("A connection failed")
        finally:
            self._disarm()
            self.waiting.remove(self)

    @property
    def has_unread(self) -> bool:
        return self.reader.has_unread or has_unread(self.writer.transport)

    @property
    def is_busy(self) -> bool:
        return not (self._between_requests or self._has_part_of_body())

    def make_room(self) -> None:
        """Close for another connection's sake: whose body arrives is told, in HTTP/1."""
        protocol = self.protocol.protocol
        if isinstance(protocol, Http1) and protocol.awaits_body:
            self.writer.write(protocol.last_words(made_room()))
        self.writer.close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            return await self._send(event)
        if isinstance(event, Updated):
            self._between_requests = event.idle
            self._disarm()
            self.wait()
            if event.idle and self.reader.at_eof():
                return  # its client sends no more: waiting for the next request would only keep it open
            if event.idle and self._has_part_of_head():
                self._arm()
        await super().protocol_send(event)

    async def _send(self, event: RawData) -> None:
        try:
            await self._watched(super().protocol_send(event), len(event.data))
        except OSError:  # Hypercorn knows some of the forms in which a client that left is told
            await self.protocol.handle(Closed())

    async def _watched(self, sending: Coroutine[Any, Any, None], size: int = 0) -> None:
        """Wait for what sends `size` bytes, as long as the client takes anything."""
        if self._watch is None:
            self._watch = SendWatch(self.writer.transport, self.http.send_timeout_ms, self.loop)
        self._watch.written_bytes += size
        self._senders += 1
        try:
            await sending
        finally:
            self._senders -= 1
            if not self._senders:
                self._watch.stop()
                self._watch = None

    async def _close(self) -> None:
        with suppress(OSError):  # its client left before: a reset is ENOTCONN, too, where one shuts down
            await self._watched(super()._close())

    async def _read_data(self) -> None:
        head_bytes_max = self.http.head_bytes_max + HEAD_ROOM_BYTES
        gate = Gate(head_bytes_max, self.http.body_bytes_max, self.hosts, is_new=self.is_new)
        self.protocol.protocol = Http1(self.protocol, gate, self._hang_up, self.say, h2=self.http.h2)
        data = None
        while data != b"":
            try:
                data = await self.reader.read(MAX_RECV if self._http2 is None else FRAMES_BYTES_MAX)
            except OSError:
                break
            if data and self._between_requests:
                self._arm()
            try:
                await self.protocol.handle(RawData(data))
            except Preface as preface:
                if not self.http.h2:
                    await self.protocol_send(RawData(OFF))
                    await self._hang_up()
                    break
                await self._speak_http_2(preface.data)
            if self._http2 is None:
                self.wait()
            else:
                await asyncio.sleep(0)  # others have their turn, however many frames are there already
        await self.idle_task.stop()
        await self.protocol.handle(Closed())

    async def _speak_http_2(self, data: bytes) -> None:
        addresses = self.protocol.client, self.protocol.server
        self._http2 = Http2(
            self.asgi_app,
            self.http,
            self.config,
            self.context,
            self._task_group,
            addresses,
            self.protocol_send,
            self._hang_up,
            self.sizes,
            self.hosts,
        )
        self.protocol.protocol = self._http2  # type: ignore[assignment]
        await self._http2.initiate()
        await self._http2.handle(RawData(data))

    async def _hang_up(self) -> None:
        """Close, once the client had a moment to read what was sent last: to close while it sends would reset
        the connection."""
        with suppress(OSError, RuntimeError):
            self.writer.write_eof()
        size = 0
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(LINGER_MS / 1000):
                while size < LINGER_BYTES_MAX and (data := await self.reader.read(MAX_RECV)):
                    size += len(data)
        await self._close()

    def wait(self) -> None:
        """Say what it waits for."""
        if self._between_requests:
            self.waiting.put(self, HEAD if self._has_part_of_head() else IDLE)
        elif self._has_part_of_body():
            self.waiting.put(self, BODY)
        else:
            self.waiting.remove(self)

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.http.head_timeout_ms / 1000, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not (self._between_requests and self._has_part_of_head()):
            return
        self.writer.write(last_words(head_too_slow(self.http.head_timeout_ms), say=self.say))
        self.writer.close()

    def _has_part_of_head(self) -> bool:
        """Whether the beginning of an HTTP/1 request waits for the rest. HTTP/2 frames (PING) are no head."""
        protocol = self.protocol.protocol
        return isinstance(protocol, Http1) and protocol.gate.begun

    def _has_part_of_body(self) -> bool:
        if self._http2 is not None:
            return self._http2.awaits_bodies
        protocol = self.protocol.protocol
        return isinstance(protocol, Http1) and protocol.awaits_body
