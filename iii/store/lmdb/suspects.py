"""The suspects that are ready: a row of `counter` for each, so that a lane of a million need not be read.

A catalog counts them by lane. A process of an earlier version moves messages without a word here. A row that
names no suspect any more goes when one is looked for to be granted; a suspect without a row gets one where a
grant passes over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iii.model import SUSPECT_CRASHES
from iii.store.lmdb.keys import READY, SUSPECT, suspect_key, suspects_prefix
from iii.store.lmdb.rows import Row, decode_row

if TYPE_CHECKING:
    import lmdb

    from iii.store.lmdb.catalog import LaneEntry
    from iii.store.lmdb.environment import Tables
    from iii.store.lmdb.moves import Moves

__all__ = ["count_by_lane", "first", "list_suspect", "may_have_one", "passed_over", "place", "unlist", "wait"]


def count_by_lane(txn: lmdb.Transaction[Any], tables: Tables) -> Counter[int]:
    """How many rows there are, by the number of their lane."""
    counts: Counter[int] = Counter()
    cursor = txn.cursor(tables.counter)
    found = cursor.set_range(SUSPECT)
    while found and (key := cursor.key())[:1] == SUSPECT:
        counts[READY.unpack(key[1:])[0]] += 1
        found = cursor.next()
    return counts


def wait(lanes: Iterable[LaneEntry]) -> bool:
    """Whether one of these lanes, in which suspects are ready, may be granted from."""
    return any(lane.served and not lane.paused for lane in lanes)


def place(moves: Moves, count: int) -> int:
    """How many places of a lane with a cap, and so many suspects, are left to the quarantine that runs."""
    if not count or moves.suspects != "none":
        return 0
    return any(entry.suspects == "only" for entry in moves.catalog.sessions.values())


def list_suspect(moves: Moves, lane: LaneEntry, rank: int, id: int) -> None:
    """A suspect is ready. The lane has been touched."""
    lane.suspects += 1
    moves.catalog.suspected.add(lane)
    moves.put(moves.tables.counter, suspect_key(lane.number, rank, id), b"")


def unlist(moves: Moves, lane: LaneEntry, rank: int, id: int) -> None:
    """It is ready no more. The lane has been touched."""
    if moves.delete(moves.tables.counter, suspect_key(lane.number, rank, id)) is None:
        return
    lane.suspects -= 1
    moves.catalog.count_suspects(lane, lane.suspects)


def passed_over(moves: Moves, lane: LaneEntry, rank: int, id: int) -> None:
    """A grant met a suspect in `ready`: an earlier version put it there where it has no row."""
    if moves.txn.get(suspect_key(lane.number, rank, id), db=moves.tables.counter) is None:
        moves.touch(lane)
        list_suspect(moves, lane, rank, id)


def may_have_one(moves: Moves) -> bool:
    """Whether this store's session may be granted a suspect now."""
    if moves.suspects == "only":
        return not moves.live
    return moves.suspects == "one" and not any(
        held[3].crashes >= SUSPECT_CRASHES for held in moves.live.values()
    )


def first(moves: Moves, lane: LaneEntry) -> tuple[int, int, Row, bytes] | None:
    """(rank, id, row, record) of the lane's first suspect in the order of grants."""
    prefix = suspects_prefix(lane.number)
    cursor = moves.txn.cursor(moves.tables.counter)
    while cursor.set_range(prefix) and (key := cursor.key()).startswith(prefix):
        _, rank, id = READY.unpack(key[1:])
        record = moves.txn.get(key[1:], db=moves.tables.ready)
        row = None if record is None else decode_row(record)
        if record is not None and row is not None and row.crashes >= SUSPECT_CRASHES:
            return rank, id, row, record
        moves.touch(lane)
        unlist(moves, lane, rank, id)
    return None
