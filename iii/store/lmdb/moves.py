"""The moves of messages between the tables, inside one write transaction: a message's state is its table.

Owns what the transaction has not written yet: each lane's fresh ready rows (the grant may lease them without
their ever touching `ready`) and the lease rows to delete. A Txn that is refused is taken back by `undo`,
in reverse order; without one (an op alone checks before it writes) nothing is recorded.
"""

from __future__ import annotations

from typing import Any

import lmdb

from iii.errors import LeaseLost
from iii.model import ARCHIVE, SUSPECT_CRASHES, Lane, Lease, Suspects
from iii.store.contract import Limits
from iii.store.kept import unique_key
from iii.store.lmdb.catalog import Catalog, LaneEntry
from iii.store.lmdb.environment import Tables
from iii.store.lmdb.kept import Kept
from iii.store.lmdb.keys import (
    BEHIND,
    BEHIND_HEAD,
    BODY,
    EXPIRES_READY,
    EXPIRES_UNIQUE,
    EXPIRY_HEAD,
    GROUP,
    LATER,
    READY,
    UNIQUE,
    UNIQUE_VALUE,
    hash16,
    u32,
    u64,
)
from iii.store.lmdb.rows import Row, decode_row
from iii.store.lmdb.suspects import list_suspect, unlist

Held = tuple[int, LaneEntry, int, Row]
"""(token, lane, priority, row) of a lease."""

_ready_key = READY.pack


class Moves:
    """The tables as one write transaction sees them. `begin` first; one thread only."""

    txn: lmdb.Transaction[bytes]

    def __init__(self, tables: Tables, catalog: Catalog, limits: Limits) -> None:
        self.tables, self.catalog = tables, catalog
        self.kept = Kept(tables, catalog, limits)
        self._dirty = catalog.dirty
        self.now_ms = self.wall_ms = 0
        self.session = 0
        self.live: dict[int, Held] = {}  # this session's leases
        self.suspects: Suspects = "one"  # which of them it is granted
        self.levels: dict[Lane, int] = {}  # how many of a lane it may have; those above 0
        self.settled: list[int] = []  # ids of those whose rows are to be deleted before the commit
        self.undo: list[tuple[Any, ...]] | None = None
        self.wrote = False
        self.freed: set[int] = set()  # ids that left the store in the running Txn
        self._touched: set[LaneEntry] = set()  # lanes whose counts the running Txn's undo log holds

    # -- writing with a way back

    def put(self, db: lmdb._Database, key: bytes, value: bytes, old: bytes | None = None) -> None:
        """`old`: what lies there, None = nothing yet."""
        self.wrote = True
        self.txn.put(key, value, db=db)
        if self.undo is not None:
            self.undo.append((self._restore, db, key, old))

    def delete(self, db: lmdb._Database, key: bytes) -> bytes | None:
        """Returns what was there."""
        self.wrote = True
        old = self.txn.pop(key, db=db)
        if self.undo is not None and old is not None:
            self.undo.append((self._restore, db, key, old))
        return old

    def _restore(self, db: lmdb._Database, key: bytes, old: bytes | None) -> None:
        if old is None:
            self.txn.delete(key, db=db)
        else:
            self.txn.put(key, old, db=db)

    def record_undo(self) -> None:
        """From here on every move is recorded, so that it can be taken back."""
        counters = self.catalog.counters
        self.undo = [(counters.set, counters.numbers())]
        self.freed.clear()
        self._touched.clear()

    def take_back(self) -> None:
        """Undo everything since `record_undo`, if that was called."""
        undo, self.undo = self.undo or [], None
        for back in reversed(undo):
            back[0](*back[1:])

    def touch(self, lane: LaneEntry) -> None:
        """The counts or the fresh rows of this lane are about to change."""
        self.wrote = True
        self._dirty.add(lane)
        if self.undo is not None and lane not in self._touched:
            self._touched.add(lane)
            self.undo.append((self._restore_lane, lane, lane.counts(), len(lane.fresh), lane.suspects))

    def _restore_lane(self, lane: LaneEntry, counts: tuple[int, ...], fresh: int, suspects: int) -> None:
        lane.set_counts(counts)
        if lane.suspects != suspects:
            self.catalog.count_suspects(lane, suspects)
        del lane.fresh[fresh:]

    def lane(self, topic: str, step: str) -> LaneEntry:
        """The lane of this name, made now if nobody has used it yet."""
        lane = self.catalog.lanes.get((topic, step))
        if lane is None:
            lane = self.catalog.new_lane(topic, step)
            if self.undo is not None:
                self.undo.append((self._unmake_lane, lane))
            self.wrote = True
            self.catalog.put_lane(self.txn, lane)
        return lane

    def _unmake_lane(self, lane: LaneEntry) -> None:
        self.txn.delete(u32.pack(lane.number), db=self.tables.lane)
        self.catalog.drop(lane)

    def row(self, lane: LaneEntry, id: int, record: bytes) -> Row:
        """The row of a record, its payload fetched from `body` where it lies there."""
        row = decode_row(record)
        if row.payload is None:
            row.payload = self.txn.get(BODY.pack(lane.number, id), db=self.tables.body)
        return row

    def forget_live(self) -> None:
        """The session's leases are not known any more."""
        self.live.clear()
        for lane in self.catalog.by_number.values():
            lane.in_flight = 0

    # -- into a table

    def place(self, lane: LaneEntry, id: int, priority: int, row: Row, due_ms: int) -> None:
        """A message that comes into the lane: behind its group's head, or to rest as head or alone."""
        if row.group is not None:
            key = GROUP.pack(lane.number, hash16(row.group))
            if self.txn.get(key, db=self.tables.group) is not None:
                self.touch(lane)
                lane.behind += 1
                head = BEHIND_HEAD.pack(due_ms, priority)
                self.put(self.tables.behind, key + u64.pack(id), head + row.record())
                return
            self.put(self.tables.group, key, u64.pack(id))
        self.rest(lane, id, priority, row, due_ms)

    def rest(self, lane: LaneEntry, id: int, priority: int, row: Row, due_ms: int) -> None:
        """To `later` while it is not due, else to ready."""
        self.touch(lane)
        if due_ms > self.now_ms:
            lane.later += 1
            value = bytes((priority,)) + row.record()
            self.put(self.tables.later, LATER.pack(due_ms, id, lane.number), value)
        else:
            self.ready(lane, 255 - priority, id, row)

    def ready(self, lane: LaneEntry, rank: int, id: int, row: Row) -> None:
        """To ready, in memory until `spill` or the grant; a suspect at once. The lane has been touched."""
        lane.ready += 1
        if row.crashes >= SUSPECT_CRASHES:
            self.put(self.tables.ready, _ready_key(lane.number, rank, id), row.record())
            list_suspect(self, lane, rank, id)
            return
        lane.fresh.append((rank, id, row))
        if lane.expires:
            self.put(self.tables.expiry, expiry_key(lane, rank, id, row.expires_ms), b"")

    def spill(self, lane: LaneEntry) -> None:
        """Write the fresh rows, so that `ready` holds all of the lane's ready messages."""
        if not lane.fresh:
            return
        fresh, lane.fresh = lane.fresh, []  # undo cuts it at a length: it keeps its order
        number = lane.number
        rows = [(_ready_key(number, rank, id), row.record()) for rank, id, row in sorted(fresh)]
        self.txn.cursor(self.tables.ready).putmulti(rows)
        self.wrote = True
        if self.undo is not None:
            self.undo.append((self._unspill, lane, fresh, rows))

    def _unspill(self, lane: LaneEntry, fresh: list[Any], rows: list[tuple[bytes, bytes]]) -> None:
        for key, _ in rows:
            self.txn.delete(key, db=self.tables.ready)
        lane.fresh = fresh

    # -- out of a table

    def find_lease(self, lease: Lease) -> Held:
        """LeaseLost where it is not a live one of this store's session."""
        session, id, token = lease
        held = self.live.get(id) if session == self.session else None
        if held is None or held[0] != token:
            raise LeaseLost(f"message {id} is no longer leased to this attempt (session {session})")
        return held

    def take_lease(self, lease: Lease) -> Held:
        """End a lease: the message is in no table then. LeaseLost as `find_lease`."""
        held = self.find_lease(lease)
        id, lane = lease.id, held[1]
        self.touch(lane)
        lane.leased -= 1
        lane.in_flight -= 1
        del self.live[id]
        self.settled.append(id)
        if self.undo is not None:
            self.undo.append((self._restore_live, id, held))
        return held

    def _restore_live(self, id: int, held: Held) -> None:
        self.live[id] = held
        held[1].in_flight += 1
        self.settled.pop()

    def take_ready(self, lane: LaneEntry, rank: int, id: int) -> Row | None:
        """A ready message out of `ready`; None where it is not there."""
        self.spill(lane)
        if lane.kept:
            self.kept.look(self.txn)
        record = self.delete(self.tables.ready, READY.pack(lane.number, rank, id))
        if record is None:
            return None
        row = decode_row(record)
        self.touch(lane)
        lane.ready -= 1
        if row.crashes >= SUSPECT_CRASHES:
            unlist(self, lane, rank, id)
        self.unexpire(lane, rank, id, row)
        return row

    def unexpire(self, lane: LaneEntry, rank: int, id: int, row: Row) -> None:
        """A message that leaves `ready` leaves `expiry` too."""
        if lane.expires:
            self.delete(self.tables.expiry, expiry_key(lane, rank, id, row.expires_ms))

    def take_later(self, lane: LaneEntry, due_ms: int, id: int) -> tuple[int, Row] | None:
        """(priority, row) out of `later`."""
        value = self.delete(self.tables.later, LATER.pack(due_ms, id, lane.number))
        if value is None:
            return None
        self.touch(lane)
        lane.later -= 1
        return value[0], decode_row(value[1:])

    def take_behind(self, lane: LaneEntry, id: int) -> Row | None:
        cursor = self.txn.cursor(self.tables.behind)
        prefix, suffix = u32.pack(lane.number), u64.pack(id)
        found = cursor.set_range(prefix)
        while found and cursor.key().startswith(prefix):
            if cursor.key().endswith(suffix):
                row = decode_row(cursor.value()[BEHIND_HEAD.size :])
                self.delete(self.tables.behind, cursor.key())
                self.touch(lane)
                lane.behind -= 1
                return row
            found = cursor.next()
        return None

    def left(self, lane: LaneEntry, id: int, row: Row, *, head: bool = True) -> None:
        """The message is gone for good: its body goes, and the next of its group comes forward."""
        if self.undo is not None:
            self.freed.add(id)
        body = self.delete(self.tables.body, BODY.pack(lane.number, id)) if row.large else row.payload
        if lane.kept:
            self._keep_no_more(lane, id, row, len(body or b""))
        if row.dead is not None and lane.step == ARCHIVE:
            origin = self.lane(row.dead.topic, row.dead.step)
            self.touch(origin)
            origin.dead -= 1
        if head and row.group is not None:
            self._come_forward(lane, hash16(row.group), u64.pack(id))

    def _keep_no_more(self, lane: LaneEntry, id: int, row: Row, payload_bytes: int) -> None:
        before = self.kept.remove(id, payload_bytes)
        if self.undo is not None:
            self.undo.append((self.kept.restore, before))
        if (unique := unique_key(row.headers)) is not None:
            self._forget_key(lane, id, unique)

    def _forget_key(self, lane: LaneEntry, id: int, unique: str) -> None:
        """The unique key of a kept answer that leaves may be used again."""
        key = UNIQUE.pack(lane.number, hash16(unique))
        raw = self.txn.get(key, db=self.tables.unique)
        if raw is None or UNIQUE_VALUE.unpack(raw)[0] != id:
            return
        self.delete(self.tables.unique, key)
        until = EXPIRY_HEAD.pack(UNIQUE_VALUE.unpack(raw)[1], EXPIRES_UNIQUE)
        self.delete(self.tables.expiry, until + key)

    def _come_forward(self, lane: LaneEntry, group: bytes, head: bytes) -> None:
        """The oldest behind becomes the head; without one the group is no more."""
        key = GROUP.pack(lane.number, group)
        cursor = self.txn.cursor(self.tables.behind)
        if not cursor.set_range(key) or not cursor.key().startswith(key):
            self.delete(self.tables.group, key)
            return
        behind_key, value = cursor.item()
        id = BEHIND.unpack(behind_key)[2]
        due_ms, priority = BEHIND_HEAD.unpack_from(value)
        self.delete(self.tables.behind, behind_key)
        self.touch(lane)
        lane.behind -= 1
        self.put(self.tables.group, key, u64.pack(id), head)
        self.rest(lane, id, priority, self.row(lane, id, value[BEHIND_HEAD.size :]), due_ms)

    def begin_moves(self, txn: lmdb.Transaction[bytes], now_ms: int, wall_ms: int) -> None:
        self.txn, self.now_ms, self.wall_ms = txn, now_ms, wall_ms
        self.undo, self.wrote = None, False
        self.settled.clear()


def expiry_key(lane: LaneEntry, rank: int, id: int, expires_ms: int) -> bytes:
    return EXPIRY_HEAD.pack(expires_ms, EXPIRES_READY) + READY.pack(lane.number, rank, id)
