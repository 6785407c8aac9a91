"""From the header block of an HTTP/2 request to an ASGI scope. Knows no connection."""

from __future__ import annotations

from urllib.parse import unquote

from iii.web.asgi import Scope
from iii.web.response import RawHeaders

__all__ = ["Malformed", "declared_bytes", "scope_of"]

Address = tuple[str, int] | None


class Malformed(Exception):
    """What is wrong with the request, in one sentence. h2 has refused what breaks the connection."""


def scope_of(headers: RawHeaders, client: Address, server: Address) -> Scope:
    """Malformed: a method or path that no HTTP/1.1 request line could have either."""
    pseudo = {name: value for name, value in headers if name[:1] == b":"}
    fields = [pair for pair in headers if pair[0][:1] != b":" and pair[0] != b"host"]
    host = pseudo.get(b":authority") or next((value for name, value in headers if name == b"host"), b"")
    path, _, query = _ascii(pseudo, b":path").partition(b"?")
    method = _ascii(pseudo, b":method")
    if method == b"CONNECT":
        raise Malformed("the method CONNECT is not served here")
    if path[:1] != b"/" and path != b"*":
        raise Malformed("the pseudo-header :path must begin with /")
    return {
        "type": "http",
        "http_version": "2",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": method.decode().upper(),
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", host), *fields],
        "client": client,
        "server": server,
        "state": {},
        "extensions": {},
    }


def declared_bytes(headers: RawHeaders) -> int | None:
    """What content-length says; h2 has refused one that is no number."""
    return next((int(value) for name, value in headers if name == b"content-length"), None)


def _ascii(pseudo: dict[bytes, bytes], name: bytes) -> bytes:
    value = pseudo.get(name, b"")
    if not value or not all(0x20 < byte < 0x7F for byte in value):
        raise Malformed(f"the pseudo-header {name.decode()} must be visible ASCII characters, at least one")
    return value
