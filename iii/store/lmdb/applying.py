"""One group inside its write transaction: what is due, its items in their order, then the grants.

Owns whether the leases in memory are those of the file. `apply`, then `flush` where that wrote something;
`forget` where the transaction came to nothing.
"""

from __future__ import annotations

import time

import lmdb

from iii.clock import Clock
from iii.errors import LeaseLost, StoreFull
from iii.model import Txn
from iii.store import keeping
from iii.store.contract import Limits
from iii.store.limits import check
from iii.store.lmdb import sessions, suspects, sweep
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.changelog import ChangeLog
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.epochs import Epochs
from iii.store.lmdb.grant import Granting
from iii.store.lmdb.group import Call, Credit, Group, Item, Meter
from iii.store.lmdb.keys import LEASE
from iii.store.lmdb.room import Room, ShortOfRoom
from iii.store.lmdb.worker import is_dead

__all__ = ["Applying"]

CHANGE_TIMES = 2
"""A value lies in the change log as a new one, and as an old one later."""


class Applying:
    """The writer thread's."""

    def __init__(
        self,
        applier: Applier,
        environment: Environment,
        clock: Clock,
        limits: Limits,
        room: Room,
        meter: Meter,
        epochs: Epochs,
    ) -> None:
        self.log = ChangeLog(
            environment.tables, limits, lambda session: not is_dead(environment.path, session)
        )
        self._epochs = epochs
        self._generation = -1  # of the catalog, when the epochs were seen last
        self._settled = False  # in which epoch this process writes
        self._applier, self._tables, self._clock = applier, environment.tables, clock
        self._limits, self._room, self._meter = limits, room, meter
        self._stale = True  # the leases in memory are to be read again
        self._sessions_told: object = None
        self.suspects = False  # as of the last group or look

    def apply(
        self, txn: lmdb.Transaction[bytes], items: list[Item], group: Group, due_ms: int, *, grants: bool
    ) -> None:
        """Everything but what `flush` writes. due_ms: when something was due next after the last group."""
        applier = self._applier
        applier.begin(txn, self._clock.delay_ms(), self._clock.wall_ms())
        self._see_others(txn, group, due_ms)
        present = applier.catalog.sessions
        self._run(items, group)
        if applier.catalog.sessions is not present:
            self.log.note_sessions(txn)
        if grants and applier.levels and applier.session in applier.catalog.sessions:
            granting_ns = time.perf_counter_ns()
            self._delete_settled(group)  # one may be granted again at once, under the same key
            group.granted = Granting(applier).grant()
            self._meter.grant_ns += time.perf_counter_ns() - granting_ns
        group.suspects = self.suspects = applier.session > 0 and suspects.wait(applier.catalog.suspected)
        if applier.catalog.sessions is not self._sessions_told:
            self._sessions_told = applier.catalog.sessions
            group.sessions = list(self._sessions_told)

    def flush(self, txn: lmdb.Transaction[bytes], group: Group) -> None:
        """Write what was gathered in memory."""
        applier = self._applier
        if not self._settled:
            self._epochs.settle(txn, applier.catalog.counters)
            self._settled = True
        self._delete_settled(group)
        for lane in applier.catalog.dirty:
            if lane.fresh:
                applier.spill(lane)
        applier.state.flush()
        changed = applier.state.changed
        group.changed = changed > 0
        group.concerns_others = group.changed or applier.catalog.concerns_others()
        applier.histories.flush(txn, applier.now_ms)
        applier.kept.flush(applier)
        if changed or self.log.over:
            self.log.grown(txn, applier.catalog.counters.version, changed, applier.wall_ms)
        applier.catalog.flush(txn)

    def set_levels(self, credit: Credit) -> bool:
        """Whether one is raised: then there may be something to grant."""
        levels, raised = self._applier.levels, False
        for lane, level in credit.levels.items():
            raised = raised or level > levels.get(lane, 0)
            if level:
                levels[lane] = level
            else:
                levels.pop(lane, None)
        return raised

    def look_for_suspects(self, txn: lmdb.Transaction[bytes]) -> bool:
        """Whether what is known of the suspects has changed; the catalog's lanes are those of the file."""
        listed, by_number = suspects.count_by_lane(txn, self._tables), self._applier.catalog.by_number
        found = self._applier.session > 0 and suspects.wait(by_number[number] for number in listed)
        before, self.suspects = self.suspects, found
        return self.suspects is not before

    def forget(self) -> None:
        """Nothing of the group is in the file."""
        self._applier.catalog.forget()
        self._applier.histories.forget()
        self._applier.kept.forget()
        self._stale, self._settled = True, False

    def _see_others(self, txn: lmdb.Transaction[bytes], group: Group, due_ms: int) -> None:
        """What other processes wrote since the last group, and what has become due."""
        applier = self._applier
        foreign = applier.catalog.begin(txn)
        if foreign:
            applier.histories.see_others()
            applier.kept.forget()
        applier.wrote = applier.wrote or applier.kept.more
        if foreign and applier.catalog.counters.catalog != self._generation:
            self._generation = applier.catalog.counters.catalog
            self._epochs.load(txn)
        if applier.session and applier.session not in applier.catalog.sessions:
            group.session_lost = applier.session
            applier.forget_live()
        elif self._stale:
            sessions.load_live(applier)
        self._stale = False
        if foreign or due_ms <= applier.now_ms:
            sweep.sweep(applier)
        if (foreign or self.log.over) and self.log.look(txn, applier.wall_ms):
            applier.wrote = True

    def _run(self, items: list[Item], group: Group) -> None:
        applier = self._applier
        answers, run, room = group.answers, applier.run, self._room
        weighed = room.tight or self.log.over
        for item in items:
            if type(item) is tuple:
                if weighed and (refusal := self._refusal(item[0])) is not None:
                    answers.append((item[1], refusal))
                else:
                    answers.append((item[1], run(item[0])))
            elif type(item) is Credit:
                self.set_levels(item)
                answers.append((item.future, None))
            else:
                assert type(item) is Call
                self._delete_settled(group)  # it may read the rows of leases
                answers.append((item.future, item.apply(applier)))

    def _refusal(self, txn: Txn) -> StoreFull | None:
        """Why this Txn is refused, there being little room. ShortOfRoom where some can be made first."""
        if self._room.tight and (reason := self._room.refusal(txn)) is not None:
            if self.log.spare:
                raise ShortOfRoom(reason)
            return StoreFull(reason)
        log, most = self.log, self._limits.changes_bytes_max
        if log.held_by is None or not keeping.leaves_changes(txn):
            return None
        if log.size < keeping.refused_from(txn, most) or self._settles_a_change(txn):
            log.size += CHANGE_TIMES * check(txn, self._limits)
            return None
        return keeping.held_reason(log.held_by, log.size, most)

    def _settles_a_change(self, txn: Txn) -> bool:
        """Whether the message of a state trigger ends with it: while these do not end, the log is held."""
        try:
            lanes = [self._applier.find_lease(op.lease)[1] for op in keeping.settlements(txn)]
        except LeaseLost:
            return True  # refused for that
        return any(lane.topic.startswith(keeping.CHANGES) for lane in lanes)

    def _delete_settled(self, group: Group) -> None:
        applier = self._applier
        if not applier.settled:
            return
        cursor = applier.txn.cursor(applier.tables.lease)
        session, at, go_to = applier.session, cursor.key, cursor.set_key
        for id in sorted(applier.settled):
            key = LEASE.pack(session, id)
            if at() == key or go_to(key):
                cursor.delete()  # and on to the next one
        group.ended += applier.settled
        applier.settled.clear()
