"""LmdbStore: the Store protocol over one LMDB file, for any number of processes on one machine.

    loop     submit, credit, changes: hand items to the writer and wait; reads go straight to the file
    writer   commits groups (writer.py) and hands back what came of them, once per group

Must not know how rows lie (keys.py) or what ops mean (apply.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iii.clock import Clock
from iii.core import BatchFull
from iii.errors import StoreClosed, StoreDamaged, StoreError, StoreFull
from iii.model import (
    Committed,
    Lane,
    LanePolicy,
    Lease,
    Message,
    Suspects,
    Txn,
)
from iii.store.contract import Answer, Limits
from iii.store.limits import check, check_levels, check_policies
from iii.store.lmdb import backup, environment
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.damage import explaining
from iii.store.lmdb.disk import no_access
from iii.store.lmdb.doorbell import Ringer
from iii.store.lmdb.environment import CHECKED_BYTES_MAX, MAP_BYTES, Environment, Fsync
from iii.store.lmdb.epochs import Epochs
from iii.store.lmdb.following import Following
from iii.store.lmdb.group import OP_BYTES, Call, Credit, Group, Meter, Probe
from iii.store.lmdb.hearts import Hearts
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import Heartbeat, refuse_foreign
from iii.store.lmdb.machine import refuse_network_filesystem
from iii.store.lmdb.mapping import FORKED, poison_after_fork
from iii.store.lmdb.membership import Membership
from iii.store.lmdb.patience import Patience
from iii.store.lmdb.presence import require_the_expected
from iii.store.lmdb.verify import verify
from iii.store.lmdb.waiting import Waiters
from iii.store.lmdb.writer import Writer
from iii.threads import in_thread

_NOT_OPEN = "the store is not open"


class LmdbStore(Following):
    """`map_bytes`: how large the file may become; it is sparse. `checked_bytes_max`: a file of up to that is
    looked at page by page before it is used (100 MB a second).

    `patience`: with processes that stand still. `number`: which of its supervisor's instances this one is.

    `create`: whether it is made where there is none, StoreGone otherwise.

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
        checked_bytes_max: int = CHECKED_BYTES_MAX,
        create: bool = True,
        patience: Patience | None = None,
        number: int = 0,
        probe: Probe | None = None,
    ) -> None:
        self.patience, self.number = patience or Patience(), number
        self.path, self.limits = Path(path).absolute(), (limits or Limits()).within(map_bytes)
        self._given_clock, self._fsync, self._map_bytes, self._probe = clock, fsync, map_bytes, probe
        self._checked_bytes_max = checked_bytes_max
        self._create, self._expected_ms = create, 0
        self._closed: str | StoreDamaged | None = _NOT_OPEN
        self._deliver: Callable[[list[Message]], object] = list
        self._suspects = False  # whether some are ready, as was told last
        self._tell_suspects: Callable[[bool], object] = bool
        self._damage_listeners: list[Callable[[StoreDamaged], object]] = []
        self._environment: Environment | None = None
        self._rescue: Heartbeat | None = None
        self._room: list[asyncio.Future[None]] = []

    # -- opening and closing

    def expect(self, made_ms: int) -> None:
        """Before it is opened: the store made at this time has to be there, StoreGone otherwise."""
        self._create, self._expected_ms = False, made_ms

    async def open(self) -> None:
        if self._environment is not None:
            raise StoreError("the store is open already")
        opened = None
        try:
            refuse_network_filesystem(self.path)
            refuse_foreign(self.path)
            opened = environment.acquire(
                self.path,
                self._fsync,
                self._map_bytes,
                self._begin_rescue,
                self._checked_bytes_max,
                create=self._create,
            )
            require_the_expected(opened.file, opened.made_ms, self._expected_ms)
            self._begin_rescue()
            self.clock = self._given_clock or opened.anchored_clock()
        except BaseException as error:
            self._end_rescue()
            if opened is not None:
                environment.release(opened)
            if isinstance(error, OSError):
                raise no_access(Path(error.filename or self.path), error) from error
            raise
        self._holder.leave()
        self._environment = opened
        self._loop = asyncio.get_running_loop()
        self._opened, self._tables = opened, opened.tables
        self._ringer = Ringer(self.path)
        self._membership = Membership(self, self._holder, self._ringer)
        self._readers = Waiters(self.clock)
        self._epochs = Epochs(opened, self._holder)
        self._writer = Writer(
            opened, self, self._holder, self._loop, self.clock, self.limits, self._probe, self._epochs
        )
        self._undo_jump = self.clock.on_jump(self._jumped)
        self._closed = None
        poison_after_fork(self)
        self._writer.start()

    @property
    def made_ms(self) -> int:
        """When this store was made, by the wall clock; a backup of it says the same."""
        return self._opened.made_ms

    def _begin_rescue(self) -> None:
        """From here on this process waits for transactions: one stopped inside its own must not stop it."""
        if self._rescue is None:
            self._holder = Holder(self.path, self.patience.lock_beats)
            self._hearts = Hearts(self.path, self.patience.lock_beats)
            self._holder.serve(0, self._hearts.stand_still)  # until there is a session
            self._rescue = Heartbeat([self._hearts.sample, self._holder.unfreeze])
            self._rescue.start()
        self._holder.want()

    def _end_rescue(self) -> None:
        rescue, self._rescue = self._rescue, None
        if rescue is not None:
            rescue.stop()
            self._hearts.close()
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
        await in_thread(self._writer.stop)
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
        await self._end()

    def poison(self) -> None:
        """This is a forked child: what was inherited belongs to the parent."""
        self._closed = FORKED

    def _require_open(self) -> None:
        closed = self._closed
        if closed is not None:
            raise StoreDamaged(str(closed)) if isinstance(closed, StoreDamaged) else StoreClosed(closed)

    # -- damage

    def on_damage(self, call: Callable[[StoreDamaged], object]) -> None:
        self._damage_listeners.append(call)

    def damaged(self, error: StoreDamaged) -> None:
        """From now on nothing is read or written; who waits hears why. Any thread."""
        if self._closed is None:
            self._closed = error
            self._writer.give_up(error)
            self._loop.call_soon_threadsafe(self._tell_of_damage, error)

    def _tell_of_damage(self, error: StoreDamaged) -> None:
        self._readers.look()
        self._make_room()
        for call in self._damage_listeners:
            call(error)

    # -- writing

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        self._require_open()
        future: asyncio.Future[Committed] = self._loop.create_future()
        self.post(txn, future)
        return future

    def post(self, txn: Txn, answer: Answer) -> None:
        try:
            self._post(txn, answer)
        except BatchFull as full:
            raise StoreFull(
                f"too much is waiting for the disk ({full}): slow down, or use commit()"
            ) from None

    def commit(self, txn: Txn) -> Awaitable[Committed]:
        self._require_open()
        future: asyncio.Future[Committed] = self._loop.create_future()
        try:
            self._post(txn, future)
        except BatchFull:
            return self._commit_when_there_is_room(txn)
        return future

    async def _commit_when_there_is_room(self, txn: Txn) -> Committed:
        while True:
            room: asyncio.Future[None] = self._loop.create_future()
            self._room.append(room)
            await room
            self._require_open()
            future: asyncio.Future[Committed] = self._loop.create_future()
            try:
                self._post(txn, future)
            except BatchFull:
                continue
            return await future

    def _post(self, txn: Txn, answer: Answer) -> None:
        if self._closed is not None:
            self._require_open()
        size = check(txn, self.limits)
        if txn.ops:
            self._writer.submit((txn, answer), size + OP_BYTES * len(txn.ops))
        else:
            answer.set_result(Committed(self.version(), []))

    # -- what the writer tells

    def answer(self, group: Group) -> None:
        for future, answer in group.answers:
            if not future.done():
                if type(answer) is Committed or not isinstance(answer, Exception):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
        worker = self._membership.worker
        if worker is not None:
            worker.own.settled(group.ended)
        if group.granted and group.granted[0].lease.session == self.session:
            self._deliver(group.granted)
        if group.suspects is not None and group.suspects is not self._suspects:
            self._suspects = group.suspects
            self._tell_suspects(group.suspects)
        if group.changed or group.sessions is not None:
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

    # -- sessions

    async def open_session(self, policies: Sequence[LanePolicy], suspects: Suspects = "one") -> int:
        self._require_open()
        check_policies(policies, self.limits)
        return await self._membership.enter(policies, suspects)

    async def close_session(self) -> None:
        if self._closed is None:
            await self._membership.leave()
        elif isinstance(self._closed, StoreDamaged):
            self._membership.drop(remove=True)  # its leases stay; whoever takes them back counts no crash

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
        with explaining(self._opened.file):
            self._opened.env.reader_check()

    def rung(self) -> None:
        """Somebody committed: look what there is for whoever waits here."""
        if self._closed is None:
            self._writer.stir()
            self._readers.look()

    def _jumped(self) -> None:
        """The clock was turned by hand, in whatever thread."""
        self._writer.stir()
        self._loop.call_soon_threadsafe(self._readers.check_deadlines)

    # -- working

    def credit(self, levels: Mapping[Lane, int]) -> asyncio.Future[None]:
        self._require_open()
        if not self._membership.works:
            raise StoreError("only a session is granted messages: open_session() first")
        check_levels(levels)
        future: asyncio.Future[None] = self._loop.create_future()
        self._writer.submit(Credit(dict(levels), future), 0)
        return future

    def on_deliver(self, call: Callable[[list[Message]], object]) -> None:
        self._deliver = call

    def on_suspects(self, call: Callable[[bool], object]) -> None:
        self._tell_suspects = call

    def start(self, lease: Lease) -> None:
        worker = self._membership.worker
        if worker is not None and lease.session == worker.session:
            worker.own.start(lease.id)

    def end(self, lease: Lease) -> None:
        worker = self._membership.worker
        if worker is not None and lease.session == worker.session and self._closed is not FORKED:
            worker.own.end(lease.id)

    def blame(self, message_ids: Collection[int]) -> None:
        worker = self._membership.worker
        if worker is not None:
            worker.own.blame(message_ids)

    # -- care

    def verify(self) -> list[str]:
        if not isinstance(self._closed, StoreDamaged):
            self._require_open()
        return verify(self._opened)

    async def backup(self, dest: Path) -> None:
        self._require_open()
        await in_thread(lambda: backup.backup(self._opened, Path(dest)))
