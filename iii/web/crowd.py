"""How many connections are open at once, and which go where there is no room for a new one.

Idle ones go first, the oldest of them before the others, then those whose request has only begun to arrive:
whoever opens thousands keeps nobody out. Where all are busy, the new one is told 503 and closed.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from iii.config import HttpConfig
from iii.web.http1.protocol import last_words
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.sending import LINGER_MS

__all__ = ["Crowd", "Door", "connections_max"]

RESERVE_FILES = 256  # for the console, the store, and what handlers open
TURNED_AWAY_MAX = 32  # that are given a moment to read why
STARVED_CLOSE = 16  # at a time, where the process has no file left for a new connection
TELL_S = 60.0
UNLIMITED = 1 << 20

_log = logging.getLogger("iii.http")


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
        """Begin to close the connection that has been idle for longest. False: none is."""


class Crowd:
    """`make`: a connection's protocol, from its address; one of `doors` has it then."""

    def __init__(
        self, connections_max: int, make: Callable[[str], asyncio.BaseProtocol], doors: Sequence[Door]
    ) -> None:
        self._max, self._make, self._doors = connections_max, make, doors
        self._coming: set[asyncio.BaseProtocol] = set()  # made, and counted by no door yet
        self._away: set[_TurnedAway] = set()
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

    def _count(self) -> int:
        return len(self._coming) + sum(door.connections for door in self._doors)

    def _close_idlest(self) -> bool:
        return any(door.close_idlest() for door in self._doors)

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
    """Says 503, and throws away what its client sends until that has read it."""

    def __init__(self, others: set[_TurnedAway]) -> None:
        self._others = others
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        out = cast(asyncio.Transport, transport)
        full = Refused(503, "too many connections are open; try again", headers=(RETRY_AFTER,))
        out.write(last_words(full))
        if len(self._others) >= TURNED_AWAY_MAX:
            return out.close()
        out.write_eof()
        self._others.add(self)
        self._timer = asyncio.get_running_loop().call_later(LINGER_MS / 1000, out.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._others.discard(self)
        if self._timer is not None:
            self._timer.cancel()
