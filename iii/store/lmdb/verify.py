"""Every invariant of the tables, recounted in one snapshot. Knows no event: it judges what lies there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import lmdb

from iii.model import ARCHIVE
from iii.store.lmdb.catalog import LaneEntry
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.keys import (
    BEHIND,
    BEHIND_HEAD,
    BODY,
    BODY_BYTES_MIN,
    COUNTERS,
    COUNTERS_KEY,
    EXPIRES_READY,
    EXPIRES_UNIQUE,
    EXPIRY_HEAD,
    GROUP,
    LANE_COUNTS,
    LATER,
    LEASE,
    LEASE_HEAD,
    READY,
    STATE_HEAD,
    UNIQUE_VALUE,
    hash16,
    u32,
    u64,
)
from iii.store.lmdb.moves import expiry_key
from iii.store.lmdb.rows import Row, decode_change, decode_lane, decode_row, decode_session

Message = tuple[str, int, int, Row]
"""(table, lane, id, row)"""

HEADS = ("ready", "later", "lease")


def verify(environment: Environment) -> list[str]:
    """The broken invariants as sentences; [] when all hold."""
    with environment.env.begin() as txn:
        return list(_Check(environment, txn).findings())


class _Check:
    def __init__(self, environment: Environment, txn: lmdb.Transaction[bytes]) -> None:
        self._txn, self._tables = txn, environment.tables
        raw = txn.get(COUNTERS_KEY, db=self._tables.counter)
        numbers = COUNTERS.unpack(raw) if raw else (0,) * 8
        self._commit, _, self._id, self._version, self._lane, self._session, self._run, self._audit = numbers
        self._lanes = {
            u32.unpack(key)[0]: LaneEntry(u32.unpack(key)[0], decode_lane(value))
            for key, value in txn.cursor(self._tables.lane)
        }
        self._sessions = {u32.unpack(key)[0] for key, _ in txn.cursor(self._tables.session)}
        self._keys: dict[str, set[bytes]] = {"expiry": set(), "body": set()}
        self._heads: dict[tuple[int, bytes], list[int]] = {}
        self._behind: list[tuple[int, bytes, int]] = []

    def findings(self) -> Iterator[str]:
        counted: dict[int, Counter[str]] = {number: Counter() for number in self._lanes}
        places: dict[int, str] = {}
        for table, number, id, row in self._messages():
            if number not in self._lanes:
                yield f"message {id} in {table} is of lane {number}, which does not exist"
                continue
            yield from self._place(places, table, id)
            counted[number][table] += 1
            yield from self._grouped(table, number, id, row)
            yield from self._body(number, id, row)
            if row.dead is not None and self._lanes[number].step == ARCHIVE:
                origin = self._lane_number(row.dead.topic, row.dead.step)
                if origin is None:
                    yield f"dead letter {id} comes from a lane that does not exist"
                else:
                    counted[origin]["dead"] += 1
        yield from self._counts(counted)
        yield from self._groups()
        yield from self._left_over()
        yield from self._uniques()
        yield from self._state()
        yield from self._served()

    # -- messages

    def _messages(self) -> Iterator[Message]:
        tables = self._tables
        for key, record in self._txn.cursor(tables.ready):
            number, rank, id = READY.unpack(key)
            row = decode_row(record)
            lane = self._lanes.get(number)
            if lane is not None and lane.expires:
                self._keys["expiry"].add(expiry_key(lane, rank, id, row.expires_ms))
            yield "ready", number, id, row
        for key, value in self._txn.cursor(tables.later):
            _, id, number = LATER.unpack(key)
            yield "later", number, id, decode_row(value[1:])
        for key, value in self._txn.cursor(tables.behind):
            number, group, id = BEHIND.unpack(key)
            self._behind.append((number, group, id))
            yield "behind", number, id, decode_row(value[BEHIND_HEAD.size :])
        for key, value in self._txn.cursor(tables.lease):
            _, id = LEASE.unpack(key)
            _, number, _ = LEASE_HEAD.unpack_from(value)
            yield "lease", number, id, decode_row(value[LEASE_HEAD.size :])

    def _place(self, places: dict[int, str], table: str, id: int) -> Iterator[str]:
        if id in places:
            yield f"message {id} is in {places[id]} and in {table}"
        if id > self._id:
            yield f"message {id} is newer than the newest id {self._id}"
        places[id] = table

    def _grouped(self, table: str, number: int, id: int, row: Row) -> Iterator[str]:
        if row.group is not None and table in HEADS:
            self._heads.setdefault((number, hash16(row.group)), []).append(id)
        elif row.group is None and table == "behind":
            yield f"message {id} is behind without a group"

    def _body(self, number: int, id: int, row: Row) -> Iterator[str]:
        if row.payload is None:
            key = BODY.pack(number, id)
            self._keys["body"].add(key)
            if self._txn.get(key, db=self._tables.body) is None:
                yield f"message {id} has no body"
        elif len(row.payload) > BODY_BYTES_MIN:
            yield f"message {id} keeps {len(row.payload)} bytes of payload in its record"

    def _groups(self) -> Iterator[str]:
        rows = {
            (key_parts[0], key_parts[1]): u64.unpack(value)[0]
            for key, value in self._txn.cursor(self._tables.group)
            for key_parts in [GROUP.unpack(key)]
        }
        for group, ids in self._heads.items():
            if [rows.get(group)] != ids:
                yield f"a group of lane {group[0]} has head {rows.get(group)}, but {ids} are out in front"
        for group, head in rows.items():
            if group not in self._heads:
                yield f"a group of lane {group[0]} has head {head}, which is in no table"
        for number, hashed, id in self._behind:
            if (number, hashed) not in rows:
                yield f"message {id} is behind a group without a head"

    def _counts(self, counted: dict[int, Counter[str]]) -> Iterator[str]:
        for number, counts in counted.items():
            lane = self._lanes[number]
            raw = self._txn.get(b"l" + u32.pack(number), db=self._tables.counter)
            stored = LANE_COUNTS.unpack(raw) if raw else (0,) * 7
            names = ("ready", "later", "behind", "lease", "dead")
            for name, count in zip(names, stored, strict=False):
                if count != counts[name]:
                    yield f"lane {lane.topic}/{lane.step} counts {count} {name}, there are {counts[name]}"
            if number > self._lane:
                yield f"lane {number} is newer than the newest lane {self._lane}"

    def _left_over(self) -> Iterator[str]:
        """Rows that nothing refers to, and leases of sessions that are not there."""
        for key, value in self._txn.cursor(self._tables.lease):
            session, id = LEASE.unpack(key)
            if session not in self._sessions:
                yield f"message {id} is leased to session {session}, which does not exist"
            if LEASE_HEAD.unpack_from(value)[0] > self._commit:
                yield f"the lease of message {id} was granted by a commit that has not happened"
        for key, _ in self._txn.cursor(self._tables.body):
            if key not in self._keys["body"]:
                yield f"the body of message {BODY.unpack(key)[1]} belongs to no message"
        for key, _ in self._txn.cursor(self._tables.unique):
            until = self._txn.get(key, db=self._tables.unique)
            assert until is not None
            self._keys["expiry"].add(EXPIRY_HEAD.pack(UNIQUE_VALUE.unpack(until)[1], EXPIRES_UNIQUE) + key)
        expiry = {key for key, _ in self._txn.cursor(self._tables.expiry)}
        for key in expiry ^ self._keys["expiry"]:
            what = "ready message" if key[8] == EXPIRES_READY else "unique key"
            yield f"a {what} {'expires that is not there' if key in expiry else 'never expires'}"

    def _uniques(self) -> Iterator[str]:
        for key, value in self._txn.cursor(self._tables.unique):
            id, _ = UNIQUE_VALUE.unpack(value)
            if u32.unpack_from(key)[0] not in self._lanes:
                yield f"a unique key of message {id} is of a lane that does not exist"
            if id > self._id:
                yield f"a unique key stands for message {id}, newer than the newest id {self._id}"

    # -- the rest

    def _state(self) -> Iterator[str]:
        counted: Counter[str] = Counter()
        versions: set[int] = set()
        for key, value in self._txn.cursor(self._tables.state):
            namespace = key.partition(b"\0")[0].decode()
            counted[namespace] += 1
            version, _ = STATE_HEAD.unpack_from(value)
            if version > self._version or version in versions:
                yield f"{key!r} has version {version}, which is taken or has not happened"
            versions.add(version)
        stored = {
            key[1:].decode(): u64.unpack(value)[0]
            for key, value in self._txn.cursor(self._tables.counter)
            if key[:1] == b"n"
        }
        if stored != dict(counted):
            yield f"namespaces count {stored}, there are {dict(counted)}"
        for key, value in self._txn.cursor(self._tables.change):
            version = u64.unpack(key)[0]
            if version > self._version:
                yield f"change {version} is newer than the newest version {self._version}"
            row = decode_change(value)
            if row.old == row.new:
                yield f"change {version} of {row.namespace}/{row.key} changed nothing"

    def _served(self) -> Iterator[str]:
        served = set()
        for key, value in self._txn.cursor(self._tables.session):
            if u32.unpack(key)[0] > self._session:
                yield f"session {u32.unpack(key)[0]} is newer than the newest session {self._session}"
            served |= {
                (policy.topic, policy.step) for policy in decode_session(value).policies if policy.step
            }
        if self._sessions:
            for lane in self._lanes.values():
                if lane.served != ((lane.topic, lane.step) in served):
                    yield f"lane {lane.topic}/{lane.step} says served={lane.served}, the sessions do not"
        for table, newest in ((self._tables.run, self._run), (self._tables.audit, self._audit)):
            cursor = self._txn.cursor(table)
            if cursor.last() and u64.unpack(cursor.key())[0] > newest:
                yield f"a record is newer than the newest number {newest}"

    def _lane_number(self, topic: str, step: str) -> int | None:
        return next((n for n, lane in self._lanes.items() if (lane.topic, lane.step) == (topic, step)), None)
