"""How large the change log is, what of it goes, and who is refused while it is held (keeping.py's rule).

A change counts what it holds in text and bytes.
"""

from __future__ import annotations

import logging

from iii.errors import ChangesHeld
from iii.model import TAIL, Change, Txn
from iii.store import keeping
from iii.store.contract import Limits
from iii.store.memory.tables import MemoryTables

__all__ = ["BYTES", "add", "held_by", "note_sessions", "refusal", "shorten", "size_of"]

BYTES = "change_bytes"

_log = logging.getLogger("iii.store")


def size_of(change: Change) -> int:
    texts = (change.namespace, change.key, *change.headers, *change.headers.values())
    return sum(map(len, texts)) + len(change.old or b"") + len(change.new or b"")


def add(tables: MemoryTables, change: Change) -> None:
    tables.change.put(change.version, change)
    tables.counter.put(BYTES, tables.last(BYTES) + size_of(change))


def shorten(tables: MemoryTables, limits: Limits, wall_ms: int) -> None:
    """What nobody needs goes, then what nobody serves waits for, until the log is within its bound."""
    newest, most = tables.last("version"), limits.changes_bytes_max
    tail = tables.mark.get(TAIL)
    _remove(tables, min(newest if tail is None else tail, newest - limits.changes_max) - 1, 0)
    waited = _waited_for(tables)
    while tables.last(BYTES) > most:
        _remove(tables, waited[0][0] if waited else newest, most)
        if tables.last(BYTES) <= most or not waited or _is_kept_for(tables, limits, waited[0][1]):
            break
        _forget(tables, waited, wall_ms, most)
    if tables.last(BYTES) <= most and keeping.LEFT in tables.mark:
        tables.mark.pop(keeping.LEFT)


def refusal(tables: MemoryTables, limits: Limits, txn: Txn) -> ChangesHeld | None:
    """Why this Txn is refused now."""
    size, most = tables.last(BYTES), limits.changes_bytes_max
    if size < keeping.refused_from(txn, most) or not keeping.leaves_changes(txn):
        return None
    waited = _waited_for(tables)
    if not waited or not _lives_for(tables, most, waited[0][1]) or _settles_a_change(tables, txn):
        return None
    return keeping.held_reason(keeping.step_of(waited[0][1]), size, most)


def held_by(tables: MemoryTables, limits: Limits) -> str | None:
    """The step whose state trigger keeps the log over its bound."""
    most = limits.changes_bytes_max
    if tables.last(BYTES) <= most:
        return None
    waited = _waited_for(tables)
    return keeping.step_of(waited[0][1]) if waited and _lives_for(tables, most, waited[0][1]) else None


def note_sessions(tables: MemoryTables, limits: Limits) -> None:
    """Sessions came or left: what nobody serves now is waited for until as much again has come."""
    if tables.last(BYTES) > limits.changes_bytes_max:
        tables.mark.put(keeping.LEFT, tables.last(BYTES))


def _remove(tables: MemoryTables, last: int, most: int) -> None:
    """The oldest changes up to `last`, while the log is over `most` bytes."""
    while tables.last(BYTES) > most or not most:
        oldest = next(tables.change.scan(), None)
        if oldest is None or oldest[0] > last:
            break
        tables.change.pop(oldest[0])
        tables.counter.put(BYTES, tables.last(BYTES) - size_of(oldest[1]))


def _waited_for(tables: MemoryTables) -> list[tuple[int, str]]:
    marks = dict(tables.mark.scan())
    triggers = {name: at for name, at in marks.items() if name.startswith(keeping.MARKS)}
    return keeping.waited_for(triggers, marks, marks.get(TAIL))


def _is_kept_for(tables: MemoryTables, limits: Limits, mark: str) -> bool:
    size, most = tables.last(BYTES), limits.changes_bytes_max
    if _lives_for(tables, most, mark):
        return True
    left = tables.mark.get(keeping.LEFT)
    if left is None and _serving(tables, mark):  # they died, and nobody has buried them yet
        left = size
        tables.mark.put(keeping.LEFT, left)
    return size <= keeping.waited_bytes(most, left)


def _lives_for(tables: MemoryTables, most: int, mark: str) -> bool:
    """Whether a session serves it; one that may be dead counts until the log would be refused for it."""
    sessions = _serving(tables, mark)
    if tables.last(BYTES) <= keeping.HELD_TIMES * most:
        return bool(sessions)
    return any(session not in tables.dead_sessions for session in sessions)


def _serving(tables: MemoryTables, mark: str) -> list[int]:
    """The sessions on record that serve the trigger."""
    lane = keeping.lane_of(mark)
    return [
        id
        for id, session in tables.session.scan()
        if session.suspects != "only" and lane in map(tuple, session.lanes)
    ]


def _forget(tables: MemoryTables, waited: list[tuple[int, str]], wall_ms: int, most: int) -> None:
    at, name = waited.pop(0)
    tables.mark.put(TAIL, waited[0][0] if waited else tables.last("version"))
    tables.mark.put(keeping.forgotten_mark(name), wall_ms)
    _log.warning("%s", keeping.forgotten_reason(name, at, tables.last(BYTES), most))


def _settles_a_change(tables: MemoryTables, txn: Txn) -> bool:
    """Whether the message of a state trigger ends with it: while these do not end, the log is held."""
    rows = [tables.leased.get((op.lease.session, op.lease.id)) for op in keeping.settlements(txn)]
    return any(row is None or row.lane.topic.startswith(keeping.CHANGES) for row in rows)
