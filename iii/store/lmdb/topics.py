"""Topics without a step: those in which nothing lies are forgotten where there are too many (guarantee 16).

It looks at the lanes alone that may have become empty since the last look (`Catalog.find_idle`), so that
refusal upon refusal does not count all topics. What a Txn made it forget is there again if it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iii.store.lmdb.keys import lane_counts_key, u32
from iii.store.lmdb.rows import LaneRow

if TYPE_CHECKING:
    from iii.store.lmdb.catalog import LaneEntry
    from iii.store.lmdb.moves import Moves

__all__ = ["forget_topics"]


def forget_topics(moves: Moves) -> None:
    """Make room for other topics."""
    for lane in moves.catalog.find_idle():
        if _is_forgettable(moves, lane):
            _forget(moves, lane)


def _is_forgettable(moves: Moves, lane: LaneEntry) -> bool:
    if lane.row() != LaneRow(lane.topic, lane.step):
        return False
    key, cursor = u32.pack(lane.number), moves.txn.cursor(moves.tables.unique)
    return not (cursor.set_range(key) and cursor.key().startswith(key))


def _forget(moves: Moves, lane: LaneEntry) -> None:
    if moves.undo is not None:
        moves.undo.append((moves.catalog.remember, lane))
    moves.delete(moves.tables.lane, u32.pack(lane.number))
    moves.delete(moves.tables.counter, lane_counts_key(lane.number))
    moves.catalog.drop(lane)
    moves.catalog.counters.catalog += 1
