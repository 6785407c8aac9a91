"""Which heads of HTTP/1 requests are read at all, and why others are not (RFC 9112). Pure.

Refused are old forms (folded lines, bare LF), what is ambiguous (two lengths, a length beside a coding, two
hosts) and what a proxy before us may read otherwise. `iii_core.http1` takes fewer heads, for speed, and none
that is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from iii.web.hosts import Hosts
from iii.web.refused import Refused

__all__ = ["CHUNKED", "Framing", "check_fields", "check_head", "check_line", "check_method", "check_target"]

CHUNKED = -1
LENGTH_DIGITS_MAX = 20

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*)([/?].*)?", re.IGNORECASE)
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-type")
_PORTS = {b"http": b":80", b"https": b":443"}


class Framing(NamedTuple):
    """length: of the body, or CHUNKED. is_last: what comes behind it is no request."""

    length: int
    is_last: bool


def check_line(line: bytes) -> None:
    """The request line, without its end. Refused where it is none of HTTP/1.0 or 1.1."""
    parts = line.split(b" ")
    if len(parts) != 3 or _VERSION.fullmatch(parts[2]) is None:
        raise Refused(400, "the request line must be a method, a target and HTTP/1.1, with one space between")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(505, f"{version.decode()} is not spoken here; use HTTP/1.1")
    check_method(method)
    _check_characters(target)
    if _ABSOLUTE.fullmatch(target) is None:
        _check_path(method, target)


def check_method(method: bytes) -> None:
    if _TOKEN.fullmatch(method) is None:
        raise Refused(400, "the method is no token of HTTP")
    if method.upper() != method:
        upper = method.upper().decode()
        raise Refused(400, f"methods are in upper case: send {upper[:20]}, not {method.decode()[:20]}")
    if method == b"CONNECT":
        raise Refused(400, "the method CONNECT is not served here")


def check_target(method: bytes, target: bytes) -> None:
    """A path with its query, or the "*" of OPTIONS."""
    _check_characters(target)
    _check_path(method, target)


def _check_characters(target: bytes) -> None:
    if _TARGET.fullmatch(target) is None:
        raise Refused(
            400, "the target must be visible ASCII characters, at least one: percent-encode the others"
        )
    if b"#" in target:
        raise Refused(400, "a target has no fragment: percent-encode the # as %23")


def _check_path(method: bytes, target: bytes) -> None:
    if target[:1] != b"/" and (method, target) != (b"OPTIONS", b"*"):
        raise Refused(400, "the path must begin with /")


def check_head(head: bytes, hosts: Hosts) -> Framing:
    """A head that ends with a blank line, its request line checked. Refused: 400, or 421 for its Host."""
    line, *lines = head[:-4].split(b"\r\n")
    _, target, version = line.split(b" ")
    fields = check_fields(map(_split, lines))
    is_1_1 = version == b"HTTP/1.1"
    _check_host(target, fields.get(b"host"), hosts, needed=is_1_1)
    options = [option.strip() for option in fields.get(b"connection", b"").lower().split(b",")]
    is_upgrade = b"upgrade" in options and fields.get(b"upgrade", b"").lower() == b"websocket"
    return Framing(_length(fields, is_1_1), not is_1_1 or b"close" in options or is_upgrade)


def check_fields(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name, in lower case; those that came several times are joined."""
    fields: dict[bytes, bytes] = {}
    for name, value in pairs:
        if _TOKEN.fullmatch(name) is None:
            raise Refused(400, _NO_HEADER)
        if _VALUE.fullmatch(value) is None:
            raise Refused(400, f"the header {name.decode()[:100]} has a control character in its value")
        name, value = name.lower(), value.strip(b" \t")
        if name in fields and name in _ONCE:
            raise Refused(400, f"the header {name.decode()} came twice")
        fields[name] = fields[name] + b"," + value if name in fields else value
    return fields


_NO_HEADER = "a header must be a name of letters, digits and dashes, a colon right behind it, a value"


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        raise Refused(400, "a header goes on in another line: folding is obsolete (RFC 9112, 5.2)")
    if not colon:
        raise Refused(400, _NO_HEADER)
    return name, value


def _check_host(target: bytes, host: bytes | None, hosts: Hosts, *, needed: bool) -> None:
    if host is None:
        if needed:
            raise Refused(400, "a request of HTTP/1.1 needs a Host header")
    else:
        hosts.check(host)
    if absolute := _ABSOLUTE.fullmatch(target):
        scheme, authority = absolute[1].lower(), absolute[2]
        hosts.check(authority)
        if host is not None and _plain(host, scheme) != _plain(authority, scheme):
            raise Refused(400, "the target and the Host header name two hosts")


def _plain(host: bytes, scheme: bytes) -> bytes:
    return host.lower().removesuffix(_PORTS[scheme]).removesuffix(b":")


def _length(fields: dict[bytes, bytes], is_1_1: bool) -> int:
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        if length is not None or not is_1_1:
            raise Refused(400, _TWO_WAYS)
        if coding.lower() != b"chunked":
            ends = coding.lower().rpartition(b",")[2].strip() == b"chunked"
            raise Refused(501 if ends else 400, "the only transfer coding that is read here is chunked")
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
        raise Refused(400, "content-length must be one number")
    return int(length)


_TWO_WAYS = (
    "the request is framed in two ways: send Content-Length or Transfer-Encoding, and the latter in HTTP/1.1"
)
