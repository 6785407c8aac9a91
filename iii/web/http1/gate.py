"""The gate before Hypercorn's HTTP/1: takes the bytes of a connection apart, and lets through what is read
alike by everybody. Sans-I/O.

    HEAD -> SIZED | CHUNKED -> HEAD …      -> OVER behind the last request, and where one is refused

Heads and bodies of known length go through as they came; chunks are made anew, without extensions and
trailers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from iii.web.hosts import Hosts
from iii.web.http1.framing import BadChunk, Chunked
from iii.web.http1.grammar import CHUNKED, check_head, check_line
from iii.web.http2.preface import LINE, Preface
from iii.web.refused import Refused, body_too_large

__all__ = ["Gate"]

_BARE_LF = re.compile(rb"(?:\A|[^\r])\n")


class Gate:
    """begun: of a head that is not whole yet. is_new: no head was read yet. first_line: of the head that was
    refused, as far as it is there; method: of the request that is read, or that was refused. stopper: what no
    parser of HTTP/1 takes in place of what was refused; b"" where it ended too soon."""

    def __init__(
        self, head_bytes_max: int, body_bytes_max: int, hosts: Hosts, *, is_new: bool = True
    ) -> None:
        self._head_bytes_max, self._body_bytes_max, self._hosts = head_bytes_max, body_bytes_max, hosts
        self._unread = bytearray()
        self._searched = 0  # bytes of it in which no head ends
        self._has_line = False
        self._missing = 0  # of a body of known length
        self._chunks: Chunked | None = None
        self._is_last = self._is_over = False
        self.is_new = is_new
        self.method = self.first_line = b""
        self.stopper = b"\0"

    @property
    def begun(self) -> bool:
        return bool(self._unread) and not (self._missing or self._chunks or self._is_over)

    @property
    def has_part_of_body(self) -> bool:
        return (self._missing > 0 or self._chunks is not None) and not self._is_over

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What may go on, part by part: each is to be handed on before the next is asked for.

        Refused: what comes next may not, nor anything behind it. Preface: this is HTTP/2."""
        if not self._is_over:
            self._unread += data
        while part := self._next():
            yield part

    def end(self) -> None:
        """No more comes. Refused: in the middle of a request."""
        part = "head" if self.begun else "body" if self._missing or self._chunks is not None else ""
        self._stop()
        if part == "body":
            self.stopper = b""
        if self._missing > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        if part:
            raise Refused(400, f"the request ends before its {part} does")

    def _next(self) -> bytes:
        if self._is_over or not self._unread:
            return b""
        if self._missing:
            return self._take_sized()
        try:
            return self._take_chunks() if self._chunks is not None else self._take_head()
        except Refused:
            self._stop()
            raise

    def _stop(self) -> None:
        if self._chunks is not None:
            self.stopper = b"-\r\n"
        self.first_line = bytes(self._unread.partition(b"\n")[0])
        self._is_over = True
        self._unread.clear()

    def _take_head(self) -> bytes:
        unread = self._unread
        if not 0x21 <= unread[0] <= 0x7E:
            raise Refused(400, "a request begins with its method")
        if not self._has_line and (end := unread.find(b"\n")) >= 0:
            self._take_line(bytes(unread[: end + 1]))
        end = unread.find(b"\r\n\r\n", max(0, self._searched - 3)) + 4
        bare = _BARE_LF.search(unread, max(0, self._searched - 1), end if end >= 4 else len(unread))
        if bare is not None:
            raise Refused(400, "lines end with CR and LF, not with LF alone")
        if max(end, 0 if end >= 4 else len(unread)) > self._head_bytes_max:
            raise Refused(431, f"the request head has more than {self._head_bytes_max} bytes")
        if end < 4:
            self._searched = len(unread)
            return b""
        head = bytes(unread[:end])
        framing = check_head(head, self._hosts)
        del unread[:end]
        self._searched, self._has_line = 0, False
        self.is_new = False
        self._is_last = framing.is_last
        self._missing, self._chunks = framing.length, None
        if framing.length == CHUNKED:
            self._missing, self._chunks = 0, Chunked()
        elif not framing.length:
            self._behind_body()
        return head

    def _take_line(self, line: bytes) -> None:
        if line == LINE and self.is_new:
            data = bytes(self._unread)
            self._stop()
            raise Preface(data)
        self.method = line.partition(b" ")[0]
        if line.endswith(b"\r\n"):
            check_line(line[:-2])
        self._has_line = True

    def _take_sized(self) -> bytes:
        part = bytes(self._unread[: self._missing])
        del self._unread[: len(part)]
        self._missing -= len(part)
        if not self._missing:
            self._behind_body()
        return part

    def _take_chunks(self) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        data = bytes(self._unread)
        self._unread.clear()
        try:
            chunks.feed(data)
        except BadChunk as error:
            raise Refused(400, str(error)) from None
        if chunks.size > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        arrived = chunks.take()
        made = b"%x\r\n%b\r\n" % (len(arrived), arrived) if arrived else b""
        if not chunks.done:
            return made
        self._unread += chunks.rest
        self._chunks = None
        self._behind_body()
        return made + b"0\r\n\r\n"

    def _behind_body(self) -> None:
        if self._is_last:
            self._stop()
