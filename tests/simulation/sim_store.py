"""A memory store that takes its time, fails when told, and tells a witness what landed.

    submit -> pending -> (latency) the writer applies the group -> (latency) the loop hears the answers

As in the LMDB store: Txns land in order, in groups, on a thread of its own; a process that dies in between
has committed what nobody was told, or nothing of it. Peers' commits are heard of when the loop comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

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
    Txn,
)
from iii.store.limits import check
from iii.store.memory import MemoryStore, MemoryTables

LATENCY_US = (20, 4_000)
SETTLING = (Ack, Retry, Release, Hold, Discard, Delete, Pause, Mark)


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
        self._pending: list[tuple[Txn, asyncio.Future[Committed]]] = []
        self._is_writing = self._is_rung = False

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        self._require_open()
        check(txn, self.limits)
        future = self._loop.create_future()
        if not txn.ops:
            future.set_result(Committed(self.version(), []))
            return future
        self._pending.append((txn, future))
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_later(self._latency_s(), self._write, context=inside(self.writer))
        return future

    async def commit(self, txn: Txn) -> Committed:
        return await self.submit(txn)

    def _write(self) -> None:
        """On the writer's thread: apply what is pending, one group."""
        pending, self._pending = self._pending, []
        fails = self._loop.random.random() < self._witness.failing
        answers = [(future, self._land(txn, fails)) for txn, future in pending]
        self._loop.call_later(self._latency_s(), self._tell, answers, context=inside(self.process))
        if self._pending:
            self._loop.call_later(self._latency_s(), self._write, context=inside(self.writer))
        else:
            self._is_writing = False

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

    def _tell(self, answers: list[tuple[asyncio.Future[Committed], Committed | StoreError]]) -> None:
        for future, answer in answers:
            if future.done():
                continue
            if isinstance(answer, StoreError):
                future.set_exception(answer)
                future.exception()
            else:
                future.set_result(answer)

    async def claim(self, demand: Mapping[Lane, int], wait_ms: int | None) -> list[Message]:
        """What was granted takes a moment to arrive."""
        messages = await super().claim(demand, wait_ms)
        if messages:
            try:
                await asyncio.sleep(self._latency_s())
            except asyncio.CancelledError:
                self._give_back([message.lease for message in messages])
                raise
        return messages

    def _grant(self, demand: Mapping[Lane, int]) -> list[Message]:
        messages = super()._grant(demand)
        if messages:
            self._witness.granted(self, messages)
        return messages

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
        self._drop_claim()
        while self._is_writing:
            await asyncio.sleep(0.001)
        await super().close_session()

    def _latency_s(self) -> float:
        return self._loop.random.randint(*LATENCY_US) * self._witness.slow / 1e6
