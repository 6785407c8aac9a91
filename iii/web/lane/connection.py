"""One connection of the lane: bytes in, requests in their order, bytes out.

    HEAD -> BODY -> ANSWERING -> HEAD …    one request at a time; what a client pipelines waits in `_unread`
    any -> LINGERING -> OVER               what a refused client still sends is thrown away, for a while
    any -> OVER                            closed, lost, or handed over to Hypercorn

Owns these phases, the back-pressure both ways and the connection's timers. What all connections share is
lane.py's, what a request means the endpoint's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, cast

from iii.web import crowd
from iii.web.http1.framing import BadChunk, Chunked, Sized
from iii.web.lane.answers import END_OF_CHUNKS, chunk, has_no_length
from iii.web.lane.head import CHUNKED, Head, will_never_do
from iii.web.lane.outgoing import BYTES_MAX
from iii.web.refused import Refused, body_too_large, body_too_slow, head_too_slow, made_room
from iii.web.request import Request
from iii.web.response import Answer, failure
from iii.web.sending import LINGER_BYTES_MAX, LINGER_MS, SendWatch, send_stream
from iii.web.stream import Stream

if TYPE_CHECKING:
    from iii.web.lane.lane import Lane

__all__ = ["Connection"]

READ_AHEAD_BYTES_MAX = 64 << 10  # of pipelined requests, while one is being answered
TURN_REQUESTS_MAX = 64  # answered at once for one connection, before others have their turn
QUICK_S = 0.0002  # an answer that took longer goes at once: others may take as long

HEAD, BODY, ANSWERING, LINGERING, OVER = range(5)

_log = logging.getLogger("iii.http")


class Connection(asyncio.Protocol):
    """`client`: the address of the other end. `rested_s`: since when it is idle (perf_counter)."""

    __slots__ = (
        *("_body", "_client", "_discarded_bytes", "_eof", "_head", "_lane", "_lost", "_phase", "_reads"),
        *("_timer", "_transport", "_unread", "_watch", "_writable", "rested_s"),
    )

    _head: Head  # of the request in BODY and ANSWERING
    _transport: asyncio.Transport
    rested_s: float

    def __init__(self, lane: Lane, client: str) -> None:
        self._lane, self._client = lane, client
        self._phase = HEAD
        self._unread: bytes | bytearray = b""
        self._body: Sized | Chunked | None = None
        self._eof = False
        self._reads = True
        self._timer: asyncio.TimerHandle | None = None
        self._watch: SendWatch | None = None
        self._discarded_bytes = 0
        self._writable: asyncio.Future[None] | None = None  # there while the client takes nothing
        self._lost: asyncio.Future[None] | None = None  # there while a body is streamed

    @property
    def rests(self) -> bool:
        """Whether it waits for a request of which nothing was read."""
        return self._phase == HEAD and self._timer is None

    @property
    def has_unread(self) -> bool:
        return crowd.has_unread(self._transport)

    # ------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._lane.enter(self)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == HEAD:
            is_first = not self._unread and self._writable is None
            if is_first and (head := self._lane.parser.whole(data)) is not None:
                self._head = head
                return self._begin(b"")
            self._unread += data
            self._proceed()
        elif phase == BODY:
            self._read_body(data)
            self._proceed()
        elif phase == ANSWERING:
            self._unread += data
            self._hold_back()
        elif phase == LINGERING:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES_MAX:
                self.close()

    def eof_received(self) -> bool:
        """A client that only closed its half still gets the answers it asked for."""
        self._eof = True
        if self._phase == HEAD:
            self._proceed()
        elif self._phase == BODY:
            self._refuse(Refused(400, "the request ends before its body does"))
        elif self._phase == LINGERING:
            self.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._over()
        self._written()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._lane.leave(self)

    def pause_writing(self) -> None:
        self._writable = self._lane.loop.create_future()
        self._watch_sending()

    def resume_writing(self) -> None:
        self._written()
        self._proceed()

    # --------------------------------------------------------------------------------------- requests

    def _proceed(self) -> None:
        """Answer the requests that are there, up to the first that has to wait."""
        for _ in range(TURN_REQUESTS_MAX):
            if self._phase != HEAD or self._writable is not None:
                return self._hold_back()
            unread = self._unread
            end = unread.find(b"\r\n\r\n") + 4
            if end < 4:
                return self._await_head()
            head = self._lane.parser.parse(bytes(unread[:end]))
            if head is None or end > self._lane.config.head_bytes_max:
                return self._hand_over()
            if self._timer is not None:
                self._disarm()
            self._head, whole = head, end + head.length
            if end <= whole <= len(unread) and head.length <= self._lane.config.body_bytes_max:
                self._unread = bytes(unread[whole:])
                self._begin(bytes(unread[end:whole]))
            else:
                self._unread = bytes(unread[end:])
                self._begin_body(head)
        self._lane.loop.call_soon(self._proceed)

    def _await_head(self) -> None:
        """More has to be read: of a head that has begun, or of one that has not."""
        if not self._reads:
            self._read_on()
        unread = self._unread
        if not unread:
            if self._eof:
                self.close()
            else:
                self._lane.rest(self)
        elif self._eof or len(unread) > self._lane.config.head_bytes_max or will_never_do(unread):
            self._hand_over()
        elif self._timer is None:
            self._unread = bytearray(unread)  # grows in place
            self._arm(self._lane.config.head_timeout_ms, self._head_is_late, crowd.HEAD)

    def _begin_body(self, head: Head) -> None:
        self._body = Chunked() if head.length == CHUNKED else Sized(head.length)
        self._phase = BODY
        arrived, self._unread = bytes(self._unread), b""
        self._read_body(arrived)
        if self._phase == BODY:
            self._read_on()
            self._arm(self._lane.config.timeout_ms, self._body_is_late, crowd.BODY)

    def _read_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        try:
            body.feed(data)
        except BadChunk as error:
            return self._refuse(Refused(400, str(error)))
        if body.size > self._lane.config.body_bytes_max:
            return self._refuse(body_too_large(self._lane.config.body_bytes_max))
        if body.done:
            self._disarm()
            self._body, self._unread = None, body.rest
            self._begin(body.body)

    def _begin(self, body: bytes) -> None:
        """Have the request answered, at once if it can be."""
        self._phase = ANSWERING
        lane, head, self.rested_s = self._lane, self._head, perf_counter()
        request = Request(head.method, head.path, head.query, head.headers, body, self._client, head.fields)
        begun: Answer | asyncio.Task[Answer | None] | None
        try:
            begun = lane.eager.begin(lane.endpoint.begin, request, self._committed)
        except Exception as error:
            begun = _unanswered(error)
        if type(begun) is Answer:
            self._answer(begun, waits=perf_counter() - self.rested_s < QUICK_S)
        elif begun is None:
            lane.expect(self)
        else:
            lane.follow(self, cast("asyncio.Task[Answer]", begun), self._handled)

    def _handled(self, task: asyncio.Task[Answer]) -> None:
        if task.cancelled():
            return self._transport.abort()
        error = task.exception()
        self._go_on(_unanswered(error) if error is not None else task.result())

    def _committed(self, sent: Answer) -> None:
        self._lane.arrived()
        self._go_on(sent)

    def _go_on(self, sent: Answer) -> None:
        self._answer(sent)
        self._proceed()

    # ----------------------------------------------------------------------------------------- answers

    def _answer(self, sent: Answer, *, waits: bool = False) -> None:
        """waits: until what else the loop found has been answered too."""
        head, lane, body = self._head, self._lane, sent.body
        if isinstance(body, Stream):
            return self._stream(sent, body)
        if self._phase == OVER:
            return
        closes = not head.keeps_alive or lane.endpoint.is_drained
        if head.method == "HEAD":
            data = lane.heads.head(sent, closes=closes, chunked=has_no_length(sent))
        else:
            data = lane.heads.whole(sent, body, closes)
        if waits and len(data) <= BYTES_MAX:
            lane.outgoing.add(self._transport, data)
        else:
            self._write_now(data)
        self._phase = HEAD
        if closes:
            self.close()

    def _stream(self, sent: Answer, stream: Stream) -> None:
        lane, chunked = self._lane, self._head.minor == 1
        closes = not self._head.keeps_alive or lane.endpoint.is_drained
        self._lost = lane.loop.create_future()
        if self._phase == OVER:
            self._lost.set_result(None)
        else:
            self._write_now(lane.heads.head(sent, closes=closes, chunked=chunked))
        lane.follow(self, lane.loop.create_task(self._send(stream, chunked, closes)), self._streamed)

    async def _send(self, stream: Stream, chunked: bool, closes: bool) -> bool:
        """Whether the connection may go on."""
        assert self._lost is not None
        drained = self._lane.endpoint.drained
        if not await send_stream(stream, drained, self._write_chunk if chunked else self._write, self._lost):
            if not chunked:  # to end it well would be to say that this was all
                self._transport.abort()
            return False
        if chunked:
            self._transport.write(END_OF_CHUNKS)
        return not closes and not drained.is_set()

    async def _write_chunk(self, data: bytes) -> None:
        await self._write(chunk(data))

    async def _write(self, data: bytes) -> None:
        if self._phase == OVER:
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def _streamed(self, task: asyncio.Task[bool]) -> None:
        self._lost = None
        if task.cancelled() or task.exception() is not None:
            self._transport.abort()
        elif self._phase == ANSWERING:
            self._phase = HEAD
            if task.result():
                self._proceed()
            else:
                self.close()

    def _refuse(self, refused: Refused) -> None:
        """Answer without the endpoint, and close: but not before the client could read why."""
        self._tell_refused(refused)
        self._body, self._unread = None, b""
        if self._eof:
            return self.close()
        self._phase = LINGERING
        self._read_on()
        self._arm(LINGER_MS, self.close)

    def _tell_refused(self, refused: Refused) -> None:
        head = self._head
        request = Request(head.method, head.path, head.query, head.headers, b"", self._client, head.fields)
        self._write_last(self._lane.endpoint.refuse(request, refused), head.method)

    def _write_last(self, sent: Answer, method: str = "") -> None:
        assert isinstance(sent.body, bytes)
        self._write_now(self._lane.heads.head(sent, closes=True))
        if method != "HEAD":
            self._transport.write(sent.body)

    def _write_now(self, data: bytes) -> None:
        """After what still waits to be written."""
        self._lane.outgoing.flush()
        self._transport.write(data)

    # ---------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Send what is written, then close."""
        self._over()
        self._lane.outgoing.flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._watch_sending()

    def make_room(self) -> None:
        """Close for another connection's sake: whose body arrives is told."""
        if self._phase == BODY:
            self._tell_refused(made_room())
        self.close()

    def abort(self) -> None:
        self._transport.abort()

    def _hand_over(self) -> None:
        self._over()
        self._lane.outgoing.flush()
        self._read_on()
        is_new = not hasattr(self, "_head")
        self._lane.hand_over(self, self._transport, bytes(self._unread), eof=self._eof, is_new=is_new)

    def _over(self) -> None:
        self._phase = OVER
        self._disarm()

    # ------------------------------------------------------------------------- limits and back-pressure

    def _hold_back(self) -> None:
        """Read no further while a client sends faster than it is answered."""
        if self._reads and len(self._unread) > READ_AHEAD_BYTES_MAX:
            self._reads = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        """After `_hold_back`."""
        if not self._reads:
            self._reads = True
            self._transport.resume_reading()

    def _arm(self, timeout_ms: int, late: Callable[[], None], waits_for: int | None = None) -> None:
        """One timer at a time: of a head, a body or a refused client. Whoever has one is not idle."""
        self._disarm()
        self._lane.wake(self)
        self._timer = self._lane.loop.call_later(timeout_ms / 1000, late)
        if waits_for is not None:
            self._lane.waiting.put(self, waits_for)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._lane.waiting.remove(self)

    def _head_is_late(self) -> None:
        late = head_too_slow(self._lane.config.head_timeout_ms)
        self._write_last(failure(late.status, late.message))
        self.close()

    def _body_is_late(self) -> None:
        self._refuse(body_too_slow(self._lane.config.timeout_ms))

    def _watch_sending(self) -> None:
        if self._watch is None:
            lane = self._lane
            self._watch = SendWatch(self._transport, lane.config.send_timeout_ms, lane.loop)

    def _written(self) -> None:
        """The client takes something again, or never will."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None


def _unanswered(error: BaseException) -> Answer:
    """An endpoint answers whatever handlers do; this is a defect of ours."""
    _log.error("A request failed", exc_info=error)
    return failure(500, "internal error")
