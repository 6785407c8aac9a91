"""A memory store that takes its time, fails when told, and tells a witness what landed.

    post, credit -> pending -> (latency) the writer applies the group and grants -> (latency) the loop hears
    the answers, and then what was granted is delivered

As in the LMDB store: Txns and levels land in order, in groups, on a thread of its own; a process that dies in
between has committed what nobody was told, or nothing of it, and holds leases that it never heard of. Peers'
commits are heard of when the loop comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeAlias

from sim_loop import Actor, SimClock, SimLoop, inside

from iii.errors import StoreError, StoreFull
from iii.model import (
    Ack,
    Committed,
    Delete,
    Discard,
    Hold,
    Lane,
    Mark,
    Message,
    Pause,
    Release,
    Retry,
    Return,
    Txn,
)
from iii.store.contract import Answer
from iii.store.limits import check, check_levels
from iii.store.memory import MemoryStore, MemoryTables, sessions

LATENCY_US = (20, 4_000)
SETTLING = (Ack, Retry, Release, Return, Hold, Discard, Delete, Pause, Mark)

Level: TypeAlias = "tuple[dict[Lane, int], asyncio.Future[None]]"
Told: TypeAlias = "tuple[Answer, Committed | StoreError]"


class Witness(Protocol):
    """What the world wants to know of every store."""

    is_full: bool  # nothing lands but what settles
    failing: float  # the share of groups that fail as a whole
    slow: int  # how many times longer everything takes

    def landed(self, store: SimStore, txn: Txn, committed: Committed) -> None: ...
    def refused(self, store: SimStore, txn: Txn, error: StoreError) -> None: ...
    def granted(self, store: SimStore, messages: list[Message]) -> None: ...


class SimStore(MemoryStore):
    """One simulated process's store. `writer`: the actor of its writer thread."""

    def __init__(
        self,
        loop: SimLoop,
        clock: SimClock,
        tables: MemoryTables,
        process: Actor,
        writer: Actor,
        witness: Witness,
    ) -> None:
        super().__init__(clock, tables=tables)
        self.process, self.writer, self._witness, self._loop = process, writer, witness, loop
        self._pending: list[tuple[Txn, Answer] | Level] = []
        self._is_writing = self._is_applying = self._is_rung = False

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        future = self._loop.create_future()
        self.post(txn, future)
        return future

    def post(self, txn: Txn, answer: Answer) -> None:
        self._require_open()
        check(txn, self.limits)
        if txn.ops:
            self._pending.append((txn, answer))
            self._write_soon()
        else:
            answer.set_result(Committed(self.version(), []))

    async def commit(self, txn: Txn) -> Committed:
        return await self.submit(txn)

    def credit(self, levels: Mapping[Lane, int]) -> Awaitable[None]:
        self._require_open()
        if self._session is None:
            raise StoreError("only a session is granted messages: open_session() first")
        check_levels(levels)
        told = self._loop.create_future()
        self._pending.append((dict(levels), told))
        self._write_soon()
        return told

    def level(self, lane: Lane) -> int:
        return self._levels.get(lane, 0)

    # -- on the writer's thread

    def _write_soon(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_later(self._latency_s(), self._write, context=inside(self.writer))

    def _write(self) -> None:
        """Apply what is pending as one group, and grant what it leaves room for."""
        pending, self._pending = self._pending, []
        fails = self._loop.random.random() < self._witness.failing
        self._is_applying = True
        self._tidy()
        answers, told = list[Told](), list[asyncio.Future[None]]()
        for item, answer in pending:
            if isinstance(item, Txn):
                answers.append((answer, self._land(item, fails)))
            else:
                self._set_levels(item)
                told.append(answer)
        granted = [] if fails else self._granted_now()
        self._is_applying = False
        self._loop.call_later(
            self._latency_s(), self._tell, answers, told, granted, context=inside(self.process)
        )
        self._is_writing = False
        if self._pending or (fails and self._may_grant()):
            self._write_soon()

    def _land(self, txn: Txn, fails: bool) -> Committed | StoreError:
        witness = self._witness
        try:
            if fails:
                raise StoreError("the commit failed and wrote nothing: simulated")
            if witness.is_full and not all(isinstance(op, SETTLING) for op in txn.ops):
                raise StoreFull("no room: simulated")
            committed = self._commit(txn)
        except StoreError as error:
            witness.refused(self, txn, error)
            return error
        witness.landed(self, txn, committed)
        return committed

    def _granted_now(self) -> list[Message]:
        if self._session is None:
            return []
        with self._tables.atomic():
            messages = sessions.grant(self._tables, self._session, self._levels)
        if messages:
            self._witness.granted(self, messages)
        return messages

    def _grant(self) -> None:
        """Something has changed: the group that is being applied grants at its end, or one more does."""
        if not self._is_applying and self._may_grant():
            self._write_soon()

    def _may_grant(self) -> bool:
        return any(self._tables.counted(lane, "ready") for lane in self._levels)

    # -- on the loop

    def _tell(self, answers: list[Told], told: list[asyncio.Future[None]], granted: list[Message]) -> None:
        """What became of one group, and what it granted unless peers have buried the session since."""
        for answer, outcome in answers:
            if answer.done():
                continue
            if isinstance(outcome, StoreError):
                answer.set_exception(outcome)
                if isinstance(answer, asyncio.Future):
                    answer.exception()
            else:
                answer.set_result(outcome)
        for level in told:
            if not level.done():
                level.set_result(None)
        if granted and granted[0].lease.session == self._session:
            self._deliver(granted)

    def rung(self) -> None:
        """A peer's commit is a message to this process: it looks when it gets there."""
        if not self._is_rung:
            self._is_rung = True
            self._loop.call_soon(self._look, context=inside(self.process))

    def _look(self) -> None:
        self._is_rung = False
        if self._is_open:
            self._answer()

    async def close_session(self) -> None:
        """What was submitted before lands before."""
        while self._is_writing:
            await asyncio.sleep(0.001)
        await super().close_session()

    def _latency_s(self) -> float:
        return self._loop.random.randint(*LATENCY_US) * self._witness.slow / 1e6
