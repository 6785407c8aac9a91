"""Under which names requests are answered: what Host and :authority may say.

On loopback only names of loopback count, and those of `http.hosts`: a page of another site that has its name
point to 127.0.0.1 (DNS rebinding) asks under that name. The console has names wherever it listens
(`console.hosts`). Ports are not looked at: they may be forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import socket

from iii.config import HttpConfig
from iii.formats.units import is_loopback
from iii.web.refused import Refused

__all__ = ["Hosts", "name_of"]

ACCEPTED_MAX = 256

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{0,5})?", re.ASCII)


class Hosts:
    """names: beside those of loopback; None where any name will do that is one. key: of the configuration,
    where more are written. any_address: every address is ours, too: none can be rebound to another.

    accepted: what was found good, as it was sent; None in it is HTTP/1.0 without a Host, which no browser
    sends. It is asked for each request, `accepts` for what is not in it."""

    def __init__(
        self, names: Collection[str] | None = None, *, key: str = "http.hosts", any_address: bool = False
    ) -> None:
        self._names = None if names is None else frozenset(map(_configured, names))
        self._key, self._any_address = key, any_address
        self.accepted: set[bytes | None] = {None}

    @classmethod
    def on(cls, sockets: Sequence[socket], config: HttpConfig) -> Hosts:
        if all(is_loopback(str(each.getsockname()[0])) for each in sockets):
            return cls((config.host, *config.hosts))
        return cls()

    def accepts(self, host: bytes | None) -> bool:
        if host in self.accepted:
            return True
        try:
            self.check(host or b"")
        except Refused:
            return False
        return True

    def check(self, host: bytes) -> None:
        """Refused: 400 for what is no host, 421 for one that is not ours."""
        if host in self.accepted:
            return
        name = name_of(host)
        if name is None:
            raise Refused(400, "the Host header must be one host, with or without a port")
        if not self._is_ours(name):
            raise Refused(421, self._remedy(name))
        if len(self.accepted) >= ACCEPTED_MAX:
            self.accepted.clear()
            self.accepted.add(None)
        self.accepted.add(host)

    def _is_ours(self, name: str) -> bool:
        if self._names is None or name in self._names or name == "localhost":
            return True
        if name.endswith(".localhost"):  # RFC 6761 §6.3: browsers ask no name server for it
            return True
        address = _address(name)
        return address is not None and (self._any_address or address.is_loopback)

    def _remedy(self, name: str) -> str:
        ours = ", ".join(["localhost", *sorted((self._names or frozenset()) - {"localhost"})])
        return (
            f"this server is not called {name!r}, but {ours}; a name that a proxy passes on belongs into "
            f"{self._key}"
        )


def name_of(host: bytes) -> str | None:
    """The name in a Host header: in lower case, without port, brackets and last dot. None: it is no host."""
    found = _HOST.fullmatch(host.decode("latin-1"))
    if found is None:
        return None
    if not found[1].startswith("["):
        return _plain(found[1]) or None
    try:
        return str(ip_address(found[1][1:-1]))
    except ValueError:
        return None


def _configured(name: str) -> str:
    """An address is written in one way."""
    try:
        return str(ip_address(name))
    except ValueError:
        return _plain(name)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address in IPv6 clothes is the former."""
    try:
        found = ip_address(name)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
