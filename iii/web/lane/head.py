"""A request's head, from bytes to a Head. Pure: knows no connection and no route.

The grammar is the part of RFC 9112 that no two servers read differently; `parse` answers None to all else,
be it wrong, old (line folding, bare LF), ambiguous (two lengths, a length beside a transfer coding) or more
than a plain request (an upgrade, Expect, CONNECT, a target that is no path). Hypercorn judges these.
"""

from __future__ import annotations

import re

__all__ = ["CHUNKED", "FIELD_LINE", "Head", "Parser", "parse", "will_never_do"]

CHUNKED = -1
"""Head.length of a body that comes in chunks."""

LENGTH_DIGITS_MAX = 20
KNOWN_MAX = 512
KNOWN_BYTES_MAX = 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]*+"
FIELD_LINE = _TOKEN + rb":" + _VALUE + rb"\r\n"
_HEAD = re.compile(
    rb"([A-Z]++) (/[\x21-\x7e]*+) HTTP/1\.([01])\r\n((?>" + FIELD_LINE + rb")*+)\r\n", re.DOTALL
)
_DECISIVE = frozenset((b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"))
_ONCE = (b"host", *_DECISIVE)
_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization"))


class Head:
    """What a request says before its body. Not to be changed: requests share it.

    path: percent-encoded, query: as sent. headers: names in lower case; fields: the last of each name.
    length: bytes of the body, or CHUNKED. minor: of HTTP/1.minor.
    """

    __slots__ = ("fields", "headers", "keeps_alive", "length", "method", "minor", "path", "query")

    def __init__(
        self, method: str, path: str, query: bytes, minor: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.method, self.path, self.query, self.minor, self.headers = method, path, query, minor, headers
        self.fields = dict(headers)
        self.length = 0
        self.keeps_alive = minor == 1


def parse(raw: bytes) -> Head | None:
    """The head that `raw` is, its last blank line included; None where the lane does not answer it."""
    match = _HEAD.fullmatch(raw)
    if match is None:
        return None
    method, target, minor, block = match.groups()
    headers = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip()))
    path, _, query = target.partition(b"?")
    head = Head(method.decode(), path.decode(), query, 1 if minor == b"1" else 0, headers)
    fields = head.fields
    if len(fields) != len(headers) and _repeats(headers):
        return None
    if (b"host" not in fields and head.minor) or method == b"CONNECT":
        return None
    return head if _DECISIVE.isdisjoint(fields) else _framed(head)


class Parser:
    """`parse` with a memory: a client says most of its heads again and again, byte by byte. Heads with
    secrets, and long ones, are not remembered. `whole(data)`: the head of the one request without a body that
    `data` is, if it is remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self._bodiless: dict[bytes, Head] = {}
        self.whole = self._bodiless.get

    def parse(self, raw: bytes) -> Head | None:
        head = self._known.get(raw)
        if head is None:
            head = parse(raw)
            if head is not None and len(raw) <= KNOWN_BYTES_MAX and _SECRET.isdisjoint(head.fields):
                if len(self._known) >= KNOWN_MAX:
                    self._known.clear()
                    self._bodiless.clear()
                self._known[raw] = head
                if not head.length:
                    self._bodiless[raw] = head
        return head


def will_never_do(begun: bytes | bytearray) -> bool:
    """Whether `parse` answers None to the head that begins so, however it goes on."""
    return not 65 <= begun[0] <= 90 or begun.count(b"\n") != begun.count(b"\r\n")


def _framed(head: Head) -> Head | None:
    """`head` with the length of its body and what becomes of the connection; None where in doubt."""
    fields = head.fields
    if b"upgrade" in fields or b"expect" in fields:
        return None
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        if coding != b"chunked" or length is not None or not head.minor:
            return None
        head.length = CHUNKED
    elif length is not None:
        if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
            return None
        head.length = int(length)
    options = fields.get(b"connection", b"keep-alive").lower()
    if options != b"keep-alive" and b"close" in [option.strip() for option in options.split(b",")]:
        head.keeps_alive = False
    return head


def _repeats(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a header that may come once came twice."""
    names = [name for name, _ in headers]
    return any(names.count(name) > 1 for name in _ONCE)
