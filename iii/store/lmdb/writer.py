"""The writer: a thread per store commits everything pending as one group and grants what has credit.

    take what is pending -> begin -> sweep what is due -> each Txn checks and applies -> grant -> commit
    -> tell the loop

The thread blocks without polling: a submitted item, the doorbell, a turned clock or the next due row
wake it. Where there is no room the group is aborted, and the change log gives what nobody needs of it; where
that is not enough, settlements go first, the rest one by one, and the losers get StoreFull.
"""

from __future__ import annotations

import logging
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Sequence

import lmdb

from iii.clock import Clock
from iii.core import Batch
from iii.errors import StoreClosed, StoreDamaged, StoreError
from iii.store.contract import Limits
from iii.store.lmdb import sweep
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.applying import Applying
from iii.store.lmdb.catalog import Catalog
from iii.store.lmdb.changelog import ROWS_MAX, ChangeLog
from iii.store.lmdb.damage import explained
from iii.store.lmdb.disk import refused
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.epochs import Epochs
from iii.store.lmdb.grant import may_grant
from iii.store.lmdb.group import Credit, Group, Item, Meter, Owner, Probe, answer_of
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.keys import NEVER_MS
from iii.store.lmdb.precedence import Precedence
from iii.store.lmdb.room import NEW_WORK, Room, ShortOfRoom, is_no_room, rank

PENDING_BYTES_MAX = 64 << 20
SYNC_S = 1.0
FAILURE_PAUSE_MS = 1_000
SMALL_TRIMS = (16, 1)

_log = logging.getLogger("iii.store")


class Writer:
    def __init__(
        self,
        environment: Environment,
        owner: Owner,
        holder: Holder,
        loop: AbstractEventLoop,
        clock: Clock,
        limits: Limits,
        probe: Probe | None,
        epochs: Epochs,
    ) -> None:
        self.pending: Batch[Item] = Batch(PENDING_BYTES_MAX)
        self.meter = Meter()
        self.applier = Applier(environment.tables, Catalog(environment.tables), limits)
        self._environment, self._owner, self._holder, self._loop = environment, owner, holder, loop
        self._clock, self._limits, self._probe, self._epochs = clock, limits, probe, epochs
        self._precedence = Precedence()
        self._signal = threading.Lock()
        self._signal.acquire()
        self._stopping = self._killed = self._stirred = False
        self._turned = False  # suspects are ready, or none any more, as nobody knows yet
        self._commits = 0
        self._room = Room(environment, limits)
        self._applying = Applying(self.applier, environment, clock, limits, self._room, self.meter, epochs)
        self._damaged: StoreDamaged | None = None
        self._next_ms = 0
        self._unsynced_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="iii-writer", daemon=True)

    @property
    def log(self) -> ChangeLog:
        """The change log as the writer's thread saw it last."""
        return self._applying.log

    def start(self) -> None:
        self._thread.start()

    def submit(self, item: Item, size: int) -> None:
        """On the loop. BatchFull where too many bytes are pending.

        The first item of a batch wakes the writer, but only after everything the loop has ready now has run:
        the group is larger then, and the two threads do not fight for the interpreter's lock.
        """
        if self.pending.append(item, size):
            self._loop.call_soon(self.wake)
        if self._precedence.taken:
            self._precedence.give_way()

    def wake(self) -> None:
        """Any thread; cheap when the writer is awake already."""
        try:
            self._signal.release()
        except RuntimeError:  # it has been signalled and not gone to sleep since
            pass

    def stir(self) -> None:
        """Another process committed, or the clock was turned: look what there is to do."""
        self._stirred = True
        self.wake()

    def give_up(self, error: StoreDamaged) -> None:
        """Any thread: commit nothing more; what is pending is answered with `error`."""
        self._damaged = error
        self.wake()

    def stop(self) -> None:
        """Commit what is pending and end. Returns when the thread has ended."""
        self._stopping = True
        self.wake()
        self._thread.join()

    def kill(self) -> None:
        """End without committing what is pending, as a SIGKILL would (tests)."""
        self._killed = True
        self.stop()

    # -- the thread

    def _run(self) -> None:
        """Whatever fails outside a group is reported and the thread goes on: without it nothing commits."""
        ended = False
        while not ended:
            try:
                ended = self._turn()
            except Exception as error:
                if self._is_damage(error) is None:
                    _log.exception("the writer of %s stumbled", self._environment.path)
                self._pause()
        self._refuse(self.pending.swap(), StoreClosed("the store was closed before this was committed"))

    def _turn(self) -> bool:
        """Sleep, then commit what there is; True when the thread is to end."""
        self._sleep()
        if self._killed:
            return True
        items = self.pending.swap()
        stirred, self._stirred = self._stirred, False
        if self._damaged is not None:
            self._next_ms = NEVER_MS
            self._refuse(items, self._damaged)
            return self._stopping
        if stirred and (gone := self._gone()) is not None:
            self._fail(items, gone)
            return False
        if not items and self._stopping:  # what is due waits for the next process
            self._sync(force=True)
            return True
        if all(type(item) is Credit for item in items):
            self._look_for_work(items, stirred)
        else:
            self._commit_group(items)
        return False

    def _look_for_work(self, credits: list[Item], stirred: bool) -> None:
        """Levels that are set need no transaction where there is nothing to grant; a raised one looks."""
        for credit in credits:
            if type(credit) is Credit and self._applying.set_levels(credit):
                stirred = True
        works = self._turned = False
        try:
            works = self._is_due() or (stirred and self._may_have_work())
        finally:
            if not works and (credits or self._turned):
                answers = [(answer_of(credit), None) for credit in credits]
                self._tell(Group(answers, suspects=self._applying.suspects))
        if works:
            self._commit_group(credits)

    def _refuse(self, items: Sequence[Item], reason: StoreError) -> None:
        """A level is set although its group failed."""
        for item in items:
            if type(item) is Credit:
                self._applying.set_levels(item)
        if items:
            self._tell(Group([(answer_of(item), None if type(item) is Credit else reason) for item in items]))

    def _sleep(self) -> None:
        """Until there is something to do."""
        if self._stopping or self._next_ms <= self._clock.delay_ms():
            self._signal.acquire(blocking=False)
            return
        timeout_s = -1.0
        if self._next_ms != NEVER_MS:
            timeout_s = min(max(0.0, (self._next_ms - self._clock.delay_ms()) / 1000), 86_400.0)
        if self._unsynced_since is not None:
            left_s = max(0.0, self._unsynced_since + SYNC_S - time.monotonic())
            timeout_s = left_s if timeout_s < 0 else min(timeout_s, left_s)
        self._signal.acquire(timeout=timeout_s)
        self._sync(force=False)

    def _gone(self) -> StoreDamaged | None:
        """Whether the store's files are where they were; looked at once a second where there is a session."""
        try:
            self._environment.presence.require()
            self._holder.require_same_file()
        except StoreDamaged as error:
            return error
        return None

    def _is_due(self) -> bool:
        return self._next_ms <= self._clock.delay_ms()

    def _may_have_work(self) -> bool:
        """Looked up in a read transaction: taking the write lock for nothing would stop the others."""
        opened = self._environment
        try:
            with opened.writing, opened.env.begin() as txn:
                self._next_ms = sweep.next_ms(txn, opened.tables)
                if self.applier.catalog.is_outdated(txn):  # who has come is watched from now on
                    return True
                self._turned = self._applying.look_for_suspects(txn)
                return self._is_due() or may_grant(self.applier, txn)
        except lmdb.MapResizedError:
            return True

    def _sync(self, *, force: bool) -> None:
        since = self._unsynced_since
        if since is not None and (force or time.monotonic() - since >= SYNC_S):
            self._environment.env.sync(True)
            self._unsynced_since = None

    # -- a group

    def _commit_group(self, items: list[Item]) -> None:
        try:
            try:
                self._room.before_group()
                group = self._attempt(items)
            except lmdb.MapResizedError:
                self._environment.follow_map(self._loop)
                group = self._attempt(items)
        except Exception as error:
            short = isinstance(error, ShortOfRoom)
            if not short and not is_no_room(error):
                self._fail(items, error)
            elif self._make_room() or short:
                self._commit_group(items)
            else:
                self._commit_in_parts(items)
            return
        self._tell(group)

    def _make_room(self) -> bool:
        """Let what nobody needs of the change log go: its pages serve the next group. Whether there was any.

        Removing rows takes pages too, so few of them go at once where many are too much."""
        log, made = self._applying.log, False
        for rows_max in (ROWS_MAX, *SMALL_TRIMS):
            try:
                while self._trim(rows_max):
                    made = True
                return made
            except lmdb.Error as error:
                if not is_no_room(error):
                    break  # the group will meet it too, and says so
        log.spare = False
        return made

    def _trim(self, rows_max: int) -> bool:
        """A transaction of its own, whose rows are none that a catalog counts."""
        self._holder.want()
        try:
            with self._environment.writing, self._environment.env.begin(write=True) as txn:
                self._holder.enter()
                return self._applying.log.give_way(txn, rows_max, self._clock.wall_ms())
        finally:
            self._holder.leave()

    def _attempt(self, items: list[Item], *, grants: bool = True) -> Group:
        """All of the items in one transaction."""
        probe, number = self._probe, self._commits + 1
        if probe is not None:
            probe("before", number)
        group = Group([])
        self._holder.want()
        asked_ns = time.perf_counter_ns()
        try:
            with self._environment.writing, self._environment.env.begin(write=True) as txn:
                self._holder.enter()
                locked_ns = time.perf_counter_ns()
                with self._precedence:
                    self._applying.apply(txn, items, group, self._next_ms, grants=grants)
                    if self.applier.wrote:
                        self._applying.flush(txn, group)
                    self._next_ms = sweep.next_ms(txn, self._environment.tables)
                    if self._applying.log.more or self.applier.kept.more:
                        self._next_ms = 0
                if not self.applier.wrote:
                    txn.abort()
                    return group
                applied_ns = time.perf_counter_ns()
                if probe is not None:
                    probe("applied", number)
        except BaseException:
            self._applying.forget()
            raise
        finally:
            self._holder.leave()
        self._commits, group.committed = number, True
        self.applier.state.committed()
        self._epochs.landed(self.applier.catalog.counters)
        meter = self.meter
        meter.groups += 1
        meter.items += len(items)
        meter.lock_ns += locked_ns - asked_ns
        meter.apply_ns += applied_ns - locked_ns
        meter.commit_ns += time.perf_counter_ns() - applied_ns
        if self._environment.fsync == "interval" and self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        if probe is not None:
            probe("after", number)
        if group.concerns_others:
            self._owner.landed(self.applier.catalog.sessions)
        return group

    def _tell(self, group: Group) -> None:
        try:
            self._loop.call_soon_threadsafe(self._owner.answer, group)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return
        if group.committed:
            self._holder.hand_on()

    # -- when it goes wrong

    def _commit_in_parts(self, items: list[Item]) -> None:
        """The map or the disk is full: settlements go first and together, then what is granted, then the rest
        singly, new work last. What these leave ready is looked at after a while."""
        ranked: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
        for item in items:
            ranked[rank(item[0]) if type(item) is tuple else NEW_WORK].append(item)
        settling, with_effects, others = ranked
        if settling:
            self._attempt_part(settling)
        self._attempt_part([], grants=True)  # which asks for room of its own
        for item in (*with_effects, *others):
            self._attempt_part([item])
        self._pause()

    def _attempt_part(self, items: list[Item], *, grants: bool = False) -> None:
        try:
            self._room.look()
            self._applying.log.spare = False  # it has given what it had
            self._tell(self._attempt(items, grants=grants))
        except Exception as error:
            if is_no_room(error):
                self._refuse(items, refused(self._environment.file, error))
            else:
                self._fail(items, error)

    def _pause(self) -> None:
        """What is due or may be granted has failed, or needs room that is not there: not before a while."""
        self._next_ms = self._clock.delay_ms() + FAILURE_PAUSE_MS

    def _fail(self, items: list[Item], error: Exception) -> None:
        """Nothing of the group was written; whoever waits hears why."""
        reason: StoreError | None = self._is_damage(error)
        if reason is None:
            _log.error("a group of %d items failed and wrote nothing", len(items), exc_info=error)
            reason = StoreError(f"the commit failed and wrote nothing: {error}")
            reason.__cause__ = error
        self._pause()
        self._refuse(items, reason)

    def _is_damage(self, error: Exception) -> StoreDamaged | None:
        """Where `error` means that the file is damaged: said to the store, which lets nothing in any more."""
        found = error if isinstance(error, StoreDamaged) else explained(error, self._environment.file)
        if not isinstance(found, StoreDamaged):
            return None
        self._owner.damaged(found)
        return found
