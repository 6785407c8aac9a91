"""How many connections are open at once, and which go where there is no room for a new one.

Idle ones go first, the oldest of them before the others, then those whose request has only begun to arrive:
whoever opens thousands keeps nobody out. One that had no turn to be read yet is not idle (Newcomers),
nor is one whose bytes wait to be read (has_unread). Where all are busy, the new one is told 503 and closed.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Generic, Protocol, TypeVar, cast

from iii.config import HttpConfig
from iii.web.http1.protocol import last_words
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.sending import LINGER_MS

__all__ = ["LOOKS_MAX", "Crowd", "Door", "Newcomers", "connections_max", "has_unread"]

RESERVE_FILES = 256  # for the console, the store, and what handlers open
LOOKS_MAX = 64  # at what seems idle, for one new connection
TURNED_AWAY_MAX = 128  # that are given a moment to read why: more than are accepted in a row
STARVED_CLOSE = 16  # at a time, where the process has no file left for a new connection
TELL_S = 60.0
UNLIMITED = 1 << 20

_log = logging.getLogger("iii.http")

C = TypeVar("C")


def connections_max(http: HttpConfig) -> int:
    """`http.max_connections`, as far as the files that this process may open allow it."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = UNLIMITED if files == resource.RLIM_INFINITY else min(files, UNLIMITED)
    room = max(files - RESERVE_FILES, files // 2)
    if (wanted := http.connections_max or room) > room:
        _log.warning(
            "http.max_connections is %d, but this process may open %d files: %d connections at most "
            "(see `ulimit -n`)",
            *(wanted, files, room),
        )
    return min(wanted, room)


class Door(Protocol):
    """What has connections: the lane, Hypercorn."""

    entered: Callable[[asyncio.BaseProtocol], object]
    """To be called with the protocol of each new connection, once it counts."""

    @property
    def connections(self) -> int: ...

    def close_idlest(self) -> bool:
        """Begin to close the connection that has been idle for longest. False: none of LOOKS_MAX is."""


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
    """`make`: a connection's protocol, from its address; one of `doors` has it then."""

    def __init__(
        self, connections_max: int, make: Callable[[str], asyncio.BaseProtocol], doors: Sequence[Door]
    ) -> None:
        self._max, self._make, self._doors = connections_max, make, doors
        self._coming: set[asyncio.BaseProtocol] = set()  # made, and counted by no door yet
        self._away: dict[_TurnedAway, None] = {}  # the oldest first
        self._none_idle = False  # in this turn of the loop
        self._refused, self._told_s = 0, -TELL_S
        for door in doors:
            door.entered = self._coming.discard

    def protocol(self, client: str) -> asyncio.BaseProtocol:
        """For a connection that was accepted."""
        if self._count() >= self._max and not self._close_idlest():
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
            self._close_idlest()

    async def end(self) -> None:
        """Close those that linger yet: nobody is accepted any more."""
        for each in list(self._away):
            each.leave()
        await asyncio.sleep(0)  # their transports close in the loop's next turn

    def _count(self) -> int:
        return len(self._coming) + sum(door.connections for door in self._doors)

    def _close_idlest(self) -> bool:
        if self._none_idle:
            return False
        if any(door.close_idlest() for door in self._doors):
            return True
        self._none_idle = True
        asyncio.get_running_loop().call_soon(self._look_again)
        return False

    def _look_again(self) -> None:
        self._none_idle = False

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
