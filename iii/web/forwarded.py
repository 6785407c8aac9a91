"""What trusted proxies say of the requests that they pass on: from where, by which scheme, under which name.

From others the same headers say nothing: anybody can send them. X-Forwarded-For, -Proto and -Host count, and
Forwarded (RFC 7239); where these contradict each other neither does: a proxy that writes the one may pass on
what a stranger wrote into the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from iii.formats.networks import HOPS_MAX, Networks
from iii.web.hosts import name_of
from iii.web.request import Request

__all__ = ["Forwarded", "Said"]

_HEADERS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
_ELEMENT = re.compile(r'(?:[^",]|"[^"]*")+')
_PAIR = re.compile(r'(?:[^";]|"[^"]*")+')

PEERS_MAX = 1024
TAIL_MAX = 4096  # characters at the end of a header that are read: proxies write there


class Said(NamedTuple):
    """None: nothing that counts."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None


_NOTHING = Said()


class Forwarded:
    def __init__(self, proxies: Iterable[str]) -> None:
        self._proxies = Networks(proxies)
        self._peers: dict[str, bool] = {}  # whether they are trusted

    def apply(self, request: Request) -> None:
        """Have `request` say what its client asked, where a trusted proxy sent it."""
        if request.client is None:
            return
        said = self.said(request.client, request.raw_headers)
        request.client = said.client or request.client
        request.scheme = said.scheme or request.scheme
        request.forwarded_host = said.host

    def said(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> Said:
        """What is said of a request that `peer` sent with these headers, their names in lower case."""
        if not self._trusts(peer):
            return _NOTHING
        sent = [(name, value.decode("latin-1")) for name, value in headers if name in _HEADERS]
        if not sent:
            return _NOTHING
        by_x = self._said(peer, *(_list(sent, name) for name in _HEADERS[:3]))
        by_rfc = self._by_rfc(peer, _list(sent, b"forwarded"))
        return Said(*map(_agreed, by_x, by_rfc))

    def _trusts(self, peer: str) -> bool:
        trusted = self._peers.get(peer)
        if trusted is None:
            if len(self._peers) >= PEERS_MAX:
                self._peers.clear()
            trusted = self._peers[peer] = peer in self._proxies
        return trusted

    def _by_rfc(self, peer: str, elements: Sequence[str]) -> Said:
        pairs = [_pairs(element) for element in elements]
        told = ([each.get(name, "") for each in pairs] for name in ("for", "proto", "host"))
        return self._said(peer, *told)

    def _said(self, peer: str, clients: Sequence[str], schemes: Sequence[str], hosts: Sequence[str]) -> Said:
        """Each proxy adds to the end of the lists, or replaces them: what the outermost trusted one wrote."""
        client, hops = self._proxies.hops(peer, ",".join(clients))
        scheme, host = _at(schemes, hops).lower(), _at(hosts, hops)
        return Said(
            client if any(clients) else None,
            scheme if scheme in ("http", "https") else None,
            host if name_of(host.encode("latin-1")) is not None else None,
        )


def _list(sent: Sequence[tuple[bytes, str]], name: bytes) -> list[str]:
    """The elements of a header's lines, the last ones."""
    written = ",".join(value for each, value in sent if each == name)
    return [element.strip() for element in _ELEMENT.findall(written[-TAIL_MAX:])[-HOPS_MAX:]]


def _pairs(element: str) -> dict[str, str]:
    """for=…;proto=…;host=…"""
    named = (pair.strip().partition("=") for pair in _PAIR.findall(element))
    return {name.lower(): value.strip('"') for name, _, value in named}


def _at(elements: Sequence[str], hops: int) -> str:
    return elements[-min(max(hops, 1), len(elements))] if elements else ""


def _agreed(one: str | None, other: str | None) -> str | None:
    return one or other if None in (one, other) or one == other else None
