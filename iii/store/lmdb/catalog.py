"""What every group needs at hand: counters, lanes with their counts, who subscribes to what.

A copy in memory of `counter`, `lane` and `session`, kept by the writer thread alone. `begin` makes it true
again where another process has committed since; `flush` writes what the group changed, once per group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iii.model import ARCHIVE
from iii.store.contract import DEAD_RETENTION_MS, RETENTION_MS
from iii.store.kept import is_kept
from iii.store.lmdb.keys import (
    COUNTERS,
    COUNTERS_KEY,
    LANE_COUNTS,
    lane_counts_key,
    namespace_count_key,
    u32,
    u64,
)
from iii.store.lmdb.rows import LaneRow, Row, SessionEntry, decode_lane, decode_session, encode
from iii.store.lmdb.suspects import count_by_lane

if TYPE_CHECKING:
    import lmdb

    from iii.store.lmdb.environment import Tables

Fresh = tuple[int, int, Row]
"""(rank, id, row): a ready message of this group that no table holds yet. In their order; each id once."""


class LaneEntry:
    """One lane: its row, its exact counts, and the ready messages that this group has not written yet."""

    __slots__ = (
        "behind", "dead", "done", "expires", "failed", "fresh", "in_flight", "kept", "later", "leased",
        "max_depth", "max_in_flight", "number", "paused", "ready", "retention_ms", "served", "step",
        "suspects", "topic",
    )  # fmt: skip

    def __init__(self, number: int, row: LaneRow) -> None:
        self.number = number
        self.expires = row.step in ("", ARCHIVE)  # nothing is granted from these lanes
        self.kept = is_kept(row.topic, row.step)
        self.fresh: list[Fresh] = []
        self.suspects = 0  # of the ready ones
        self.in_flight = 0  # live leases of this store's session; `leased`: of all sessions
        self.set_counts((0, 0, 0, 0, 0, 0, 0))
        self.set_row(row)

    def set_row(self, row: LaneRow) -> None:
        self.topic, self.step, self.paused, self.served = row.topic, row.step, row.paused, row.served
        self.max_in_flight, self.max_depth = row.max_in_flight, row.max_depth
        self.retention_ms = row.retention_ms

    def row(self) -> LaneRow:
        return LaneRow(
            self.topic, self.step, self.paused, self.served,
            self.max_in_flight, self.max_depth, self.retention_ms,
        )  # fmt: skip

    def set_counts(self, counts: tuple[int, ...]) -> None:
        self.ready, self.later, self.behind, self.leased, self.dead, self.done, self.failed = counts

    def counts(self) -> tuple[int, int, int, int, int, int, int]:
        return (self.ready, self.later, self.behind, self.leased, self.dead, self.done, self.failed)

    def life_ms(self) -> int:
        """How long a message may be ready in a lane that `expires`."""
        if self.step == ARCHIVE:
            return DEAD_RETENTION_MS
        return RETENTION_MS if self.retention_ms is None else self.retention_ms


class Counters:
    """The numbers that were given last; `commit` is the one the running group will have."""

    __slots__ = ("audit", "catalog", "commit", "id", "lane", "run", "session", "version")

    def __init__(self, raw: bytes | None = None) -> None:
        self.set(COUNTERS.unpack(raw) if raw else (0,) * 8)

    def set(self, numbers: tuple[int, ...]) -> None:
        (
            self.commit, self.catalog, self.id, self.version,
            self.lane, self.session, self.run, self.audit,
        ) = numbers  # fmt: skip

    def numbers(self) -> tuple[int, ...]:
        return (
            self.commit, self.catalog, self.id, self.version,
            self.lane, self.session, self.run, self.audit,
        )  # fmt: skip


class Catalog:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._raw: bytes | None = b""
        self._generation = -1
        self.counters = Counters()
        self.lanes: dict[tuple[str, str], LaneEntry] = {}
        self.by_number: dict[int, LaneEntry] = {}
        self.subscribers: dict[str, tuple[LaneEntry, ...]] = {}
        self.sole: dict[str, LaneEntry] = {}
        self.waiting: set[LaneEntry] = set()  # the lanes of topics without a step
        self._idle: set[LaneEntry] = set()  # those of them that may hold nothing, beside the dirty ones
        self.kept: set[LaneEntry] = set()  # where answers are kept
        self.sessions: dict[int, SessionEntry] = {}
        self.namespace_counts: dict[str, int] = {}
        self.dirty: set[LaneEntry] = set()
        self.suspected: set[LaneEntry] = set()  # where suspects are ready

    # -- truth

    def begin(self, txn: lmdb.Transaction[bytes]) -> bool:
        """Be true for this write transaction; returns whether anybody else has written since the last one."""
        raw = txn.get(COUNTERS_KEY, db=self._tables.counter)
        if raw == self._raw:
            return False
        self._raw = raw
        self.counters = Counters(raw)
        if self.counters.catalog != self._generation:
            self._load_lanes(txn)
        self._load_counts(txn)
        return True

    def is_outdated(self, txn: lmdb.Transaction[bytes]) -> bool:
        """Whether lanes or sessions came, went or changed since the last group of this process."""
        return Counters(txn.get(COUNTERS_KEY, db=self._tables.counter)).catalog != self._generation

    def forget(self) -> None:
        """The transaction was aborted: nothing here is true any more."""
        self._raw, self._generation = b"", -1
        self.dirty.clear()
        self.namespace_counts.clear()

    def _load_lanes(self, txn: lmdb.Transaction[bytes]) -> None:
        self._generation = self.counters.catalog
        seen = set()
        for key, value in txn.cursor(self._tables.lane):
            (number,) = u32.unpack(key)
            seen.add(number)
            known, row = self.by_number.get(number), decode_lane(value)
            if known is not None and (known.topic, known.step) != (row.topic, row.step):
                self.drop(known)  # made by a group that failed; the number is another lane's now
                known = None
            if known is None:
                self._adopt(LaneEntry(number, row))
            else:
                known.set_row(row)
        for number in self.by_number.keys() - seen:
            self.drop(self.by_number[number])
        self.sessions = {
            u32.unpack(key)[0]: decode_session(value) for key, value in txn.cursor(self._tables.session)
        }
        self.find_subscribers()

    def _load_counts(self, txn: lmdb.Transaction[bytes]) -> None:
        self.namespace_counts.clear()
        self._idle = set(self.waiting)
        cursor = txn.cursor(self._tables.counter)
        counted = cursor.set_range(b"l")
        for lane in self.by_number.values():
            lane.fresh.clear()
            lane.set_counts((0, 0, 0, 0, 0, 0, 0))
        while counted and cursor.key()[:1] == b"l":
            self.by_number[u32.unpack(cursor.key()[1:])[0]].set_counts(LANE_COUNTS.unpack(cursor.value()))
            counted = cursor.next()
        self.suspected.clear()
        suspects = count_by_lane(txn, self._tables)
        for number, lane in self.by_number.items():
            lane.suspects = suspects[number]
            if lane.suspects:
                self.suspected.add(lane)

    def count_suspects(self, lane: LaneEntry, count: int) -> None:
        lane.suspects = count
        if count:
            self.suspected.add(lane)
        else:
            self.suspected.discard(lane)

    def flush(self, txn: lmdb.Transaction[bytes]) -> None:
        """Write what this group counted; the commit number says that a group was here."""
        self.counters.commit += 1
        raw = COUNTERS.pack(*self.counters.numbers())
        counter = self._tables.counter
        txn.put(COUNTERS_KEY, raw, db=counter)
        for lane in self.dirty:
            txn.put(lane_counts_key(lane.number), LANE_COUNTS.pack(*lane.counts()), db=counter)
        for namespace, count in self.namespace_counts.items():
            if count:
                txn.put(namespace_count_key(namespace), u64.pack(count), db=counter)
            else:
                txn.delete(namespace_count_key(namespace), db=counter)
        if self.waiting:
            self._idle |= self.dirty & self.waiting
        self.dirty.clear()
        self.namespace_counts.clear()
        self._raw, self._generation = raw, self.counters.catalog

    def concerns_others(self) -> bool:
        """Whether this group leaves other processes something: waiting messages, other lanes or sessions."""
        return self.counters.catalog != self._generation or any(
            lane.ready or lane.later for lane in self.dirty
        )

    # -- lanes

    def new_lane(self, topic: str, step: str) -> LaneEntry:
        """A lane nobody has used yet, in memory alone."""
        self.counters.lane += 1
        lane = LaneEntry(self.counters.lane, LaneRow(topic, step))
        self._adopt(lane)
        return lane

    def drop(self, lane: LaneEntry) -> None:
        del self.lanes[lane.topic, lane.step], self.by_number[lane.number]
        for lanes in (self.dirty, self.waiting, self._idle, self.kept, self.suspected):
            lanes.discard(lane)

    def find_idle(self) -> list[LaneEntry]:
        """The lanes of topics without a step in which there is no message, in the order they were made."""
        self._idle |= self.dirty & self.waiting
        self._idle = {lane for lane in self._idle if not any(lane.counts())}
        return sorted(self._idle, key=lambda lane: lane.number)

    def remember(self, lane: LaneEntry) -> None:
        """A lane that was dropped is there after all, and so are its rows."""
        self._adopt(lane)
        self.dirty.add(lane)

    def put_lane(self, txn: lmdb.Transaction[bytes], lane: LaneEntry) -> None:
        self.counters.catalog += 1
        txn.put(u32.pack(lane.number), encode(lane.row()), db=self._tables.lane)

    def _adopt(self, lane: LaneEntry) -> None:
        self.lanes[lane.topic, lane.step] = lane
        self.by_number[lane.number] = lane
        if not lane.step and not lane.topic.startswith("$"):
            self.waiting.add(lane)
            self._idle.add(lane)
        if lane.kept:
            self.kept.add(lane)

    def served_by_sessions(self) -> set[tuple[str, str]]:
        """The union of what the sessions on record subscribe to."""
        return {
            (policy.topic, policy.step)
            for session in self.subscribing()
            for policy in session.policies
            if policy.step
        }

    def subscribing(self) -> list[SessionEntry]:
        """The sessions on record but for quarantines, which only run what is there."""
        return [session for session in self.sessions.values() if session.suspects != "only"]

    def find_subscribers(self) -> None:
        """Which lanes a copy of an Enqueue goes to, by topic, in order of their steps.

        `sole`: the one lane of the topics that have but one, which can never be full.
        """
        found: dict[str, list[LaneEntry]] = {}
        for lane in self.lanes.values():
            if lane.served:
                found.setdefault(lane.topic, []).append(lane)
        self.subscribers = {
            topic: tuple(sorted(entries, key=lambda entry: entry.step)) for topic, entries in found.items()
        }
        self.sole = {
            topic: lanes[0]
            for topic, lanes in self.subscribers.items()
            if len(lanes) == 1 and lanes[0].max_depth is None
        }

    # -- namespaces

    def count_key(self, txn: lmdb.Transaction[Any], namespace: str, by: int) -> None:
        count = self.namespace_counts.get(namespace)
        if count is None:
            raw = txn.get(namespace_count_key(namespace), db=self._tables.counter)
            count = u64.unpack(raw)[0] if raw else 0
        self.namespace_counts[namespace] = count + by
