"""What each op of a Txn does to the tables: checked first, then moved. A refused Txn leaves no trace.

Messages move at once, on record (moves.py), and are taken back where a later op is refused; state writes wait
for the last op (state.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iii.errors import Conflict, QueueFull, Refusal
from iii.model import (
    ARCHIVE,
    Ack,
    Committed,
    Delete,
    Discard,
    Enqueue,
    Hold,
    Mark,
    Merge,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Return,
    Txn,
)
from iii.store import kept
from iii.store.contract import Limits
from iii.store.limits import too_many_topics
from iii.store.lmdb.catalog import Catalog, LaneEntry
from iii.store.lmdb.environment import Tables
from iii.store.lmdb.histories import Histories
from iii.store.lmdb.keys import (
    BODY,
    BODY_BYTES_MIN,
    EXPIRES_UNIQUE,
    EXPIRY_HEAD,
    READY,
    UNIQUE,
    UNIQUE_VALUE,
    hash16,
    u64,
)
from iii.store.lmdb.moves import Moves
from iii.store.lmdb.rows import Row
from iii.store.lmdb.state import StateWrites
from iii.store.lmdb.topics import forget_topics

Handler = Callable[[Any], list[int] | None]
"""Applies an op; an Enqueue's says which ids its copies have."""

_WAITING = frozenset({Put, Merge, Delete, Hold})
"""Nothing of these is written before the last op of their Txn has passed."""

_tuple = tuple.__new__  # a NamedTuple's own constructor costs twice as much


class Applier(Moves):
    """Runs Txns inside the open write transaction. `begin` first; `land` writes what was gathered."""

    def __init__(self, tables: Tables, catalog: Catalog, limits: Limits) -> None:
        super().__init__(tables, catalog, limits)
        self.state = StateWrites(self, limits)
        self.topics_max = limits.topics_max
        self.histories = Histories(tables, limits)
        self._nothing = Committed(0, [])  # the answer to most Acks: one for all that see the same version
        self._handlers: dict[type, Handler] = {
            Put: self.state.put, Merge: self.state.merge, Delete: self.state.delete, Enqueue: self._enqueue,
            Ack: self._ack, Retry: self._retry, Release: self._release, Return: self._return,
            Hold: self._hold, Mark: self.state.mark, Record: self._record, Pause: self._pause,
            Discard: self._discard,
        }  # fmt: skip

    def begin(self, txn: Any, now_ms: int, wall_ms: int) -> None:
        self.begin_moves(txn, now_ms, wall_ms)
        self.state.begin()
        self.histories.begin()

    def run(self, txn: Txn) -> Committed | Refusal:
        """All of the Txn, or the refusal and nothing of it."""
        ops, handlers, state = txn.ops, self._handlers, self.state
        ids: list[list[int]] = []
        if len(ops) > 1 and not _WAITING.issuperset(map(type, ops[:-1])):
            self.record_undo()
        try:
            for op in ops:
                made = handlers[type(op)](op)
                if made is not None:
                    ids.append(made)
        except Refusal as refusal:
            self.take_back()
            state.drop()
            return refusal
        self.undo = None
        if state.written:
            state.land(txn.headers)
        version = self.catalog.counters.version
        if ids:
            return _tuple(Committed, (version, ids))
        if self._nothing.version != version:
            self._nothing = Committed(version, [])
        return self._nothing

    def _record(self, op: Record) -> None:
        counters = self.catalog.counters
        self.wrote = True
        if op.kind == "run":
            number = counters.run = counters.run + 1
        else:
            number = counters.audit = counters.audit + 1
        rows = self.histories.rows[op.kind]
        rows.append((u64.pack(number), op.content))
        if self.undo is not None:
            self.undo.append((rows.pop,))

    # -- messages

    def _enqueue(self, op: Enqueue) -> list[int]:
        catalog = self.catalog
        lane = catalog.sole.get(op.topic) if op.step is None else None
        if (
            lane is not None and op.group is None and op.unique is None
            and not op.delay_ms and len(op.payload) <= BODY_BYTES_MIN
        ):  # fmt: skip
            # What most Enqueues are: small, for one subscriber, due now, and nothing can refuse it.
            self.touch(lane)
            catalog.counters.id = id = catalog.counters.id + 1
            lane.ready += 1
            lane.fresh.append((255 - op.priority, id, Row(op.payload, op.headers, None, self.wall_ms)))
            return [id]
        if self.undo is not None:
            return self._copies(op)
        if op.step is None and len(catalog.subscribers.get(op.topic, ())) < 2:
            return [self._copy(op, self._lanes(op)[0], None)]
        return self._copies_alone(op)

    def _lanes(self, op: Enqueue) -> tuple[LaneEntry, ...]:
        """Where the copies go; a dead letter's archive first, then who subscribed to its topic.

        The death of such a copy lies in the same archive, but is not delivered to the subscribers again.
        """
        subscribers = self.catalog.subscribers.get(op.topic, ())
        if op.dead is not None:
            archive = self.lane(op.topic, ARCHIVE)
            return (archive,) if op.dead.topic == op.topic else (archive, *subscribers)
        if op.step is not None:
            return (self.lane(op.topic, op.step),)
        return subscribers or (self._waiting_lane(op.topic),)

    def _waiting_lane(self, topic: str) -> LaneEntry:
        """The lane of a topic without a step."""
        waiting = self.catalog.waiting
        if (topic, "") not in self.catalog.lanes and len(waiting) >= self.topics_max:
            forget_topics(self)
            if len(waiting) >= self.topics_max:
                raise too_many_topics(self.topics_max)
        return self.lane(topic, "")

    def _copies(self, op: Enqueue) -> list[int]:
        lanes = self._lanes(op)
        return [self._copy(op, lanes[0], op.id)] + [self._copy(op, lane, None) for lane in lanes[1:]]

    def _copies_alone(self, op: Enqueue) -> list[int]:
        """A lone Enqueue that can be refused after it wrote: by its second lane, or in a lane it made."""
        self.record_undo()
        try:
            return self._copies(op)
        except Refusal:
            self.take_back()
            raise
        finally:
            self.undo = None

    def _copy(self, op: Enqueue, lane: LaneEntry, id: int | None) -> int:
        """One message into one lane; returns its id, or that of the known equal one."""
        if op.unique is not None:
            known = self._known_id(op, lane)
            if known is not None:
                return known
        if lane.max_depth is not None and op.dead is None:
            self._require_room(lane, lane.max_depth)
        if id is None:
            counters = self.catalog.counters
            counters.id = id = counters.id + 1
        else:
            self._require_freed(id)
        row = Row(op.payload, kept.headers(op) if lane.kept else op.headers, op.group, self.wall_ms)
        if op.delay_ms:
            row.due_ms = self.wall_ms + op.delay_ms
        if lane.expires:
            row.expires_ms = self.now_ms + lane.life_ms()
        if len(op.payload) > BODY_BYTES_MIN:
            self.put(self.tables.body, BODY.pack(lane.number, id), op.payload)
        if lane.kept:
            self._keep(id, len(op.payload))
        if op.unique is not None:
            self._remember(op, lane, id)
        if op.dead is not None:
            row.dead = op.dead
            if lane.step == ARCHIVE:
                row.attempts, row.error = op.dead.attempts, op.dead.error
                origin = self.lane(op.dead.topic, op.dead.step)
                self.touch(origin)
                origin.dead += 1
        if op.group is not None or op.delay_ms:
            self.place(lane, id, op.priority, row, self.now_ms + op.delay_ms)
        else:
            self.touch(lane)
            self.ready(lane, 255 - op.priority, id, row)
        return id

    def _keep(self, id: int, payload_bytes: int) -> None:
        self.kept.look(self.txn)
        before = self.kept.add(id, payload_bytes)
        if self.undo is not None:
            self.undo.append((self.kept.restore, before))

    def _require_freed(self, id: int) -> None:
        """Only who takes a message out of the store may put one of its id in: so an id is there once."""
        if id not in self.freed:
            raise Conflict(
                f"message {id} keeps its id only in the Txn that acks or discards it, after that op"
            )
        self.freed.remove(id)

    def _require_room(self, lane: LaneEntry, depth_max: int) -> None:
        depth = lane.ready + lane.later + lane.behind
        if depth >= depth_max:
            raise QueueFull(f"queue {lane.topic} ({lane.step}) holds {depth} messages, at most {depth_max}")

    def _known_id(self, op: Enqueue, lane: LaneEntry) -> int | None:
        """The id that this unique key stands for; Conflict where the op wants to be the only one."""
        assert op.unique is not None
        raw = self.txn.get(UNIQUE.pack(lane.number, hash16(op.unique.key)), db=self.tables.unique)
        if raw is None:
            return None
        id, until_ms = UNIQUE_VALUE.unpack(raw)
        if until_ms <= self.now_ms:
            return None
        if lane.kept and not self._lies_there(lane, op.priority, id):
            return None
        if op.unique.exclusive:
            raise Conflict(f"{lane.topic} already knows the key {op.unique.key!r} (message {id})")
        found: int = id
        return found

    def _lies_there(self, lane: LaneEntry, priority: int, id: int) -> bool:
        """An answer may have gone before its unique key: the first release did not name it in the row."""
        self.spill(lane)
        key = READY.pack(lane.number, 255 - priority, id)
        return self.txn.get(key, db=self.tables.ready) is not None

    def _remember(self, op: Enqueue, lane: LaneEntry, id: int) -> None:
        assert op.unique is not None
        key = UNIQUE.pack(lane.number, hash16(op.unique.key))
        until_ms = self.now_ms + op.unique.ttl_ms
        old = self.txn.get(key, db=self.tables.unique)
        if old is not None:
            stale = EXPIRY_HEAD.pack(UNIQUE_VALUE.unpack(old)[1], EXPIRES_UNIQUE) + key
            self.delete(self.tables.expiry, stale)
        self.put(self.tables.unique, key, UNIQUE_VALUE.pack(id, until_ms), old)
        self.put(self.tables.expiry, EXPIRY_HEAD.pack(until_ms, EXPIRES_UNIQUE) + key, b"")

    def _ack(self, op: Ack) -> None:
        _, lane, _, row = self.take_lease(op.lease)
        if op.failed:
            lane.failed += 1
        else:
            lane.done += 1
        if self.undo is not None or row.group is not None or row.large:
            self.left(lane, op.lease.id, row)

    def _retry(self, op: Retry) -> None:
        _, lane, priority, row = self.take_lease(op.lease)
        lane.failed += 1
        again = _again(row)
        again.attempts += 1
        again.error = op.error
        again.due_ms = self.wall_ms + op.delay_ms
        self.rest(lane, op.lease.id, priority, again, self.now_ms + op.delay_ms)

    def _release(self, op: Release) -> None:
        _, lane, priority, row = self.take_lease(op.lease)
        again = _again(row)
        again.due_ms = self.wall_ms + op.delay_ms
        self.rest(lane, op.lease.id, priority, again, self.now_ms + op.delay_ms)

    def _return(self, op: Return) -> None:
        _, lane, priority, row = self.take_lease(op.lease)
        self.rest(lane, op.lease.id, priority, row, 0)

    def _hold(self, op: Hold) -> None:
        self.find_lease(op.lease)

    def _pause(self, op: Pause) -> None:
        lane = self.lane(op.topic, op.step)
        if lane.paused is op.paused:
            return
        self.wrote = True
        if self.undo is not None:
            self.undo.append((self._restore_paused, lane, lane.paused))
        lane.paused = op.paused
        self.catalog.put_lane(self.txn, lane)

    def _restore_paused(self, lane: LaneEntry, paused: bool) -> None:
        lane.paused = paused
        self.catalog.put_lane(self.txn, lane)

    def _discard(self, op: Discard) -> None:
        lane = self.catalog.lanes.get((op.topic, op.step))
        row = None if lane is None or not 0 < op.id < 1 << 64 else self._take_waiting(lane, op)
        if lane is None or row is None:
            raise Conflict(
                f"message {op.id} is not {op.state} in {op.topic} ({op.step or 'no step'}) any more"
            )
        self.left(lane, op.id, row, head=op.state != "behind")

    def _take_waiting(self, lane: LaneEntry, op: Discard) -> Row | None:
        if op.state == "ready" and 0 <= op.priority <= 255:
            return self.take_ready(lane, 255 - op.priority, op.id)
        if op.state == "later" and 0 <= op.due_ms < 1 << 64:
            taken = self.take_later(lane, op.due_ms, op.id)
            return None if taken is None else taken[1]
        return self.take_behind(lane, op.id) if op.state == "behind" else None


def _again(row: Row) -> Row:
    """The row of a message that goes back: no longer under suspicion."""
    return Row(
        row.payload, row.headers, row.group, row.enqueued_ms, row.expires_ms,
        attempts=row.attempts, error=row.error, dead=row.dead,
    )  # fmt: skip
