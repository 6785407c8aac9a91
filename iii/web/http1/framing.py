"""A request's body as its framing tells (RFC 9112 §6): of a known length, or in chunks. Sans-I/O.

Both are fed until `done`; `body` is the body then, `rest` what came after it, and `size` at any time the
bytes the body is known to have. Strict with chunks: a size is 1 to 20 hexadecimal digits, lines end with
CRLF, nothing stands between a chunk and its CRLF. Extensions and trailers are checked, and dropped.
"""

from __future__ import annotations

import re

__all__ = ["BadChunk", "Chunked", "Sized"]

LINE_BYTES_MAX = 4096
TRAILER_BYTES_MAX = 16 << 10
EXCESS_BYTES_MAX = 16 << 10
"""So much more may be sent to frame the chunks than is in them: each costs about the same, however small."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\x00-\x08\x0a-\x1f\x7f]*+)?[ \t]*+\r\n")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n")

_AT_SIZE, _IN_DATA, _AT_END_OF_DATA, _IN_TRAILER, _DONE = range(5)


class BadChunk(ValueError):
    """The framing is malformed: where the next request begins is not known."""


class Sized:
    """A body of `size` bytes, at least 1."""

    __slots__ = ("_missing", "_parts", "rest", "size")

    def __init__(self, size: int) -> None:
        self.size = self._missing = size
        self._parts: list[bytes] = []
        self.rest = b""

    @property
    def done(self) -> bool:
        return not self._missing

    @property
    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def feed(self, data: bytes) -> None:
        part, self.rest = data[: self._missing], data[self._missing :]
        self._parts.append(part)
        self._missing -= len(part)


class Chunked:
    """A body in chunks; the size of one counts from its beginning."""

    __slots__ = ("_excess_bytes", "_missing", "_parts", "_state", "_trailer_bytes", "rest", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._state, self._missing, self._trailer_bytes, self._excess_bytes = _AT_SIZE, 0, 0, 0
        self.size = 0
        self.rest = b""

    @property
    def done(self) -> bool:
        return self._state == _DONE

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def take(self) -> bytes:
        """What came of the body since the last call; it is no part of `body` then."""
        parts, self._parts = self._parts, []
        return b"".join(parts)

    def feed(self, data: bytes) -> None:
        """BadChunk, after which nothing more may be fed."""
        data, at = self.rest + data, 0
        while self._state != _DONE:
            if self._state == _IN_DATA:
                part = data[at : at + self._missing]
                self._parts.append(part)
                self._missing -= len(part)
                end = at + len(part)
                if not self._missing:
                    self._state = _AT_END_OF_DATA
            else:
                end = self._chunk(data, at) if self._state == _AT_SIZE else at
                end = self._line(data, at) if end == at else end
            if end == at:
                break
            at = end
        self.rest = data[at:]

    def _chunk(self, data: bytes, at: int) -> int:
        """Read the chunk at `at` in one step; where it ends, or `at` where it is not as most are."""
        match = _SIZE.match(data, at)
        if match is None or match.end() - at > LINE_BYTES_MAX:
            return at
        begin = match.end()
        end = begin + int(match[1], 16)
        if end == begin or data[end : end + 2] != b"\r\n":
            return at
        self._parts.append(data[begin:end])
        self.size += end - begin
        self._weigh(begin - at, end - begin)
        return end + 2

    def _line(self, data: bytes, at: int) -> int:
        """Read the line at `at`; where it ends, or `at` where it is not whole yet."""
        end = data.find(b"\r\n", at) + 2
        if self._state == _AT_END_OF_DATA and not b"\r\n".startswith(data[at : at + 2]):
            raise BadChunk("a chunk does not end where its size says")
        if (len(data) if end < 2 else end) - at > LINE_BYTES_MAX:
            raise BadChunk("a line of the chunked body is too long")
        if end < 2:
            return at
        if self._state == _AT_END_OF_DATA:
            self._state = _AT_SIZE
        elif self._state == _AT_SIZE:
            self._begin_chunk(data[at:end])
        else:
            self._read_trailer(data[at:end])
        return end

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadChunk("a chunk has no valid size")
        self._missing = int(match[1], 16)
        self.size += self._missing
        self._weigh(len(line), self._missing)
        self._state = _IN_DATA if self._missing else _IN_TRAILER

    def _weigh(self, line_bytes: int, chunk_bytes: int) -> None:
        self._excess_bytes = max(0, self._excess_bytes + line_bytes + 2 - chunk_bytes)
        if self._excess_bytes > EXCESS_BYTES_MAX:
            raise BadChunk("the chunks are too small for so many of them, or their extensions too long")

    def _read_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if line == b"\r\n":
            self._state = _DONE
        elif _FIELD.fullmatch(line) is None or self._trailer_bytes > TRAILER_BYTES_MAX:
            raise BadChunk("a trailer is malformed or too long")
