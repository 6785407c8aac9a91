"""What each op of a Txn means, one after the other, each seeing what the ones before it did.

Runs inside MemoryTables.atomic(): a refusal raised anywhere takes everything back.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from iii.errors import Conflict, LeaseLost, QueueFull, TooLarge
from iii.formats.merge import evaluate
from iii.model import (
    ARCHIVE,
    Ack,
    Change,
    Committed,
    Delete,
    Discard,
    Enqueue,
    Entry,
    Hold,
    Lane,
    Lease,
    Mark,
    Merge,
    MessageState,
    Op,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Return,
    Txn,
)
from iii.store.contract import Limits
from iii.store.kept import headers, is_kept
from iii.store.limits import too_many_topics
from iii.store.memory import changelog, kept, moves
from iii.store.memory.tables import Known, MemoryTables, Now, Row

__all__ = ["Transaction"]


class Transaction:
    """One Txn against the tables. `session`: whose leases it may settle, 0 = nobody's."""

    def __init__(self, tables: MemoryTables, session: int, limits: Limits, now: Now) -> None:
        self._tables, self._session, self._limits, self._now = tables, session, limits, now
        self._written: dict[tuple[str, str], bytes | None] = {}
        self._ids: list[list[int]] = []
        self._taken_out: set[int] = set()

    def run(self, txn: Txn) -> Committed:
        self._tables.next("commit")
        self._shorten_changes()
        if (held := changelog.refusal(self._tables, self._limits, txn)) is not None:
            raise held
        for op in txn.ops:
            self._apply(op)
        self._write_changes(txn.headers)
        if self._written:
            self._shorten_changes()
        while (answer := kept.oldest(self._tables, self._limits)) is not None:
            moves.leave(self._tables, answer, "ready", "expired", self._now.delay_ms)
            self._tables.next(kept.EVICTED)
        return Committed(self._tables.last("version"), self._ids)

    def _shorten_changes(self) -> None:
        changelog.shorten(self._tables, self._limits, self._now.wall_ms)

    def _apply(self, op: Op) -> None:
        match op:
            case Put() | Delete():
                self._check_version(op)
                self._written[op.namespace, op.key] = op.value if isinstance(op, Put) else None
            case Merge():
                self._merge(op)
            case Enqueue():
                self._ids.append(self._enqueue(op))
            case Ack() | Retry() | Release() | Return() | Hold():
                self._settle(op)
            case Mark():
                self._mark(op)
            case Record():
                self._record(op)
            case Pause():
                lane = Lane(op.topic, op.step)
                self._tables.lane.put(lane, replace(self._tables.use(lane), paused=op.paused))
            case Discard():
                self._discard(op)

    # -- state

    def _value(self, key: tuple[str, str]) -> bytes | None:
        if key in self._written:
            return self._written[key]
        entry = self._tables.state.get(key)
        return entry.value if entry else None

    def _check_version(self, op: Put | Delete) -> None:
        """Against the version before this Txn: what it writes itself has none yet."""
        entry = self._tables.state.get((op.namespace, op.key))
        found = entry.version if entry else 0
        if op.if_version not in (None, found):
            raise Conflict(f"{op.namespace}/{op.key} is at version {found}, expected {op.if_version}")

    def _merge(self, op: Merge) -> None:
        key = (op.namespace, op.key)
        value = evaluate(self._value(key), op.patch)
        most = self._limits.value_bytes_max
        if len(value) > most:
            raise TooLarge(f"{op.namespace}/{op.key} would have {len(value)} bytes, at most {most}")
        self._written[key] = value

    def _write_changes(self, headers: dict[str, str]) -> None:
        for (namespace, key), new in self._written.items():
            entry = self._tables.state.get((namespace, key))
            old = entry.value if entry else None
            if new == old:
                continue
            version = self._tables.next("version")
            if new is None:
                self._tables.state.pop((namespace, key))
            else:
                self._tables.state.put(
                    (namespace, key), Entry(namespace, key, new, version, self._now.wall_ms)
                )
            if not namespace.startswith("$"):
                changelog.add(self._tables, Change(version, namespace, key, old, new, headers))

    # -- messages

    def _enqueue(self, op: Enqueue) -> list[int]:
        """The ids of the copies. A dead letter's archive row comes first, then its subscribers' copies.

        The death of such a copy lies in the same archive but is not delivered to the subscribers again.
        """
        subscribers = self._tables.subscribers(op.topic)
        if op.dead is not None:
            again = op.dead.topic == op.topic
            archived = self._add(op, Lane(op.topic, ARCHIVE), op.id)
            return [archived] + [self._add(op, lane, None) for lane in subscribers if not again]
        if op.step is not None:
            return [self._add(op, Lane(op.topic, op.step), op.id)]
        return [self._add(op, lane, None) for lane in subscribers or [self._waiting(op.topic)]]

    def _waiting(self, topic: str) -> Lane:
        """The lane of a topic without a step."""
        tables, lane = self._tables, Lane(topic, "")
        if tables.lane.get(lane) is None:
            most = self._limits.topics_max
            if len(tables.lane) >= most and len(moves.waiting_topics(tables)) >= most:
                raise too_many_topics(most)
        return lane

    def _add(self, op: Enqueue, lane: Lane, id: int | None) -> int:
        tables = self._tables
        known = self._known(op, lane)
        if known is not None:
            return known
        policy = tables.use(lane).policy
        depth = sum(tables.counted(lane, state) for state in ("ready", "later", "behind"))
        if op.dead is None and policy.max_depth is not None and depth >= policy.max_depth:
            raise QueueFull(f"queue {op.topic} ({lane.step}) holds {depth} messages: its max_depth")
        row = Row(
            id=tables.next("id") if id is None else self._kept(id),
            lane=lane,
            priority=op.priority,
            payload=op.payload,
            headers=headers(op) if is_kept(*lane) else op.headers,
            group=op.group,
            dead=op.dead,
            enqueued_ms=self._now.wall_ms,
            due_ms=self._now.delay_ms + op.delay_ms,
            expires_ms=moves.expiry_ms(tables, lane, self._now.delay_ms),
            due_wall_ms=self._now.wall_ms + op.delay_ms if op.delay_ms else 0,
        )
        if op.dead is not None and lane.step == ARCHIVE:
            row = replace(row, attempts=op.dead.attempts, error=op.dead.error)
            tables.use(Lane(op.dead.topic, op.dead.step))
        if op.unique is not None:
            until_ms = self._now.delay_ms + op.unique.ttl_ms
            tables.unique.put((lane, op.unique.key), Known(row.id, until_ms))
            tables.unique_until.put((until_ms, lane, op.unique.key), row.id)
        moves.enter(tables, row, self._now.delay_ms)
        return row.id

    def _known(self, op: Enqueue, lane: Lane) -> int | None:
        if op.unique is None:
            return None
        known = self._tables.unique.get((lane, op.unique.key))
        if known is None:
            return None
        is_gone = is_kept(*lane) and self._tables.find(known.id) is None
        if known.until_ms <= self._now.delay_ms or is_gone:
            self._tables.unique_until.pop((known.until_ms, lane, op.unique.key))
            return None
        if op.unique.exclusive:
            raise Conflict(f"{op.unique.key!r} is already known in queue {lane.topic} ({lane.step})")
        return known.id

    def _kept(self, id: int) -> int:
        if id not in self._taken_out:
            raise Conflict(
                f"message {id} keeps its id only in the Txn that acks or discards it, after that op"
            )
        self._taken_out.remove(id)
        return id

    def _settle(self, op: Ack | Retry | Release | Return | Hold) -> None:
        tables, now_ms = self._tables, self._now.delay_ms
        row = self._leased(op.lease)
        match op:
            case Ack():
                tables.add(row.lane, "failed" if op.failed else "done", +1)
                moves.leave(tables, row, "leased", "Ack", now_ms)
                self._taken_out.add(row.id)
            case Retry():
                tables.add(row.lane, "failed", +1)
                changes = {"attempts": row.attempts + 1, "error": op.error}
                self._put_back(op, row, **changes)
            case Release():
                self._put_back(op, row)
            case Return():
                moves.put_back(tables, row, "Return", 0, now_ms)
            case Hold():
                pass

    def _leased(self, lease: Lease) -> Row:
        """The message of a live lease of the session, else LeaseLost."""
        row = self._tables.leased.get((self._session, lease.id))
        if row is None or (lease.session, lease.token) != (row.session, row.token):
            raise LeaseLost(f"the lease on message {lease.id} is no longer this session's")
        return row

    def _put_back(self, op: Retry | Release, row: Row, **changes: Any) -> None:
        changes.update(crashes=0, alone=0, due_wall_ms=self._now.wall_ms + op.delay_ms)
        moves.put_back(self._tables, row, type(op).__name__, op.delay_ms, self._now.delay_ms, **changes)

    def _discard(self, op: Discard) -> None:
        found = self._tables.find(op.id)
        if found is None or op.state == "leased" or not _names(op, *found):
            raise Conflict(f"message {op.id} does not rest as {op.state} in queue {op.topic} ({op.step})")
        moves.leave(self._tables, found[1], op.state, "Discard", self._now.delay_ms)
        self._taken_out.add(op.id)

    # -- the rest

    def _mark(self, op: Mark) -> None:
        found = self._tables.mark.get(op.name)
        if found != op.expected:
            raise Conflict(f"mark {op.name} is {found}, expected {op.expected}")
        self._tables.mark.put(op.name, op.value)

    def _record(self, op: Record) -> None:
        newest = moves.keep_record(self._tables, op.kind, op.content, self._limits)
        if op.kind == "run":
            self._tables.runs_until.put((self._limits.run_until_ms(self._now.delay_ms),), newest)


def _names(op: Discard, state: MessageState, row: Row) -> bool:
    same = (state, row.lane, row.priority) == (op.state, (op.topic, op.step), op.priority)
    return same and (state != "later" or row.due_ms == op.due_ms)
