"""How often who may guess the token, by address: a few times at once, then each time after a longer wait.

    wrong guesses   1 .. FREE     then the next
    the next waits  -             1 s, 2 s, 4 s ... WAIT_MS_MAX

Who guessed nothing for FORGET_MS begins anew; the same wrong token again is no new guess (a client with an
old one). At most CLIENTS_MAX addresses are kept apart, an IPv6 network of 64 bits as one; all beyond count as
one, so that memory and guesses are bounded whatever the number of addresses. Knows no HTTP and no clock.
"""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

__all__ = ["Guess", "Guesses"]

FREE = 5
FIRST_MS, WAIT_MS_MAX = 1_000, 60_000
FORGET_MS = 15 * 60_000
CLIENTS_MAX = 1_000
OTHERS = "others"


class Guess(Struct):
    """The wrong guesses of one client. until_ms: when it may try again; `last`: a digest of the last one."""

    count: int = 0
    at_ms: int = 0
    until_ms: int = 0
    last: bytes = b""

    @property
    def is_news(self) -> bool:
        """Whether people should read of it: it is the first, or the first that has a wait behind it."""
        return self.count in (1, FREE)


class Guesses:
    def __init__(self) -> None:
        self._clients: dict[str, Guess] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def wait_ms(self, client: str, now_ms: int) -> int:
        """How long this client has to wait before its next try; 0: it may."""
        known = self._clients.get(self._key(client))
        return 0 if known is None else max(0, known.until_ms - now_ms)

    def wrong(self, client: str, token: bytes, now_ms: int) -> Guess | None:
        """Count a wrong token; None where it was the last one once more."""
        key = self._key(client)
        if key == OTHERS:
            self._forget(now_ms)
            key = self._key(client)
        known = self._clients.get(key)
        if known is None or now_ms - known.at_ms >= FORGET_MS:
            known = self._clients[key] = Guess()
        digest = blake2b(token, digest_size=8).digest()
        if digest == known.last:
            return None
        known.count, known.at_ms, known.last = known.count + 1, now_ms, digest
        if known.count >= FREE:
            known.until_ms = now_ms + min(FIRST_MS << min(known.count - FREE, 20), WAIT_MS_MAX)
        return known

    def _key(self, client: str) -> str:
        name = _network(client)
        return name if name in self._clients or len(self._clients) < CLIENTS_MAX else OTHERS

    def _forget(self, now_ms: int) -> None:
        self._clients = {
            name: each for name, each in self._clients.items() if now_ms - each.at_ms < FORGET_MS
        }


def _network(client: str) -> str:
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.exploded[:19]
