"""How many connections are open at once, and which go where there is no room for a new one.

Idle ones go first, then those with a part of a head, then those whose body still arrives; of each kind the
one that has waited longest, whichever server has it. So whoever opens thousands keeps nobody out: only a
request that is being answered keeps its connection. One that had no turn to be read yet is not idle
(Newcomers), and one whose bytes wait to be read stays (has_unread). Where all do, the new one is told 503
and closed.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from time import perf_counter
from typing import Generic, Protocol, TypeVar, cast

from iii.config import HttpConfig
from iii.web.http1.protocol import last_words
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.sending import LINGER_MS

__all__ = [
    *("BODY", "HEAD", "IDLE", "LOOKS_MAX"),
    *("Crowd", "Newcomers", "Serves", "Waiting", "connections_max", "console_connections_max", "has_unread"),
]

IDLE, HEAD, BODY = range(3)  # what a connection waits for: a request, or the rest of its part

RESERVE_FILES = 256  # for the store, and what handlers open
CONSOLE_CONNECTIONS_MAX = 320  # its pages, logins on their way (64), bodies that are dropped (64)
LOOKS_MAX = 64  # at those that wait for one thing, for one new connection
TURNED_AWAY_MAX = 128  # that are given a moment to read why: more than are accepted in a row
STARVED_CLOSE = 16  # at a time, where the process has no file left for a new connection
TELL_S = 60.0
UNLIMITED = 1 << 20

_log = logging.getLogger("iii.http")


class Client(Protocol):
    @property
    def has_unread(self) -> bool: ...


C = TypeVar("C")
W = TypeVar("W", bound=Client)


def connections_max(http: HttpConfig, *, console: bool = False) -> int:
    """`http.max_connections`, as far as the files that this process may open allow it. `console`: it has its
    part of them."""
    files = _files_max()
    room = max(files - RESERVE_FILES - (console_connections_max() if console else 0), files // 2)
    if (wanted := http.connections_max or room) > room:
        _log.warning(
            "http.max_connections is %d, but this process may open %d files: %d connections at most "
            "(see `ulimit -n`)",
            *(wanted, files, room),
        )
    return min(wanted, room)


def console_connections_max() -> int:
    return min(CONSOLE_CONNECTIONS_MAX, _files_max() // 4)


def _files_max() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if files == resource.RLIM_INFINITY else min(files, UNLIMITED)


class Serves(Protocol):
    """What has connections: the lane, Hypercorn."""

    entered: Callable[[asyncio.BaseProtocol], object]
    """To be called with the protocol of each new connection, once it counts."""

    @property
    def connections(self) -> int: ...

    def longest(self) -> tuple[int, float] | None:
        """What the first that would go waits for, and since when (perf_counter). None: all
        are busy, or LOOKS_MAX of them have unread bytes."""

    def close_longest(self) -> None:
        """Begin to close it."""


class Waiting(Generic[W]):
    """Connections that wait for their clients, by what they wait for."""

    def __init__(self) -> None:
        self._since_s: tuple[OrderedDict[W, float], ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    def put(self, connection: W, what: int) -> None:
        """From now on; where it waits for that already, from when that began."""
        if connection not in self._since_s[what]:
            self.remove(connection)
            self._since_s[what][connection] = perf_counter()

    def remove(self, connection: W) -> None:
        for each in self._since_s:
            each.pop(connection, None)

    def longest(self) -> tuple[int, float, W] | None:
        """One that has unread bytes begins anew."""
        for what, since_s in enumerate(self._since_s):
            for _ in range(min(len(since_s), LOOKS_MAX)):
                connection = next(iter(since_s))
                if not connection.has_unread:
                    return what, since_s[connection], connection
                since_s[connection] = perf_counter()
                since_s.move_to_end(connection)
        return None


class Newcomers(Generic[C]):
    """Connections that were just made. `seat` gets each once the loop has looked for bytes of it."""

    def __init__(self, seat: Callable[[C], None]) -> None:
        self._seat, self._loop = seat, asyncio.get_running_loop()
        self._came: list[C] = []
        self._stay: list[C] = []  # those that came a turn earlier

    def add(self, connection: C) -> None:
        if not (self._came or self._stay):
            self._loop.call_soon(self._turn)
        self._came.append(connection)

    def seat_all(self) -> None:
        self._turn()
        self._turn()

    def _turn(self) -> None:
        """What is called soon is called before what was read meanwhile: hence two turns."""
        seated, self._stay, self._came = self._stay, self._came, []
        for each in seated:
            self._seat(each)
        if self._stay:
            self._loop.call_soon(self._turn)


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether bytes have arrived that were not read: to close the connection would reset it."""
    arrived = bytearray(4)
    if not transport.is_closing():
        with suppress(OSError, ValueError):
            ioctl(transport.get_extra_info("socket").fileno(), FIONREAD, arrived)
    return any(arrived)


class Crowd:
    """`make`: a connection's protocol, from its address; one of `servers` has it then."""

    def __init__(
        self, connections_max: int, make: Callable[[str], asyncio.BaseProtocol], servers: Sequence[Serves]
    ) -> None:
        self._max, self._make, self._servers = connections_max, make, servers
        self._coming: set[asyncio.BaseProtocol] = set()  # made, and counted by no server yet
        self._away: dict[_TurnedAway, None] = {}  # the oldest first
        self._all_stay = False  # in this turn of the loop
        self._refused, self._told_s = 0, -TELL_S
        for server in servers:
            server.entered = self._coming.discard

    def protocol(self, client: str) -> asyncio.BaseProtocol:
        """For a connection that was accepted."""
        if self._count() >= self._max and not self._close_longest():
            self._tell()
            return _TurnedAway(self._away)
        protocol = self._make(client)
        self._coming.add(protocol)
        return protocol

    def settled(self, protocol: asyncio.BaseProtocol) -> None:
        """It has its connection, or never will."""
        self._coming.discard(protocol)

    def starved(self) -> None:
        """There is no file for a new connection."""
        for _ in range(STARVED_CLOSE):
            self._close_longest()

    async def end(self) -> None:
        """Close those that linger yet: nobody is accepted any more."""
        for each in list(self._away):
            each.leave()
        await asyncio.sleep(0)  # their transports close in the loop's next turn

    def _count(self) -> int:
        return len(self._coming) + sum(server.connections for server in self._servers)

    def _close_longest(self) -> bool:
        if self._all_stay:
            return False
        waiting = [(longest, each) for each in self._servers if (longest := each.longest()) is not None]
        if not waiting:
            self._all_stay = True
            asyncio.get_running_loop().call_soon(self._look_again)
            return False
        _, server = min(waiting, key=lambda each: each[0])
        server.close_longest()
        return True

    def _look_again(self) -> None:
        self._all_stay = False

    def _tell(self) -> None:
        self._refused += 1
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s >= TELL_S:
            _log.warning(
                "%d connection(s) were refused: %d are open, and all are busy (http.max_connections)",
                *(self._refused, self._max),
            )
            self._refused, self._told_s = 0, now_s


class _TurnedAway(asyncio.Protocol):
    """Says 503, and throws away what its client sends until that has read it. Where many are turned away at
    once, those have read it that were told first."""

    def __init__(self, others: dict[_TurnedAway, None]) -> None:
        self._others = others

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = out = cast(asyncio.Transport, transport)
        full = Refused(503, "too many connections are open; try again", headers=(RETRY_AFTER,))
        out.write(last_words(full))
        out.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_MS / 1000, out.abort)
        if len(self._others) >= TURNED_AWAY_MAX:
            next(iter(self._others)).leave()
        self._others[self] = None

    def leave(self) -> None:
        del self._others[self]
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._others.pop(self, None)
        self._timer.cancel()
