"""Answers as bytes: status line, Date, headers, framing. Pure but for the clock behind Date."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

from iii.web.response import NO_BODY, Answer
from iii_core.http1 import join_answer

__all__ = ["END_OF_CHUNKS", "Heads", "chunk"]

END_OF_CHUNKS = b"0\r\n\r\n"


class Heads:
    """Makes heads; what is the same in all of a second is made once in it."""

    def __init__(self) -> None:
        self._second = 0
        self._starts: dict[int, bytes] = {}

    def whole(self, sent: Answer, body: bytes, closes: bool) -> bytes:
        """An answer with `body`. closes: no further answer comes."""
        status = sent.status
        if int(time.time()) != self._second or (start := self._starts.get(status)) is None:
            start = self._start(status)
        return join_answer(start, sent.headers, body, closes)

    def head(self, sent: Answer, *, closes: bool, chunked: bool = False) -> bytes:
        """Status line and headers alone. chunked: the body is framed in chunks."""
        head = Answer(sent.status, sent.headers)
        if chunked:
            head.headers = [*sent.headers, (b"transfer-encoding", b"chunked")]
        return self.whole(head, b"", closes)

    def _start(self, status: int) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._starts = second, {}
        date = formatdate(second, usegmt=True)
        start = f"HTTP/1.1 {status} {_reason(status)}\r\ndate: {date}\r\n".encode()
        self._starts[status] = start
        return start


def chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def has_no_length(sent: Answer) -> bool:
    """Whether a GET would be answered in chunks: what HEAD tells of it."""
    return sent.status not in NO_BODY and not sent.header(b"content-length")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
