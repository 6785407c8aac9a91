"""How much the kept answers take, and which go: the oldest, as soon as they are over their bound."""

from __future__ import annotations

from iii.model import Lane
from iii.store.contract import Limits
from iii.store.kept import TOPICS, is_kept, size_of, unique_key
from iii.store.memory.tables import MemoryTables, Row

__all__ = ["BYTES", "EVICTED", "answers", "come", "gone", "oldest"]

BYTES, EVICTED = "kept_bytes", "kept_evicted"


def come(tables: MemoryTables, row: Row) -> None:
    if is_kept(*row.lane):
        tables.counter.put(BYTES, tables.last(BYTES) + size_of(len(row.payload)))


def gone(tables: MemoryTables, row: Row) -> None:
    """With its unique key."""
    if not is_kept(*row.lane):
        return
    tables.counter.put(BYTES, tables.last(BYTES) - size_of(len(row.payload)))
    key = (row.lane, unique_key(row.headers) or "")
    known = tables.unique.get(key)
    if known is not None and known.id == row.id:
        tables.unique.pop(key)
        tables.unique_until.pop((known.until_ms, *key))


def oldest(tables: MemoryTables, limits: Limits) -> Row | None:
    """The next one to go; None where they are within their bound."""
    if tables.last(BYTES) <= limits.kept_bytes_max:
        return None
    heads = [next(tables.ready.under(lane), None) for lane in _lanes(tables)]
    return min((head[1] for head in heads if head is not None), key=lambda row: row.id)


def answers(tables: MemoryTables) -> int:
    return sum(tables.counted(lane, "ready") for lane in _lanes(tables))


def _lanes(tables: MemoryTables) -> list[Lane]:
    lanes: list[Lane] = []
    for lane, _ in tables.lane.scan(Lane(TOPICS, "")):
        if not lane.topic.startswith(TOPICS):
            break
        if is_kept(*lane):
            lanes.append(lane)
    return lanes
