"""Every way a message moves between the tables, asserted against model.MOVES and counted per lane.

Owns the group rule: while a group's head is ready, later or leased, everything else of the group is behind.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from iii.model import ARCHIVE, MOVES, SUSPECT_CRASHES, Lane, LanePolicy
from iii.store.contract import DEAD_RETENTION_MS, RETENTION_MS, Limits
from iii.store.memory import kept
from iii.store.memory.tables import LaneRow, MemoryTables, Row, Table
from iii.store.quotas import Kind, place_of

__all__ = [
    "adopt",
    "enter",
    "expire",
    "expiry_ms",
    "keep_record",
    "lease",
    "leave",
    "next_ms",
    "promote_due",
    "put_back",
    "waiting_topics",
]

_KEYS: dict[str, Any] = {
    "ready": lambda row: (row.lane, 255 - row.priority, row.id),
    "later": lambda row: (row.due_ms, row.id),
    "behind": lambda row: (row.lane, row.group, row.id),
    "leased": lambda row: (row.session, row.id),
}


def _move(tables: MemoryTables, row: Row, source: str, event: str, target: str, **changes: Any) -> None:
    """Take `row` from the table `source` and put it, with `changes`, into `target`; "-" is outside."""
    assert (source, event, target) in MOVES, f"illegal move {source} -{event}-> {target}"
    if source != "-":
        _take(tables, row, source)
    elif row.lane.step == ARCHIVE and row.dead is not None:
        tables.add(Lane(row.dead.topic, row.dead.step), "dead", +1)
    if target != "-":
        _put(tables, replace(row, **changes), target)
    elif row.lane.step == ARCHIVE and row.dead is not None:
        tables.add(Lane(row.dead.topic, row.dead.step), "dead", -1)


def enter(tables: MemoryTables, row: Row, now_ms: int) -> None:
    """Enqueue: behind its group's head where there is one, else later or ready."""
    if row.group is None:
        target = _rest(row.due_ms, now_ms)
    elif (row.lane, row.group) in tables.group:
        target = "behind"
    else:
        tables.group.put((row.lane, row.group), row.id)
        target = _rest(row.due_ms, now_ms)
    _move(tables, row, "-", "Enqueue", target)
    kept.come(tables, row)


def promote_due(tables: MemoryTables, now_ms: int) -> None:
    while (first := next(tables.later.scan(), None)) and first[1].due_ms <= now_ms:
        _move(tables, first[1], "later", "due", "ready")


def lease(tables: MemoryTables, row: Row, session: int, token: int) -> None:
    _move(tables, row, "ready", "grant", "leased", session=session, token=token)


def put_back(tables: MemoryTables, row: Row, event: str, delay_ms: int, now_ms: int, **changes: Any) -> None:
    """Retry, Release, Return or the end of its session: a leased message rests again, its group's head."""
    due_ms = now_ms + delay_ms
    changes.update(due_ms=due_ms, session=0, token=0)
    _forget_start(tables, row)
    _move(tables, row, "leased", event, _rest(due_ms, now_ms), **changes)


def leave(tables: MemoryTables, row: Row, source: str, event: str, now_ms: int) -> None:
    """Ack, Discard or expiry: the message is gone, and the oldest behind it heads the group."""
    if source == "leased":
        _forget_start(tables, row)
    _move(tables, row, source, event, "-")
    kept.gone(tables, row)
    if row.group is None or tables.group.get((row.lane, row.group)) != row.id:
        return
    following = next(tables.behind.under(row.lane, row.group), None)
    if following is None:
        tables.group.pop((row.lane, row.group))
        return
    head = following[1]
    tables.group.put((row.lane, row.group), head.id)
    _move(tables, head, "behind", "head left", _rest(head.due_ms, now_ms))


def adopt(tables: MemoryTables, topic: str, step: str) -> None:
    """Everything of lane (topic, "") becomes the step's, unique keys included.

    A group that has a head in the step's lane keeps it: the adopted ones wait behind, in order of their ids.
    """
    source, target = Lane(topic, ""), Lane(topic, step)
    heads = [(row, "ready") for _, row in tables.ready.under(source)]
    heads += [(row, "later") for _, row in tables.later.scan() if row.lane == source]
    rest = [(row, "behind") for _, row in tables.behind.under(source)]
    for row, state in heads + rest:
        there = state
        if state != "behind" and row.group is not None:
            tables.group.pop((source, row.group))
            if (target, row.group) in tables.group:
                there = "behind"
            else:
                tables.group.put((target, row.group), row.id)
        _move(tables, row, state, "adopted", there, lane=target, expires_ms=None)
    for (_, key), known in list(tables.unique.under(source)):
        tables.unique.pop((source, key))
        tables.unique_until.pop((known.until_ms, source, key))
        if (target, key) not in tables.unique:
            tables.unique.put((target, key), known)
            tables.unique_until.put((known.until_ms, target, key), known.id)


def expire(tables: MemoryTables, now_ms: int, rows_max: int) -> int:
    """Let go of at most `rows_max` rows whose time is over; returns how many went."""
    gone = 0
    while gone < rows_max and (known := next(tables.unique_until.scan(), None)) and known[0][0] <= now_ms:
        until_ms, lane, key = known[0]
        tables.unique_until.pop((until_ms, lane, key))
        tables.unique.pop((lane, key))
        gone += 1
    while gone < rows_max and (oldest := next(tables.expiry.scan(), None)) and oldest[0][0] <= now_ms:
        leave(tables, oldest[1], "ready", "expired", now_ms)
        gone += 1
    while (runs := next(tables.runs_until.scan(), None)) and runs[0][0] <= now_ms:
        _forget_runs(tables, runs[1])
        tables.runs_until.pop(runs[0])
    return gone


def keep_record(tables: MemoryTables, kind: Kind, content: bytes, limits: Limits) -> int:
    """A row more, and what is too much goes; the row's number."""
    number = tables.next(kind)
    tables.history.put((kind, number), content)
    tables.place_record(place_of(kind, content), number, len(content))
    while (place := tables.shares.too_much(kind, limits)) is not None:
        (*_, oldest), _ = next(tables.placed.under(*place))
        tables.history.pop((kind, oldest))
        tables.unplace_record(place, oldest)
    return number


def _forget_runs(tables: MemoryTables, last: int) -> None:
    """The run records up to number `last` go."""
    while (oldest := next(tables.history.under("run"), None)) and oldest[0][1] <= last:
        content = tables.history.pop(oldest[0])
        tables.unplace_record(place_of("run", content), oldest[0][1])


def waiting_topics(tables: MemoryTables) -> list[Lane]:
    """The lanes of topics without a step; those in which nothing lies are forgotten first."""
    waiting = []
    for lane, row in list(tables.lane.scan()):
        if lane.step or lane.topic.startswith("$"):
            continue
        holds = any(tables.counted(lane, count) for count in ("ready", "later", "behind", "dead"))
        known = next(tables.unique.under(lane), None) is not None
        if holds or known or row != LaneRow(LanePolicy(lane.topic, "")):
            waiting.append(lane)
        else:
            tables.lane.pop(lane)
    return waiting


def next_ms(tables: MemoryTables) -> int | None:
    """When, on the delay clock, the next message is due or the next row expires."""
    tables_by_time: list[Table[Any, Any]] = [
        tables.later, tables.unique_until, tables.expiry, tables.runs_until,
    ]  # fmt: skip
    return min((next(table.scan())[0][0] for table in tables_by_time if len(table)), default=None)


def expiry_ms(tables: MemoryTables, lane: Lane, now_ms: int) -> int | None:
    """When a message that comes into the lane now goes by itself: never where it may be granted."""
    if lane.step == ARCHIVE:
        return now_ms + DEAD_RETENTION_MS
    if lane.step:
        return None
    retention_ms = tables.use(lane).policy.retention_ms
    return now_ms + (RETENTION_MS if retention_ms is None else retention_ms)


def _rest(due_ms: int, now_ms: int) -> str:
    return "later" if due_ms > now_ms else "ready"


def _take(tables: MemoryTables, row: Row, state: str) -> None:
    getattr(tables, state).pop(_KEYS[state](row))
    tables.place.pop(row.id)
    tables.add(row.lane, state, -1)
    if state == "ready" and row.expires_ms is not None:
        tables.expiry.pop((row.expires_ms, row.id))
    if state == "ready" and row.crashes >= SUSPECT_CRASHES:
        tables.suspect.pop(_KEYS[state](row))


def _put(tables: MemoryTables, row: Row, state: Any) -> None:
    key = _KEYS[state](row)
    getattr(tables, state).put(key, row)
    tables.place.put(row.id, (state, key))
    tables.add(row.lane, state, +1)
    if state == "ready" and row.expires_ms is not None:
        tables.expiry.put((row.expires_ms, row.id), row)
    if state == "ready" and row.crashes >= SUSPECT_CRASHES:
        tables.suspect.put(key, row)


def _forget_start(tables: MemoryTables, row: Row) -> None:
    if (row.session, row.id) in tables.started:
        tables.started.pop((row.session, row.id))
