"""How often the console's token may be guessed, by address and over all: a few times at once, then each time
after a longer wait.

    wrong guesses of an address     1 .. FREE     then the next
    its next one waits              -             1 s, 2 s, 4 s ... WAIT_MS_MAX
    of all addresses together       ALL_FREE at once, then one in ALL_MS

An address that guessed nothing for FORGET_MS begins anew; the same wrong token again is no new guess (a
client with an old one). At most CLIENTS_MAX addresses are kept apart, an IPv6 network of 64 bits as one; all
beyond count as one. The bound over all does not hold for the last KNOWN_MAX that were right: others' guesses
do not keep them out. So memory and guesses are bounded whatever the number of addresses. Knows no HTTP and no
clock.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

__all__ = ["Guess", "Guesses", "network_of"]

FREE = 5
FIRST_MS, WAIT_MS_MAX = 1_000, 60_000
FORGET_MS = 15 * 60_000
ALL_FREE, ALL_MS = 100, 1_000
CLIENTS_MAX = KNOWN_MAX = 1_000
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
        self._known: OrderedDict[str, None] = OrderedDict()
        self._all_until_ms = 0  # when the last of all guesses so far would have been made, one in ALL_MS

    def __len__(self) -> int:
        return len(self._clients)

    def wait_ms(self, client: str, now_ms: int) -> int:
        """How long this client has to wait before its next try; 0: it may."""
        own_ms = self.own_wait_ms(client, now_ms)
        if network_of(client) in self._known:
            return own_ms
        return max(own_ms, self._all_until_ms - (ALL_FREE - 1) * ALL_MS - now_ms)

    def own_wait_ms(self, client: str, now_ms: int) -> int:
        """How long for its own guesses alone."""
        own = self._clients.get(self._key(network_of(client)))
        return 0 if own is None else max(0, own.until_ms - now_ms)

    def wrong(self, client: str, token: bytes, now_ms: int) -> Guess | None:
        """Count a wrong token; None where it was the last one once more."""
        network = network_of(client)
        key = self._key(network)
        if key == OTHERS:
            self._forget(now_ms)
            key = self._key(network)
        known = self._clients.get(key)
        if known is None or now_ms - known.at_ms >= FORGET_MS:
            known = self._clients[key] = Guess()
        digest = blake2b(token, digest_size=8).digest()
        if digest == known.last:
            return None
        known.count, known.at_ms, known.last = known.count + 1, now_ms, digest
        if known.count >= FREE:
            known.until_ms = now_ms + min(FIRST_MS << min(known.count - FREE, 20), WAIT_MS_MAX)
        full_ms = now_ms + ALL_FREE * ALL_MS
        self._all_until_ms = min(max(self._all_until_ms, now_ms) + ALL_MS, full_ms)
        return known

    def right(self, client: str, counted: Guess | None = None) -> None:
        """This client has the token. `counted`: what wrong() said of it until it was compared; that is taken
        back, and no more: others of its address may be guessing."""
        network = network_of(client)
        if counted is not None:
            counted.count, counted.until_ms, counted.last = counted.count - 1, counted.at_ms, b""
            self._all_until_ms -= ALL_MS
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _key(self, network: str) -> str:
        return network if network in self._clients or len(self._clients) < CLIENTS_MAX else OTHERS

    def _forget(self, now_ms: int) -> None:
        self._clients = {
            name: each for name, each in self._clients.items() if now_ms - each.at_ms < FORGET_MS
        }


def network_of(client: str) -> str:
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.exploded[:19]
