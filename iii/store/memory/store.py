"""MemoryStore: one process's door to MemoryTables, and who waits at it. Rules live in the modules beside.

    commit    tidy (due, expired) -> the Txn, whole or not at all -> ring
    ring      every store that shares the tables grants up to its levels and answers its waiting readers

Everything happens at once on the caller's loop; only time is waited for (a timer, or FakeClock's jumps).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from iii.clock import Clock, FakeClock, SystemClock
from iii.errors import Refusal, StoreClosed, StoreDamaged, StoreError
from iii.model import Change, Committed, Lane, LanePolicy, Lease, Message, Suspects, Txn
from iii.store.contract import Answer, Health, Limits, StoreFigures
from iii.store.limits import check, check_levels, check_policies
from iii.store.memory import changelog, kept, moves, sessions
from iii.store.memory.reads import MemoryReads
from iii.store.memory.tables import MemoryTables, Now
from iii.store.memory.transaction import Transaction
from iii.store.memory.verify import verify

__all__ = ["MemoryStore"]

EXPIRED_ROWS_MAX = 1_000  # per commit
T = TypeVar("T")


class Waiter(Generic[T]):
    """Somebody who waits until `look` finds something, or until the deadline (None = for ever)."""

    def __init__(self, look: Callable[[], list[T]], deadline_ms: int | None) -> None:
        self.look, self.deadline_ms = look, deadline_ms
        self.future: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()

    def answer(self, found: list[T]) -> None:
        if not self.future.done():
            self.future.set_result(found)


class MemoryStore(MemoryReads):
    """The Store protocol over plain tables. Stores made with the same `tables` are like several processes."""

    def __init__(
        self, clock: Clock | None = None, limits: Limits | None = None, *, tables: MemoryTables | None = None
    ) -> None:
        super().__init__(tables or MemoryTables())
        self.clock = clock or SystemClock()
        self.limits = limits or Limits()
        self._is_open = False
        self._session: int | None = None
        self._policies: Sequence[LanePolicy] = ()
        self._suspects: Suspects = "one"
        self._has_suspects = False  # as was told last
        self._tell_suspects: Callable[[bool], object] = bool
        self._levels: dict[Lane, int] = {}
        self._granted: list[Message] = []  # and not delivered
        self._credits: list[asyncio.Future[None]] = []  # answered by the next delivery
        self._deliver: Callable[[list[Message]], object] = list
        self._readers: list[Waiter[Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._undo_jump: Callable[[], None] = lambda: None

    @property
    def tables(self) -> MemoryTables:
        """What a second store is made with to share this one's state."""
        return self._tables

    async def open(self) -> None:
        if self._is_open:
            raise StoreError("the store is open already")
        self._is_open, self._loop = True, asyncio.get_running_loop()
        self._tables.doorbells.append(self.rung)
        self._undo_jump = self.clock.on_jump(self._tick)
        self._tick()

    async def close(self) -> None:
        if not self._is_open:
            return
        await self.close_session()
        self._detach()

    def on_damage(self, call: Callable[[StoreDamaged], object]) -> None:
        """Never: nothing lies on a disk."""

    def crash(self, *, unnoticed: bool = False) -> None:
        """Die as a killed process does: nothing is released. Peers notice at once, or when they look."""
        if self._session is not None:
            self._tables.dead_sessions.add(self._session)
        self._detach()
        if not unnoticed and self._tables.anybody_lives():
            self._atomically(sessions.recover_dead)

    def recover_dead(self) -> None:
        """Look now for sessions whose process died. Only a session does so."""
        if self._session is not None and self._tables.anybody_died():
            self._atomically(sessions.recover_dead)

    def rung(self) -> None:
        """Somebody committed: look what there is for whoever waits here."""
        self._answer()

    # -- writing

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        self._require_open()
        check(txn, self.limits)
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(self._commit(txn))
        except Refusal as refusal:
            future.set_exception(refusal)
        return future

    def post(self, txn: Txn, answer: Answer) -> None:
        def tell(future: asyncio.Future[Committed]) -> None:
            error = future.exception()
            if error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(cast(Exception, error))

        self.submit(txn).add_done_callback(tell)

    async def commit(self, txn: Txn) -> Committed:
        future = self.submit(txn)
        await asyncio.sleep(0)  # a commit is where others get their turn, as in a store that writes
        if self._granted:
            await asyncio.sleep(0)  # what it granted is delivered when it returns
        return future.result()

    def _commit(self, txn: Txn) -> Committed:
        if not txn.ops:
            return Committed(self.version(), [])
        return self._atomically(
            lambda tables, now: Transaction(tables, self.session, self.limits, now).run(txn)
        )

    # -- working

    async def open_session(self, policies: Sequence[LanePolicy], suspects: Suspects = "one") -> int:
        self._require_open()
        if self._session is not None:
            raise StoreError(f"this store has session {self._session} already: close_session() first")
        check_policies(policies, self.limits)
        self._policies, self._suspects = tuple(policies), suspects
        self._atomically(sessions.recover_dead)
        self._session = self._enter()
        self._look_for_suspects()
        return self._session

    def _enter(self) -> int:
        return self._atomically(
            lambda tables, now: sessions.enter_session(tables, self._policies, self._suspects, now)
        )

    def _renew(self) -> None:
        """Peers buried this session, which stood still for long: its leases are gone, a new one goes on."""
        if self._session is not None and self._session not in self._tables.session:
            self._session = None
            self._session = self._enter()

    async def close_session(self) -> None:
        session, self._session = self._session, None
        self._levels.clear()
        if session is not None and session in self._tables.session:
            self._atomically(lambda tables, now: sessions.leave_session(tables, session, now))

    def credit(self, levels: Mapping[Lane, int]) -> Awaitable[None]:
        self._require_open()
        if self._session is None:
            raise StoreError("only a session is granted messages: open_session() first")
        check_levels(levels)
        self._set_levels(levels)
        self._tidy()
        self._renew()
        self._grant()
        delivered: asyncio.Future[None] = self._loop.create_future()
        self._credits.append(delivered)
        self._deliver_soon()
        return delivered

    def _set_levels(self, levels: Mapping[Lane, int]) -> None:
        """None of 0 is kept."""
        self._levels = {lane: level for lane, level in {**self._levels, **levels}.items() if level}

    def on_deliver(self, call: Callable[[list[Message]], object]) -> None:
        self._deliver = call

    @property
    def session(self) -> int:
        return self._session or 0

    def show(self, health: Health, requests: Callable[[], int]) -> None:
        """Nobody lists the instances of a store that only this process sees."""

    def has_idle_peer(self) -> bool:
        return False

    def on_suspects(self, call: Callable[[bool], object]) -> None:
        self._tell_suspects = call

    def _look_for_suspects(self) -> None:
        found = self._tables.has_suspects()
        if self._session is not None and found is not self._has_suspects:
            self._has_suspects = found
            self._loop.call_soon(self._tell_suspects, found)

    def start(self, lease: Lease) -> None:
        with self._tables.atomic():
            if (lease.session, lease.id) in self._tables.leased:
                self._tables.started.put((lease.session, lease.id), lease.token)

    def end(self, lease: Lease) -> None:
        started, key = self._tables.started, (lease.session, lease.id)
        with self._tables.atomic():  # of a process that has died nothing is heard any more
            if lease.session == self._session and started.get(key) == lease.token:
                started.pop(key)

    def blame(self, message_ids: Collection[int]) -> None:
        """A store that ends with its process leaves nobody to tell."""

    def _grant(self) -> None:
        if self._session is None or not self._levels:
            return
        with self._tables.atomic():
            granted = sessions.grant(self._tables, self._session, self._levels)
        if granted:
            self._granted += granted
            self._deliver_soon()

    def _deliver_soon(self) -> None:
        """Behind the answers of the commit that granted, which the loop has still to call."""
        self._loop.call_soon(self._loop.call_soon, self._deliver_now)

    def _deliver_now(self) -> None:
        granted, self._granted = self._granted, []
        self._answer_credits()
        if mine := [message for message in granted if message.lease.session == self._session]:
            self._deliver(mine)

    def _answer_credits(self) -> None:
        credits, self._credits = self._credits, []
        for credit in credits:
            if not credit.done():
                credit.set_result(None)

    # -- following

    async def changes(self, after: int, limit: int, wait_ms: int | None) -> list[Change]:
        self._require_open()
        waiter = Waiter(lambda: self._changes(after, limit), self._deadline_ms(wait_ms))
        found = waiter.look()
        if found or wait_ms == 0:
            return found
        return await self._wait(waiter)

    async def gone(self, session: int) -> None:
        self._require_open()
        waiter = Waiter(lambda: [] if session in self._tables.session else [session], None)
        if not waiter.look():
            await self._wait(waiter)

    async def _wait(self, waiter: Waiter[T]) -> list[T]:
        self._readers.append(waiter)
        self._arm()
        try:
            return await waiter.future
        finally:
            if waiter in self._readers:
                self._readers.remove(waiter)

    def _changes(self, after: int, limit: int) -> list[Change]:
        found: list[Change] = []
        for _, change in self._tables.change.scan(after + 1):
            if len(found) >= limit:
                break
            found.append(change)
        return found

    # -- care

    def figures(self) -> StoreFigures:
        tables = self._tables
        return StoreFigures(
            commits=tables.last("commit"),
            changes_bytes=tables.last(changelog.BYTES),
            changes_held_by=changelog.held_by(tables, self.limits),
            kept_bytes=tables.last(kept.BYTES),
            kept_answers=kept.answers(tables),
            kept_evicted=tables.last(kept.EVICTED),
            kept_bytes_max=self.limits.kept_bytes_max,
        )

    def verify(self) -> list[str]:
        return verify(self._tables)

    async def backup(self, dest: Path) -> None:
        raise StoreError(f"a memory store has no file to copy to {dest}: use store type lmdb")

    # -- time and turns

    def _atomically(self, work: Callable[[MemoryTables, Now], T]) -> T:
        """Run `work` as one commit of its own, after what is due by now; then tell everybody."""
        self._tidy()
        try:
            with self._tables.atomic():
                present = self._present()
                done = work(self._tables, self._now())
                if self._present() != present:
                    changelog.note_sessions(self._tables, self.limits)
                return done
        finally:
            self._ring()

    def _present(self) -> list[int]:
        return [id for id, _ in self._tables.session.scan()]

    def _tidy(self) -> bool:
        """Promote what is due and expire what is over; True when the latter has more to do."""
        now_ms = self.clock.delay_ms()
        with self._tables.atomic():
            moves.promote_due(self._tables, now_ms)
            return moves.expire(self._tables, now_ms, EXPIRED_ROWS_MAX) == EXPIRED_ROWS_MAX

    def _ring(self) -> None:
        """This store's own session comes first: its commit grants to it directly."""
        if self._is_open:
            self._answer()
        for doorbell in tuple(self._tables.doorbells):
            doorbell()

    def _answer(self) -> None:
        """Grant what the levels leave room for; answer the readers for whom there is something."""
        self._renew()
        self._grant()
        self._look_for_suspects()
        for reader in tuple(self._readers):
            if not reader.future.done() and (found := reader.look()):
                reader.answer(found)
        self._arm()

    def _tick(self) -> None:
        """The clock went on: by a timer, or because somebody turned it."""
        while self._tidy():
            pass
        self._ring()
        now_ms = self.clock.delay_ms()
        for waiter in self._waiters():
            if waiter.deadline_ms is not None and waiter.deadline_ms <= now_ms:
                waiter.answer([])

    def _arm(self) -> None:
        """Set the timer to the next time something happens by itself; a FakeClock tells instead."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(self.clock, FakeClock) or not self._is_open:
            return
        times = [waiter.deadline_ms for waiter in self._waiters() if waiter.deadline_ms is not None]
        if (next_ms := moves.next_ms(self._tables)) is not None:
            times.append(next_ms)
        if times:
            wait_s = max(0, min(times) - self.clock.delay_ms() + 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _waiters(self) -> list[Waiter[Any]]:
        return [reader for reader in self._readers if not reader.future.done()]

    def _deadline_ms(self, wait_ms: int | None) -> int | None:
        return None if wait_ms is None else self.clock.delay_ms() + wait_ms

    def _now(self) -> Now:
        return Now(self.clock.delay_ms(), self.clock.wall_ms())

    def _now_ms(self) -> int:
        return self.clock.delay_ms()

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreClosed("the store is not open")

    def _detach(self) -> None:
        self._is_open, self._session = False, None
        self._levels.clear()
        self._answer_credits()
        for reader in self._readers:
            reader.answer([])
        self._undo_jump()
        if self.rung in self._tables.doorbells:
            self._tables.doorbells.remove(self.rung)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
