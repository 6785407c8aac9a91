"""LmdbStore: the Store protocol over one LMDB file, for any number of processes on one machine.

    loop     submit, claim, changes: hand items to the writer and wait; reads go straight to the file
    writer   commits groups (writer.py) and hands back what came of them, once per group

Must not know how rows lie (keys.py) or what ops mean (apply.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iii.clock import Clock
from iii.core import BatchFull
from iii.errors import InputError, StoreClosed, StoreError, StoreFull
from iii.model import (
    ARCHIVE,
    Change,
    Committed,
    Enqueue,
    Lane,
    LanePolicy,
    Lease,
    Merge,
    Message,
    Put,
    Record,
    Txn,
)
from iii.store.contract import Limits
from iii.store.limits import check, check_lane
from iii.store.lmdb import environment, sessions
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.doorbell import Ringer
from iii.store.lmdb.environment import MAP_BYTES, Environment, Fsync
from iii.store.lmdb.group import Call, Claim, Group, Meter, Probe
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import Heartbeat, refuse_foreign
from iii.store.lmdb.machine import refuse_network_filesystem
from iii.store.lmdb.mapping import FORKED, poison_after_fork
from iii.store.lmdb.membership import Membership
from iii.store.lmdb.reads import Reads
from iii.store.lmdb.verify import verify
from iii.store.lmdb.waiting import Deadline, Waiters
from iii.store.lmdb.writer import Writer

OP_BYTES = 256
"""What an op without content counts against the pending bytes."""

_CONTENT: dict[type, str] = {Enqueue: "payload", Put: "value", Merge: "patch", Record: "content"}

LOOK_S = 0.05
"""How often a reader looks for other processes' commits where there is no session, so nothing to ring."""

_NOT_OPEN = "the store is not open"


class LmdbStore(Reads):
    """`map_bytes`: how large the file may become; it is sparse.

    `fsync`: "commit" survives a power cut, "meta" may lose the last commits in one, "interval" may corrupt
    the file in one. `probe(stage, commit number)` is called on the writer's thread before, inside ("applied")
    and after each commit: tests kill there.
    """

    clock: Clock

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        fsync: Fsync = "commit",
        map_bytes: int = MAP_BYTES,
        probe: Probe | None = None,
    ) -> None:
        self.path, self.limits = Path(path).absolute(), limits or Limits()
        self._given_clock, self._fsync, self._map_bytes, self._probe = clock, fsync, map_bytes, probe
        self._closed: str | None = _NOT_OPEN
        self._environment: Environment | None = None
        self._rescue: Heartbeat | None = None
        self._claim: Claim | None = None
        self._claim_deadline: Deadline | None = None
        self._room: list[asyncio.Future[None]] = []

    # -- opening and closing

    async def open(self) -> None:
        if self._environment is not None:
            raise StoreError("the store is open already")
        refuse_network_filesystem(self.path)
        refuse_foreign(self.path)
        opened = None
        try:
            opened = environment.acquire(self.path, self._fsync, self._map_bytes, self._begin_rescue)
            self._begin_rescue()
            self.clock = self._given_clock or opened.anchored_clock()
        except BaseException:
            self._end_rescue()
            if opened is not None:
                environment.release(opened)
            raise
        self._holder.leave()
        self._environment = opened
        self._loop = asyncio.get_running_loop()
        self._env, self._tables = opened.env, opened.tables
        self._ringer = Ringer(self.path)
        self._membership = Membership(self, self._holder, self._ringer)
        self._readers: Waiters[Change] = Waiters(self.clock)
        self._writer = Writer(opened, self, self._holder, self._loop, self.clock, self.limits, self._probe)
        self._undo_jump = self.clock.on_jump(self._jumped)
        self._closed = None
        poison_after_fork(self)
        self._writer.start()

    def _begin_rescue(self) -> None:
        """From here on this process waits for transactions: one stopped inside its own must not stop it."""
        if self._rescue is None:
            self._holder = Holder(self.path)
            self._rescue = Heartbeat([self._holder.unfreeze])
            self._rescue.start()
        self._holder.want()

    def _end_rescue(self) -> None:
        rescue, self._rescue = self._rescue, None
        if rescue is not None:
            rescue.stop()
            self._holder.close()

    async def close(self) -> None:
        if self._environment is None or self._closed == FORKED:
            return
        try:
            await self.close_session()
        finally:
            self._closed = _NOT_OPEN
            await self._end()

    async def _end(self) -> None:
        self._undo_jump()
        await self._membership.cancel()
        self._readers.answer_all()
        self._make_room()  # for nobody: who waits for it hears that the store is closed
        await asyncio.to_thread(self._writer.stop)
        await asyncio.sleep(0)  # what the writer told the loop last
        self._ringer.close()
        self._end_rescue()
        opened, self._environment = self._environment, None
        assert opened is not None
        environment.release(opened)

    async def crash(self) -> None:
        """End as a killed process does, within this process (tests): nothing lands, nothing is released."""
        if self._environment is None:
            return
        self._closed = _NOT_OPEN
        self._writer.kill()
        self._membership.drop()
        self._drop_claim()
        await self._end()

    def poison(self) -> None:
        """This is a forked child: what was inherited belongs to the parent."""
        self._closed = FORKED

    def _require_open(self) -> None:
        if self._closed is not None:
            raise StoreClosed(self._closed)

    # -- writing

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        try:
            return self._submit(txn)
        except BatchFull as full:
            raise StoreFull(
                f"too much is waiting for the disk ({full}): slow down, or use commit()"
            ) from None

    async def commit(self, txn: Txn) -> Committed:
        while True:
            try:
                return await self._submit(txn)
            except BatchFull:
                room: asyncio.Future[None] = self._loop.create_future()
                self._room.append(room)
                await room

    def _submit(self, txn: Txn) -> asyncio.Future[Committed]:
        if self._closed is not None:
            raise StoreClosed(self._closed)
        check(txn, self.limits)
        future: asyncio.Future[Committed] = self._loop.create_future()
        if txn.ops:
            self._writer.submit((txn, future), _weight(txn))
        else:
            future.set_result(Committed(self.version(), []))
        return future

    # -- what the writer tells

    def deliver(self, group: Group) -> None:
        for future, answer in group.answers:
            if not future.done():
                if type(answer) is Committed or not isinstance(answer, Exception):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
        worker = self._membership.worker
        if worker is not None:
            end = worker.own.end
            for id in group.ended:
                end(id)
        for claim, messages in group.granted:
            self._answer_claim(claim, messages)
        if group.changed:
            self._readers.look()
        if self._room:
            self._make_room()
        if group.sessions is not None:
            self._membership.on_record(group.sessions)
        if group.session_lost:
            self._membership.buried(group.session_lost)

    def _make_room(self) -> None:
        rooms, self._room = self._room, []
        for room in rooms:
            if not room.done():
                room.set_result(None)

    def landed(self, session_ids: Iterable[int]) -> None:
        own = self._writer.applier.session
        self._ringer.ring(session for session in session_ids if session != own)

    def _answer_claim(self, claim: Claim, messages: list[Message]) -> None:
        if not claim.future.done():
            claim.future.set_result(messages)
        elif messages:
            leases = [message.lease for message in messages]
            self._give_back(leases)

    def _give_back(self, leases: list[Lease]) -> None:
        """Nobody saw these messages: they return as they were."""
        if self._closed is None:
            future = self._loop.create_future()
            self._writer.submit(Call(lambda applier: sessions.give_back_leases(applier, leases), future), 0)

    # -- sessions

    async def open_session(self, policies: Sequence[LanePolicy]) -> int:
        self._require_open()
        for policy in policies:
            check_lane(policy.topic, policy.step, self.limits.name_bytes_max)
            if policy.step == ARCHIVE:
                raise InputError(
                    f"nobody subscribes to an archive: redrive it, or subscribe to {policy.topic}"
                )
        return await self._membership.enter(policies)

    async def close_session(self) -> None:
        self._drop_claim()
        if self._closed is None:
            await self._membership.leave()

    @property
    def meter(self) -> Meter:
        """What this process's writer has done since the store was opened."""
        return self._writer.meter

    async def recover_dead(self) -> None:
        """Look now for sessions whose process died; otherwise peers notice within a second."""
        self._require_open()
        await self._membership.recover_dead()

    async def call(self, apply: Callable[[Applier], Any]) -> Any:
        self._require_open()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._writer.submit(Call(apply, future), 0)
        return await future

    def check_readers(self) -> None:
        self._env.reader_check()

    def rung(self) -> None:
        """Somebody committed: look what there is for whoever waits here."""
        if self._closed is None:
            self._writer.stir()
            self._readers.look()

    def _jumped(self) -> None:
        """The clock was turned by hand, in whatever thread."""
        self._writer.stir()
        self._loop.call_soon_threadsafe(self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._readers.check_deadlines()
        if self._claim_deadline is not None:
            self._claim_deadline.check()

    # -- working

    async def claim(self, demand: Mapping[Lane, int], wait_ms: int | None) -> list[Message]:
        self._require_open()
        if self._membership.worker is None:
            raise StoreError("only a session claims: open_session() first")
        for lane in demand:
            if lane.step in ("", ARCHIVE):
                raise InputError(f"nobody claims from lane {lane}: subscribe a step to {lane.topic}")
        self._drop_claim()
        future: asyncio.Future[list[Message]] = self._loop.create_future()
        claim = Claim(dict(demand), future, once=wait_ms == 0)
        self._writer.submit(claim, 0)
        if wait_ms != 0:
            self._claim = claim
        if wait_ms:
            self._claim_deadline = Deadline(self.clock, wait_ms, claim.drop)
        try:
            return await future
        except asyncio.CancelledError:
            claim.dropped = True
            if future.done() and not future.cancelled():
                self._give_back([message.lease for message in future.result()])
            raise
        finally:
            if self._claim is claim:
                self._claim = None
                self._cancel_deadline()

    def _drop_claim(self) -> None:
        if self._claim is not None:
            self._claim.drop()
            self._claim = None
            self._cancel_deadline()

    def _cancel_deadline(self) -> None:
        deadline, self._claim_deadline = self._claim_deadline, None
        if deadline is not None:
            deadline.cancel()

    def start(self, lease: Lease) -> None:
        worker = self._membership.worker
        if worker is not None and lease.session == worker.session:
            worker.own.start(lease.id)

    # -- following

    async def changes(self, after: int, limit: int, wait_ms: int | None) -> list[Change]:
        self._require_open()
        found = self._changes(after, limit)
        if found or wait_ms == 0:
            return found
        look_s = None if self._membership.worker is not None else LOOK_S
        return await self._readers.wait(lambda: self._changes(after, limit), wait_ms, look_s)

    # -- care

    def verify(self) -> list[str]:
        self._require_open()
        assert self._environment is not None
        return verify(self._environment)

    async def backup(self, dest: Path) -> None:
        self._require_open()
        assert self._environment is not None
        await asyncio.to_thread(self._environment.copy, Path(dest))


def _weight(txn: Txn) -> int:
    """About how much memory a pending Txn takes."""
    size = 0
    for op in txn.ops:
        kind = type(op)
        size += OP_BYTES
        if kind in _CONTENT:
            size += len(getattr(op, _CONTENT[kind]))
    return size
