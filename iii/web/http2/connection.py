"""One HTTP/2 connection: flow control is back-pressure, and what it holds is bounded.

held        what the handlers that run were given or are expected to give (sizes.py), and the answers that the
            client has not taken whole
waiting     requests that arrived while HELD_BYTES_MAX were held: their handlers have not begun

A streamed body is not asked for its next chunk while HELD_BYTES_MAX of such chunks wait, and an upload's
window is not opened (but the oldest one's, so that one always ends) while HELD_BYTES_MAX are held. Priorities
are ignored (RFC 9113 §5.3): streams take turns, a frame each.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import TaskGroup, WorkerContext

from iii.config import HttpConfig
from iii.web.asgi import AsgiApp, Receive, Scope, Send
from iii.web.hosts import Hosts
from iii.web.http2.frames import UNACKNOWLEDGED_BYTES_MAX, Frames
from iii.web.http2.progress import Progress
from iii.web.http2.request import Address, declared_bytes, scope_of
from iii.web.http2.sizes import AnswerSizes
from iii.web.http2.stream import Gone, Http2Stream
from iii.web.refused import Refused
from iii.web.response import Answer, RawHeaders, failure

__all__ = ["Http2"]

HELD_BYTES_MAX = 1 << 20
SHARE_BYTES_MAX = 512 << 10

_log = logging.getLogger("iii.http")


class Http2:
    """`send` writes and waits until the transport has room; `hang_up` ends the connection once the client had
    a moment to read why."""

    def __init__(
        self,
        app: AsgiApp,
        http: HttpConfig,
        config: Config,
        context: WorkerContext,
        tasks: TaskGroup,
        addresses: tuple[Address, Address],
        send: Callable[[Event], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        sizes: AnswerSizes,
        hosts: Hosts,
    ) -> None:
        self._app, self._config, self._context = app, config, context
        self._tasks, self._addresses, self._send, self._hang_up = tasks, addresses, send, hang_up
        self._sizes, self._hosts, self._frames = sizes, hosts, Frames(http.head_bytes_max)
        self._streams: dict[int, Http2Stream] = {}
        self._waiting: deque[Http2Stream] = deque()
        self._running: dict[Http2Stream, None] = {}  # in the order in which they began
        self._unsent: dict[int, Http2Stream] = {}
        self._progress = Progress(http.send_timeout_ms / 1000, self._frames)
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._begins = self._closed = False
        self._is_idle, self.awaits_bodies = True, False

    async def initiate(self) -> None:
        self._frames.begin()
        await self._flush()
        self._tasks.spawn(self._send_all)

    async def handle(self, event: Event) -> None:
        if isinstance(event, Closed):
            self._close()
        elif isinstance(event, RawData) and not self._closed:
            try:
                for each in self._frames.received(event.data):
                    await self._received(each)
                self._frames.acknowledge()
            except ProtocolError:
                self._close()
                await self._send(RawData(self._frames.last_words()))
                await self._hang_up()
            else:
                await self._tell()
                await self._flush()

    # --------------------------------------------------------------------------------- what is received

    async def _received(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._requested(event.stream_id, list(event.headers))
            case h2.events.DataReceived():
                self._arrived(event)
            case h2.events.StreamEnded():
                self._request_ended(event.stream_id)
            case h2.events.StreamReset():
                self._forget(event.stream_id)
            case h2.events.WindowUpdated():
                self._wake.set()
            case h2.events.RemoteSettingsChanged():
                self._frames.bound_settings(event.changed_settings)
                self._wake.set()
            case h2.events.ConnectionTerminated():
                await self._send(Closed())

    def _requested(self, id: int, headers: RawHeaders) -> None:
        if self._context.terminated.is_set():
            return self._frames.reset(id, ErrorCodes.REFUSED_STREAM)
        try:
            scope, app = scope_of(headers, self._hosts, *self._addresses), self._app
        except Refused as refused:
            scope, app = _scope_of_nothing(), partial(_refuse, failure(refused.status, refused.message))
        stream = Http2Stream(id, scope, app, self, declared_bytes=declared_bytes(headers))
        if sum(each.head_bytes for each in self._waiting) + stream.head_bytes > HELD_BYTES_MAX:
            return self._frames.reset(id, ErrorCodes.REFUSED_STREAM)
        self._streams[id] = stream
        self._waiting.append(stream)
        self._go_on()

    def _arrived(self, event: h2.events.DataReceived) -> None:
        self._frames.unacknowledged_bytes += event.flow_controlled_length
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.unacknowledged_bytes += event.flow_controlled_length
            declared_bytes = stream.declared_bytes
            if declared_bytes is not None and stream.received_bytes + len(event.data) > declared_bytes:
                self._refuse_length(stream, "more")
            elif event.data:
                stream.arrived(event.data)

    def _request_ended(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        if stream.declared_bytes in (None, stream.received_bytes):
            stream.request_ended()
        else:
            self._refuse_length(stream, str(stream.received_bytes))

    def _refuse_length(self, stream: Http2Stream, body_bytes: str) -> None:
        """RFC 9113 §8.1.1: answered, and reset. Its handler, if it began, gets no more; what still arrives is
        thrown away."""
        id = stream.id
        self._forget(id)
        if stream.answered:
            return self._frames.reset(id, ErrorCodes.PROTOCOL_ERROR)
        message = f"content-length is {stream.declared_bytes}, the body has {body_bytes} bytes"
        refused = Http2Stream(id, stream.scope, partial(_refuse_and_break, failure(400, message)), self)
        refused.broken_code = ErrorCodes.PROTOCOL_ERROR
        refused.request_ended()
        self._streams[id] = refused
        self._waiting.append(refused)
        self._go_on()

    # ------------------------------------------------------------------------ what handlers are held to

    def _held_bytes(self) -> int:
        """What is too large for its share counts as one: one large download does not keep the connection's
        other requests waiting."""
        answered = sum(min(SHARE_BYTES_MAX, each.offered_bytes) for each in self._unsent.values())
        return answered + sum(map(self._asked_bytes, self._running))

    def _asked_bytes(self, stream: Http2Stream) -> int:
        return min(SHARE_BYTES_MAX, max(self._sizes.expected(stream.path), stream.request_bytes))

    def _streamed_bytes(self) -> int:
        return sum(each.offered_bytes for each in self._unsent.values() if not each.ending)

    def _go_on(self) -> None:
        """Let what waits for room have it."""
        held_bytes = self._held_bytes()
        room_bytes = HELD_BYTES_MAX - held_bytes
        if self._waiting and not self._begins and self._asked_bytes(self._waiting[0]) <= room_bytes:
            self._begin(self._waiting.popleft())
        if self._streamed_bytes() < HELD_BYTES_MAX:
            self._room.set()
        oldest = True
        for stream in self._running:
            if stream.waits_for_body and (oldest or held_bytes < HELD_BYTES_MAX):
                self._open_window(stream)
                oldest = False

    def _begin(self, stream: Http2Stream) -> None:
        """The next one begins a turn later: what answers at once has answered then, and counts."""
        self._begins = True
        self._running[stream] = None
        self._tasks.spawn(self._serve, stream)
        asyncio.get_running_loop().call_soon(self._begun)

    def _begun(self) -> None:
        self._begins = False
        self._go_on()

    async def _serve(self, stream: Http2Stream) -> None:
        try:
            if not stream.gone:
                await stream.run()
        except Gone:
            pass
        except asyncio.CancelledError:  # the drain's time is over: nobody is told of anything any more
            self._close()
            raise
        except Exception:
            _log.exception("Error in an application")
        finally:
            self._running.pop(stream, None)
            await self._end_broken(stream)
            self._go_on()

    async def _end_broken(self, stream: Http2Stream) -> None:
        """Reset a stream whose application ended before its answer did: its client would wait on."""
        if not stream.gone:
            self._frames.reset(stream.id, stream.broken_code)
            self._forget(stream.id)
        if not self._closed:
            await self._flush()
            await self._tell()

    async def _tell(self) -> None:
        """Tell the connection when it begins or ends to be idle, or to wait for bodies alone."""
        waits = not self._streams, self._awaits_bodies()
        if waits == (self._is_idle, self.awaits_bodies):
            return
        self._is_idle, self.awaits_bodies = waits
        if self._is_idle and self._context.terminated.is_set():
            self._frames.go_away(ErrorCodes.NO_ERROR)
            await self._flush()
        await self._send(Updated(idle=self._is_idle))

    def _awaits_bodies(self) -> bool:
        """Whether there are requests, and none of them is whole or answered."""
        return bool(self._streams) and not any(
            each.complete or each.answered for each in self._streams.values()
        )

    async def room(self, stream: Http2Stream) -> None:
        while not stream.gone and self._streamed_bytes() >= HELD_BYTES_MAX:
            self._room.clear()
            await self._room.wait()

    def consumed(self, stream: Http2Stream) -> None:
        if stream.waits_for_body:
            self._go_on()

    def _open_window(self, stream: Http2Stream) -> None:
        if stream.unacknowledged_bytes >= UNACKNOWLEDGED_BYTES_MAX:
            self._frames.open_window(stream.id, stream.unacknowledged_bytes)
            stream.unacknowledged_bytes = 0
            self._wake.set()  # to be flushed

    # -------------------------------------------------------------------------------------- what is sent

    async def send_head(self, stream: Http2Stream, status: int, headers: RawHeaders, *, ends: bool) -> None:
        stream.answered = True
        self._running.pop(stream, None)
        ours = self._config.response_headers("h2")
        try:
            self._frames.send_head(stream.id, [(b":status", b"%d" % status), *headers, *ours], ends=ends)
        except ProtocolError as error:
            self._forget(stream.id)
            raise Gone from error
        if ends:
            self._answered(stream)
        await self._flush()

    def offer(self, stream: Http2Stream) -> None:
        self._sizes.gave(stream.path, stream.offered_bytes)
        self._unsent[stream.id] = stream
        self._progress.waits(stream, self._wake)
        self._wake.set()

    async def end(self, stream: Http2Stream) -> None:
        with suppress(ProtocolError):
            self._frames.send_data(stream.id, b"", ends=True)
        self._answered(stream)
        await self._flush()

    def _answered(self, stream: Http2Stream) -> None:
        """All of it was sent. A request that still arrives is of no use."""
        stream.ended = True
        if not stream.complete:
            self._frames.reset(stream.id, ErrorCodes.NO_ERROR)
        self._forget(stream.id)

    async def _send_all(self) -> None:
        """A frame of each stream in turn, as long as their clients take them."""
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()
            while await self._send_round():
                await asyncio.sleep(0)

    async def _send_round(self) -> bool:
        sent = False
        for stream in list(self._unsent.values()):
            if self._send_frame(stream):
                sent = True
                self._go_on()
                await self._flush()
        if self._progress.is_due:
            await self._look()
        return sent and not self._closed

    def _send_frame(self, stream: Http2Stream) -> bool:
        if stream.id not in self._unsent:  # reset meanwhile
            return False
        try:
            size = min(self._frames.window(stream.id), len(stream.unsent))
            if size <= 0:
                return False
            ends = stream.ending and size == len(stream.unsent)
            self._frames.send_data(stream.id, bytes(stream.unsent[:size]), ends=ends)
        except ProtocolError:
            self._forget(stream.id)
            return False
        stream.took(size)
        self._progress.moved(stream, size)
        del self._unsent[stream.id]
        if stream.unsent:
            self._unsent[stream.id] = stream  # behind the others
        elif ends:
            self._answered(stream)
        return True

    async def _look(self) -> None:
        """Reset the streams whose clients take nothing; where the whole connection takes nothing, end it."""
        stuck = self._progress.stuck(self._unsent.values())
        if stuck is None:
            self._frames.go_away(ErrorCodes.ENHANCE_YOUR_CALM, b"nothing was taken of the answers")
            self._close()
            await self._flush()
            return await self._send(Closed())
        for stream in stuck:
            self._frames.reset(stream.id, ErrorCodes.CANCEL)
            self._forget(stream.id)
        self._progress.go_on(self._wake, waiting=bool(self._unsent))
        await self._flush()
        await self._tell()

    # ------------------------------------------------------------------------------------------ the end

    def _forget(self, id: int) -> None:
        """What it holds goes; its application is told. One whose handler has not begun never begins."""
        stream = self._streams.pop(id, None)
        self._unsent.pop(id, None)
        if stream is None:
            return
        stream.leave()
        with suppress(ValueError):
            self._waiting.remove(stream)
        self._room.set()
        self._wake.set()

    def _close(self) -> None:
        self._closed = True
        self._progress.stop()
        for id in list(self._streams):
            self._forget(id)
        self._wake.set()

    async def _flush(self) -> None:
        if data := self._frames.to_send():
            await self._send(RawData(data=data))


def _scope_of_nothing() -> Scope:
    return {"type": "http", "method": "GET", "path": "", "headers": []}


async def _refuse_and_break(sent: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": sent.status, "headers": sent.headers})
    await send({"type": "http.response.body", "body": sent.body, "more_body": True})
    raise Gone


async def _refuse(sent: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": sent.status, "headers": sent.headers})
    await send({"type": "http.response.body", "body": sent.body})
