"""Networks as a configuration names them, and the client of a request that proxies in them passed on.

A proxy appends the address it was asked from to X-Forwarded-For; anybody can send that header. So it is read
from its end, and only as far as trusted proxies wrote it. Knows no HTTP server and no configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

__all__ = ["HOPS_MAX", "Networks", "network_fault"]

HOPS_MAX = 32  # of X-Forwarded-For that are looked at

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def network_fault(written: str) -> str | None:
    """What is wrong with an entry of `trusted_proxies`, and what to write; None where nothing is."""
    try:
        loose = ip_network("" if "%" in written else written, strict=False)
    except ValueError:
        return f'{written!r} is no address and no network; write "10.0.0.7", "10.0.0.0/8" or "fd00::/8"'
    if "/" in written and str(loose.network_address) != str(ip_address(written.partition("/")[0])):
        return f'{written!r} is an address within a network; write "{loose}", or the address alone'
    return None


class Networks:
    """Of addresses and networks in CIDR notation that network_fault() finds nothing wrong with."""

    def __init__(self, written: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(ip_network(each) for each in written)

    def __contains__(self, address: str) -> bool:
        found = _address(address) if self._networks else None
        return found is not None and any(found in each for each in self._networks)

    def hops(self, peer: str, forwarded_for: str) -> tuple[str, int]:
        """(client, how many trusted proxies it came through as far as they wrote it). The client asks, where
        `peer` opened the connection and sent this X-Forwarded-For: the last address in it that is no trusted
        proxy's. What is no address was not written by one: the hop before it counts."""
        if peer not in self:
            return peer, 0
        client, hops = peer, 0
        for written in reversed(forwarded_for.rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
            found = _address(_without_port(written.strip()))
            if found is None:
                break
            client, hops = str(found), hops + 1
            if client not in self:
                break
        return client, hops


def _address(text: str) -> Address | None:
    """An IPv4 address in IPv6 clothes is the former."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found if mapped is None else mapped


def _without_port(text: str) -> str:
    """Of "10.0.0.7:4711" and "[fd00::1]:4711", which some proxies write."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
