"""What the connections of a lane share, and their bounds together: who is idle, what runs, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import nsmallest
from itertools import islice
from typing import Any, Protocol, TypeVar

from iii.web.crowd import LOOKS_MAX, Newcomers
from iii.web.endpoint import Endpoint
from iii.web.hosts import Hosts
from iii.web.lane.answers import Heads
from iii.web.lane.connection import Connection
from iii.web.lane.eager import Eager
from iii.web.lane.head import Parser
from iii.web.lane.outgoing import Outgoing
from iii.web.response import Answer

__all__ = ["HandOver", "Lane"]

KEEP_ALIVE_BEATS = 8
"""http.keep_alive is counted in so many: an idle connection may live one of them longer."""

T = TypeVar("T")


class HandOver(Protocol):
    """Takes a connection over: `unread` is what came and was not answered, `eof` whether no more can come,
    `is_new` whether nothing was answered."""

    def __call__(self, transport: asyncio.Transport, unread: bytes, eof: bool, is_new: bool) -> None: ...


class Lane:
    """For one server; made on its loop."""

    def __init__(self, endpoint: Endpoint, hand_over: HandOver, hosts: Hosts) -> None:
        self.endpoint, self.config = endpoint, endpoint.config
        self.loop = asyncio.get_running_loop()
        self.eager: Eager[Answer | None] = Eager()
        self.heads = Heads()
        self.parser = Parser(hosts)
        self.outgoing = Outgoing(self.loop)
        self.beat = 0
        self._beat_s = self.config.keep_alive_ms / 1000 / KEEP_ALIVE_BEATS
        self._to_hypercorn = hand_over
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._newcomers: Newcomers[Connection] = Newcomers(self._seat)
        self._idlest: list[tuple[Connection, int]] = []  # some of them with their beats, the idlest last
        self.begun: dict[Connection, None] = {}  # those with a part of a head, in the order of its beginning
        self.entered: Callable[[asyncio.BaseProtocol], object] = lambda protocol: None
        self._beats: asyncio.TimerHandle | None = None  # while anybody is idle
        self._tasks: set[asyncio.Task[Any]] = set()
        self._expected = 0
        self._ended = asyncio.Event()
        self._draining = False

    def connection(self, client: str) -> Connection:
        return Connection(self, client)

    # ------------------------------------------------------------------------ what connections tell

    def enter(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.entered(connection)
        self._newcomers.add(connection)

    def _seat(self, connection: Connection) -> None:
        if connection.rests:
            self.rest(connection)

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.wake(connection)
        self._look_for_the_end()

    def rest(self, connection: Connection) -> None:
        """It waits for its next request; where that is answered at once, `connection.rested` is all there is
        to be set anew."""
        connection.rested = self.beat
        self._idle.pop(connection, None)
        self._idle[connection] = None
        if self._beats is None:
            self._beats = self.loop.call_later(self._beat_s, self._close_idle)

    def wake(self, connection: Connection) -> None:
        """It is no longer idle."""
        self._idle.pop(connection, None)

    def follow(
        self, connection: Connection, task: asyncio.Task[T], done: Callable[[asyncio.Task[T]], None]
    ) -> None:
        """A request goes on in `task`, whatever becomes of its connection."""
        self.wake(connection)
        self._tasks.add(task)
        task.add_done_callback(done)
        task.add_done_callback(self._task_ended)

    def expect(self, connection: Connection) -> None:
        """It waits for an answer that no task brings."""
        self.wake(connection)
        self._expected += 1

    def arrived(self) -> None:
        """After `expect`."""
        self._expected -= 1
        self._look_for_the_end()

    def hand_over(
        self, connection: Connection, transport: asyncio.Transport, unread: bytes, *, eof: bool, is_new: bool
    ) -> None:
        self._to_hypercorn(transport, unread, eof, is_new)
        self.leave(connection)

    # -------------------------------------------------------------------------------------- crowd.Door

    @property
    def connections(self) -> int:
        return len(self._connections)

    def close_idlest(self) -> bool:
        """As idle counts how many beats ago it was; in one beat, who became idle first."""
        looks = 0
        while (self._idlest or self._idle) and looks < LOOKS_MAX:
            if not self._idlest:
                some = nsmallest(LOOKS_MAX, self._idle, key=lambda each: each.rested)
                self._idlest = [(each, each.rested) for each in reversed(some)]
            connection, rested = self._idlest.pop()
            if connection in self._idle and connection.rested == rested:
                if not connection.has_unread:
                    return self._close(connection)
                self.rest(connection)
                looks += 1
        return self._close_begun()

    def _close_begun(self) -> bool:
        for connection in islice(self.begun, LOOKS_MAX):
            if not connection.has_unread:
                return self._close(connection)
        return False

    def _close(self, connection: Connection) -> bool:
        self.wake(connection)
        connection.close()
        return True

    # --------------------------------------------------------------------------------------- the end

    async def ended(self) -> None:
        """Wait until no connection is open and no request runs."""
        self._draining = True
        self._look_for_the_end()
        await self._ended.wait()

    def close_idle(self) -> None:
        self._newcomers.seat_all()
        for connection in list(self._idle):
            connection.close()

    async def abort(self) -> None:
        """Cut off what is left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._connections:
            for connection in list(self._connections):
                connection.abort()
            await asyncio.sleep(0)  # their transports close in the loop's next turn
        await self.eager.aclose()

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self._draining and not (self._connections or self._tasks or self._expected):
            self._ended.set()

    def _close_idle(self) -> None:
        """A beat has passed: close those whose time is over."""
        self.beat += 1
        for connection in list(self._idle):
            if self.beat - connection.rested > KEEP_ALIVE_BEATS:
                self.wake(connection)
                connection.close()
        self._beats = self.loop.call_later(self._beat_s, self._close_idle) if self._idle else None
