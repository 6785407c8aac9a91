"""From the header block of an HTTP/2 request to an ASGI scope. Knows no connection."""

from __future__ import annotations

from urllib.parse import unquote

from iii.web.asgi import Scope
from iii.web.hosts import Hosts
from iii.web.http1.grammar import check_fields, check_method, check_target
from iii.web.refused import Refused
from iii.web.response import RawHeaders

__all__ = ["declared_bytes", "scope_of"]

Address = tuple[str, int] | None


def scope_of(headers: RawHeaders, hosts: Hosts, client: Address, server: Address) -> Scope:
    """Refused: what no request of HTTP/1.1 could say either. h2 has refused what breaks the connection."""
    pseudo = {name: value for name, value in headers if name[:1] == b":"}
    fields = [pair for pair in headers if pair[0][:1] != b":" and pair[0] != b"host"]
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    check_method(method)
    check_target(method, target)
    if pseudo.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise Refused(400, "the pseudo-header :scheme must be http or https")
    check_fields(fields)
    host = _host(pseudo.get(b":authority"), [value for name, value in headers if name == b"host"])
    hosts.check(host)
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "http_version": "2",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": method.decode(),
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


def _host(authority: bytes | None, hosts: list[bytes]) -> bytes:
    """RFC 9113 §8.3.1: they say the same, where both are there."""
    given = {each.lower(): each for each in hosts if each} | (
        {authority.lower(): authority} if authority else {}
    )
    if len(hosts) > 1 or len(given) > 1:
        raise Refused(400, "the pseudo-header :authority and the header host name two hosts")
    if not given:
        raise Refused(400, "a request needs the pseudo-header :authority")
    return next(iter(given.values()))
