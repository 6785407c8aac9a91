"""What can be asked of the store: each question one short read transaction on the caller's thread.

Reads take no lock and see the last commit of any process; they hold nothing open that makes the file grow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, get_args

import lmdb

from iii.clock import Clock
from iii.errors import StoreDamaged
from iii.model import Change, Entry, Lane, LaneStats, MessageState, SessionRow, Waiting
from iii.store.contract import Held
from iii.store.lmdb.damage import explained
from iii.store.lmdb.environment import Environment, Tables
from iii.store.lmdb.epochs import Epochs
from iii.store.lmdb.histories import shares_of
from iii.store.lmdb.keys import (
    BEHIND,
    BEHIND_HEAD,
    BODY,
    COUNTERS,
    COUNTERS_KEY,
    LANE_COUNTS,
    LATER,
    LEASE,
    LEASE_HEAD,
    READY,
    STATE_HEAD,
    UNIQUE,
    UNIQUE_VALUE,
    hash16,
    lane_counts_key,
    u32,
    u64,
)
from iii.store.lmdb.rows import LaneRow, decode_change, decode_lane, decode_row, decode_session
from iii.store.message_ids import number_of

STATES: tuple[MessageState, ...] = get_args(MessageState)
OLDEST_ROWS_MAX = 64

Txn: TypeAlias = "lmdb.Transaction[bytes]"


class Snapshot:
    """A read transaction. What LMDB or a row's decoder raises within it leaves as an error of the tree."""

    __slots__ = ("_file", "_found", "_txn")

    def __init__(self, txn: Txn, file: Path, found: Callable[[StoreDamaged], object]) -> None:
        self._txn, self._file, self._found = txn, file, found

    def __enter__(self) -> Txn:
        return self._txn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._txn.abort()
        if isinstance(error, Exception) and (told := explained(error, self._file)) is not None:
            if isinstance(told, StoreDamaged):
                self._found(told)
            raise told from error


class Reads(ABC):
    """The reading half of the Store protocol. `_opened` and `_tables` are there while the store is open."""

    clock: Clock
    _opened: Environment
    _tables: Tables
    _epochs: Epochs

    @abstractmethod
    def _require_open(self) -> None:
        """StoreClosed unless the store is open, StoreDamaged once it was found to be."""

    @abstractmethod
    def damaged(self, error: StoreDamaged) -> None:
        """The file is found to be damaged; any thread."""

    def _read(self) -> Snapshot:
        self._require_open()
        opened = self._opened
        return Snapshot(opened.begin_read(), opened.file, self.damaged)

    # -- state

    def get(self, namespace: str, key: str) -> Entry | None:
        with self._read() as txn:
            raw = txn.get(namespace.encode() + b"\0" + key.encode(), db=self._tables.state)
        return None if raw is None else _entry(namespace, key, raw)

    def scan(self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Entry]:
        base = namespace.encode() + b"\0"
        wanted = base + prefix.encode()
        start = max(wanted, base + after.encode() + b"\0") if after else wanted
        with self._read() as txn:
            rows = under(txn, self._tables.state, wanted, start)
            return [_entry(namespace, key[len(base) :].decode(), raw) for key, raw in islice(rows, limit)]

    def namespaces(self) -> list[tuple[str, int]]:
        with self._read() as txn:
            return [
                (key[1:].decode(), u64.unpack(raw)[0])
                for key, raw in under(txn, self._tables.counter, b"n")
                if key[1:2] != b"$"
            ]

    def version(self) -> int:
        with self._read() as txn:
            raw = txn.get(COUNTERS_KEY, db=self._tables.counter)
        return 0 if raw is None else COUNTERS.unpack(raw)[3]

    def _changes(self, after: int, limit: int) -> list[Change]:
        found = []
        with self._read() as txn:
            for key, raw in islice(under(txn, self._tables.change, b"", u64.pack(after + 1)), limit):
                row = decode_change(raw)
                version = u64.unpack(key)[0]
                found.append(Change(version, row.namespace, row.key, row.old, row.new, row.headers))
        return found

    def mark(self, name: str) -> int | None:
        with self._read() as txn:
            raw = txn.get(name.encode(), db=self._tables.mark) if name else None
        return None if raw is None else u64.unpack(raw)[0]

    def marks(self, prefix: str) -> dict[str, int]:
        with self._read() as txn:
            rows = under(txn, self._tables.mark, prefix.encode())
            return {key.decode(): u64.unpack(raw)[0] for key, raw in rows}

    def records(
        self, kind: Literal["run", "audit"], *, limit: int = 100, before: int | None = None
    ) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        with self._read() as txn:
            cursor = txn.cursor(self._tables.run if kind == "run" else self._tables.audit)
            if before is not None and cursor.set_range(u64.pack(max(before, 0))):
                placed = cursor.prev()
            else:
                placed = cursor.last()
            while placed and len(found) < limit:
                found.append((u64.unpack(cursor.key())[0], cursor.value()))
                placed = cursor.prev()
        return found

    def held(self) -> Held:
        with self._read() as txn:
            return shares_of(txn, self._tables).held()

    # -- what messages are called

    def message_id(self, number: int) -> str:
        known = self._epochs.known
        if known.newest <= number <= known.to:  # as most are that are asked for
            return f"{known.prefix}{number}"
        if number > known.to:  # another process gave it since
            with self._read() as txn:
                self._epochs.load(txn)
            known = self._epochs.known
        return f"{known.prefix_of(number)}{number}"

    def number_of(self, message_id: str) -> int | None:
        return number_of(message_id, self.message_id)

    # -- queues

    def stats(self) -> list[LaneStats]:
        with self._read() as txn:
            rows = [self._lane_stats(txn, number, row) for number, row in self._lanes(txn)]
        return sorted(rows, key=lambda row: (row.topic, row.step))

    def _lane_stats(self, txn: Txn, number: int, row: LaneRow) -> LaneStats:
        raw = txn.get(lane_counts_key(number), db=self._tables.counter)
        ready, later, behind, leased, dead, done, failed = LANE_COUNTS.unpack(raw) if raw else (0,) * 7
        oldest_ms = self._oldest_ms(txn, number) if ready else None
        return LaneStats(
            row.topic, row.step, ready, later, behind, leased, dead, done, failed,
            oldest_ms, row.paused, row.served,
        )  # fmt: skip

    def _oldest_ms(self, txn: Txn, number: int) -> int | None:
        """The earliest enqueue among the first rows of each rank: ids are given in order of time."""
        oldest: int | None = None
        rank = 0
        while rank < 256:
            rows = under(txn, self._tables.ready, u32.pack(number), READY.pack(number, rank, 0))
            first = next(rows, None)
            if first is None:
                break
            rank = READY.unpack(first[0])[1]
            same = under(txn, self._tables.ready, READY.pack(number, rank, 0)[:5])
            for _, record in islice(same, OLDEST_ROWS_MAX):
                enqueued_ms = decode_row(record).enqueued_ms
                oldest = enqueued_ms if oldest is None else min(oldest, enqueued_ms)
            rank += 1
        return oldest

    def waiting(
        self, topic: str, *, step: str | None = None, states: Iterable[MessageState] = (), limit: int = 100
    ) -> list[Waiting]:
        wanted = set(states) or set(STATES)
        with self._read() as txn:
            lanes = {
                number: row
                for number, row in sorted(self._lanes(txn), key=lambda each: (each[1].topic, each[1].step))
                if row.topic == topic and step in (None, row.step)
            }
            found: list[Waiting] = []
            for state in STATES:
                if state in wanted and len(found) < limit:
                    found += islice(self._rows(txn, state, lanes), limit - len(found))
            return found

    def _rows(self, txn: Txn, state: MessageState, lanes: dict[int, LaneRow]) -> Iterator[Waiting]:
        """The messages of a state in these lanes, as Store.waiting orders them."""
        if state == "ready":
            for number, lane in lanes.items():
                for key, record in under(txn, self._tables.ready, u32.pack(number)):
                    _, rank, id = READY.unpack(key)
                    yield self._waiting(txn, number, lane, id, "ready", 255 - rank, record)
        elif state == "later":
            for key, value in under(txn, self._tables.later, b""):
                due_ms, id, number = LATER.unpack(key)
                if number in lanes:
                    yield self._waiting(txn, number, lanes[number], id, "later", value[0], value[1:], due_ms)
        elif state == "behind":
            for number, lane in lanes.items():
                rows = under(txn, self._tables.behind, u32.pack(number))
                for id, value in sorted((BEHIND.unpack(key)[2], value) for key, value in rows):
                    _, priority = BEHIND_HEAD.unpack_from(value)
                    record = value[BEHIND_HEAD.size :]
                    yield self._waiting(txn, number, lane, id, "behind", priority, record)
        else:
            yield from self._leased(txn, lanes)

    def _leased(self, txn: Txn, lanes: dict[int, LaneRow]) -> Iterator[Waiting]:
        leased: dict[int, list[tuple[int, int, int, bytes]]] = {number: [] for number in lanes}
        for key, value in under(txn, self._tables.lease, b""):
            _, number, priority = LEASE_HEAD.unpack_from(value)
            if number in leased:
                session, id = LEASE.unpack(key)
                leased[number].append((id, session, priority, value[LEASE_HEAD.size :]))
        for number, rows in leased.items():
            for id, session, priority, record in sorted(rows):
                yield self._waiting(
                    txn, number, lanes[number], id, "leased", priority, record, session=session
                )

    def _waiting(
        self, txn: Txn, number: int, lane: LaneRow, id: int, state: MessageState, priority: int,
        record: bytes, due_ms: int | None = None, session: int = 0,
    ) -> Waiting:  # fmt: skip
        row = decode_row(record)
        payload = row.payload
        if payload is None:
            payload = txn.get(BODY.pack(number, id), db=self._tables.body) or b""
        return Waiting(
            id, lane.topic, lane.step, state, priority, row.attempts, payload, row.headers, row.group,
            row.enqueued_ms, due_ms, row.error, row.crashes, row.dead, session, row.alone,
        )  # fmt: skip

    def known(self, topic: str, step: str, unique_key: str) -> Waiting | None:
        with self._read() as txn:
            for number, lane in self._lanes(txn):
                if (lane.topic, lane.step) == (topic, step):
                    return self._known(txn, number, lane, unique_key)
        return None

    def _known(self, txn: Txn, number: int, lane: LaneRow, unique_key: str) -> Waiting | None:
        raw = txn.get(UNIQUE.pack(number, hash16(unique_key)), db=self._tables.unique)
        if raw is None:
            return None
        id, until_ms = UNIQUE_VALUE.unpack(raw)
        if until_ms <= self.clock.delay_ms():
            return None
        record = txn.get(READY.pack(number, 255 - 128, id), db=self._tables.ready)
        return None if record is None else self._waiting(txn, number, lane, id, "ready", 128, record)

    def sessions(self) -> list[SessionRow]:
        with self._read() as txn:
            rows = [
                (u32.unpack(key)[0], decode_session(raw))
                for key, raw in under(txn, self._tables.session, b"")
            ]
        return [
            SessionRow(
                id,
                entry.pid,
                entry.opened_ms,
                sorted({(policy.topic, policy.step) for policy in entry.policies if policy.step}),
                entry.suspects,
            )
            for id, entry in rows
        ]

    def _is_on_record(self, session: int) -> bool:
        with self._read() as txn:
            return txn.get(u32.pack(session), db=self._tables.session) is not None

    def unsettled(self, lanes: Iterable[Lane] | None = None) -> int:
        asked = None if lanes is None else {tuple(lane) for lane in lanes}
        total = 0
        with self._read() as txn:
            for number, row in self._lanes(txn):
                if row.served and (asked is None or (row.topic, row.step) in asked):
                    raw = txn.get(lane_counts_key(number), db=self._tables.counter)
                    total += sum(LANE_COUNTS.unpack(raw)[:4]) if raw else 0
        return total

    def _lanes(self, txn: Txn) -> Iterator[tuple[int, LaneRow]]:
        for key, raw in txn.cursor(self._tables.lane):
            yield u32.unpack(key)[0], decode_lane(raw)


def under(txn: Txn, db: lmdb._Database, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Rows whose key begins with `prefix`, from `start` on."""
    cursor = txn.cursor(db)
    placed = cursor.set_range(start or prefix) if start or prefix else cursor.first()
    while placed:
        key, value = cursor.item()
        if not key.startswith(prefix):
            return
        yield key, value
        placed = cursor.next()


def _entry(namespace: str, key: str, raw: bytes) -> Entry:
    version, updated_ms = STATE_HEAD.unpack_from(raw)
    return Entry(namespace, key, raw[STATE_HEAD.size :], version, updated_ms)
