"""What the connections of a lane share, and their bounds together: who is idle, what runs, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import nsmallest
from time import perf_counter
from typing import Any, Protocol, TypeVar

from iii.web.crowd import IDLE, LOOKS_MAX, Newcomers, Waiting
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
"""In http.keep_alive the idle ones are looked at so many times: one may live so much longer."""

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
        self._beat_s = self.config.keep_alive_ms / 1000 / KEEP_ALIVE_BEATS
        self._to_hypercorn = hand_over
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._newcomers: Newcomers[Connection] = Newcomers(self._seat)
        self._idlest: list[tuple[Connection, float]] = []  # some of them as they rested, the idlest last
        self.waiting: Waiting[Connection] = Waiting()  # those with a part of a request
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
        """It waits for its next request; where that is answered at once, `connection.rested_s` is all
        there is to be set anew."""
        connection.rested_s = perf_counter()
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

    # -------------------------------------------------------------------------------------- crowd.Serves

    @property
    def connections(self) -> int:
        return len(self._connections)

    def longest(self) -> tuple[int, float] | None:
        if (idlest := self._find_idlest()) is not None:
            return IDLE, idlest.rested_s
        longest = self.waiting.longest()
        return None if longest is None else longest[:2]

    def close_longest(self) -> None:
        if (idlest := self._find_idlest()) is not None:
            self.wake(idlest)
            idlest.close()
        elif (longest := self.waiting.longest()) is not None:
            longest[2].make_room()

    def _find_idlest(self) -> Connection | None:
        looks = 0
        while (self._idlest or self._idle) and looks < LOOKS_MAX:
            if not self._idlest:
                some = nsmallest(LOOKS_MAX, self._idle, key=lambda each: each.rested_s)
                self._idlest = [(each, each.rested_s) for each in reversed(some)]
            connection, rested_s = self._idlest[-1]
            if connection in self._idle and connection.rested_s == rested_s:
                if not connection.has_unread:
                    return connection
                self.rest(connection)
                looks += 1
            self._idlest.pop()
        return None

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
        late_s = perf_counter() - self._beat_s * KEEP_ALIVE_BEATS
        for connection in list(self._idle):
            if connection.rested_s < late_s:
                self.wake(connection)
                connection.close()
        self._beats = self.loop.call_later(self._beat_s, self._close_idle) if self._idle else None
