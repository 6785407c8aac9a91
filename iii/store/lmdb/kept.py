"""How much the kept answers take, and which go: the oldest, as soon as they are over their bound (kept.py).

    counter "kept"   what they take, kept up by each answer that comes or leaves
    seen anew        where another process wrote: the first release keeps answers without counting them. How
                     many there are and the newest of them tell whether the number is right; an id is given
                     once. Where it is not, they are counted, from the newest on as far as the bound goes:
                     what is older goes uncounted
    end of a group   the oldest go until the others are within the bound. A group pays for what it added; of
                     an excess from before, ROWS_MAX rows go at once and `more` says that there are others

It counts and chooses; moves.py takes the rows away, and calls `remove` for each. Must not know what answers
are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace, merge
from typing import TYPE_CHECKING, NamedTuple

from iii.store.contract import Limits
from iii.store.kept import size_of
from iii.store.lmdb.keys import (
    BODY,
    KEPT,
    KEPT_KEY,
    LANE_COUNTS,
    READY,
    lane_counts_key,
)
from iii.store.lmdb.rows import decode_row

if TYPE_CHECKING:
    import lmdb

    from iii.store.lmdb.catalog import Catalog, LaneEntry
    from iii.store.lmdb.environment import Tables
    from iii.store.lmdb.moves import Moves

__all__ = ["Kept", "Total", "miscounted", "total_of"]

ROWS_MAX = 1_000
RECOUNT_S = 10.0
"""Between two counts: while a first release runs beside us each look may find the number wrong."""
TOLD_S = 3600.0
RANK = 255 - 128

_log = logging.getLogger("iii.store")


class Total(NamedTuple):
    """The row of `counter`. `newest`: an id; `uncounted`: how many of the oldest `bytes` leaves out;
    `evicted`: since the store was made."""

    bytes: int = 0
    answers: int = 0
    newest: int = 0
    uncounted: int = 0
    evicted: int = 0


def total_of(txn: lmdb.Transaction[bytes], tables: Tables) -> Total:
    raw = txn.get(KEPT_KEY, db=tables.counter)
    return Total() if raw is None else Total(*KEPT.unpack(raw))


def miscounted(total: Total, sizes: dict[int, int]) -> str | None:
    """What is wrong with the row, there being answers of these sizes by id; None where nothing is, or where
    the first release added or removed some since."""
    if (total.answers, total.newest) != (len(sizes), max(sizes, default=0)):
        return None
    counted = sum(sizes[id] for id in sorted(sizes)[total.uncounted :])
    if counted == total.bytes:
        return None
    return f"kept answers take {total.bytes} bytes as counted, there are {counted}"


class Kept:
    """The writer thread's. `look` before the first answer of a group comes or leaves, `flush` at its end."""

    def __init__(self, tables: Tables, catalog: Catalog, limits: Limits) -> None:
        self._tables, self._catalog, self._most = tables, catalog, limits.kept_bytes_max
        self.total = Total()
        self.more = False
        self._seen = self._wrong = self._dirty = self._newest_left = False
        self._added = 0  # bytes of this group
        self._counted_s = -RECOUNT_S
        self._told_s, self._untold = -TOLD_S, 0
        self.now_s = time.monotonic

    def forget(self) -> None:
        """Another process wrote, or the group came to nothing: what is in memory may not be true."""
        self._seen = self._dirty = False
        self._added = 0

    def look(self, txn: lmdb.Transaction[bytes]) -> None:
        """Be true for this write transaction."""
        if self._seen:
            return
        self._seen, self.total = True, total_of(txn, self._tables)
        lanes = self._lanes(txn)
        answers, newest = sum(lanes.values()), max((self._last(txn, lane) for lane in lanes), default=0)
        if (answers, newest) != (self.total.answers, self.total.newest):
            now_s = self.now_s()
            if now_s < self._counted_s + RECOUNT_S:
                self._wrong = True
            else:
                self._count(txn, list(lanes), answers, newest)
                self._counted_s = now_s
        self.more = self.total.bytes > self._most or self.total.uncounted > 0

    def add(self, id: int, payload_bytes: int) -> Total:
        """An answer comes; what there was before, for `restore`."""
        before, size = self.total, size_of(payload_bytes)
        self.total = before._replace(bytes=before.bytes + size, answers=before.answers + 1, newest=id)
        self._added += size
        self._dirty = True
        return before

    def remove(self, id: int, payload_bytes: int) -> Total:
        """An answer leaves."""
        before = self.total
        self._newest_left |= id == before.newest
        answers = max(0, before.answers - 1)
        if before.uncounted:
            self.total = before._replace(uncounted=before.uncounted - 1, answers=answers)
        else:
            size = max(0, before.bytes - size_of(payload_bytes)) if answers else 0
            self.total = before._replace(bytes=size, answers=answers)
        self._dirty = True
        return before

    def restore(self, before: Total) -> None:
        self.total = before

    def flush(self, moves: Moves) -> None:
        """Let the oldest go, and write what is left."""
        if not (self._dirty or self.more):
            return
        self.look(moves.txn)
        self._trim(moves)
        if self._newest_left:
            newest = max((self._last(moves.txn, lane) for lane in self._catalog.kept), default=0)
            self.total = self.total._replace(newest=newest)
        moves.txn.put(KEPT_KEY, KEPT.pack(*self.total), db=self._tables.counter)
        self._dirty = self._newest_left = False
        self._added = 0
        if self._wrong:  # looked at again with the next answer
            self._seen = self._wrong = False

    # --------------------------------------------------------------------------------------- the oldest go

    def _trim(self, moves: Moves) -> None:
        if self.total.bytes <= self._most and not self.total.uncounted:
            self.more = False
            return
        heads = self._heads(moves.txn)
        heapify(heads)
        gone = gone_bytes = 0
        while heads and (self.total.bytes > self._most or self.total.uncounted):
            if gone >= ROWS_MAX and gone_bytes >= self._added:
                break
            id, number = heads[0]
            lane, before = self._catalog.by_number[number], self.total.bytes
            row = moves.take_ready(lane, RANK, id)
            assert row is not None
            moves.left(lane, id, row)
            gone, gone_bytes = gone + 1, gone_bytes + before - self.total.bytes
            following = self._first(moves.txn, lane)
            if following:
                heapreplace(heads, (following, number))
            else:
                heappop(heads)
        self.more = bool(heads) and (self.total.bytes > self._most or self.total.uncounted > 0)
        if gone:
            self.total = self.total._replace(evicted=self.total.evicted + gone)
            self._tell(gone)

    def _tell(self, gone: int) -> None:
        self._untold += gone
        now_s = self.now_s()
        if now_s >= self._told_s + TOLD_S:
            _log.warning(
                "kept answers take http.max_idempotency (%d bytes): the oldest %d went before their time, "
                "and a request with the same Idempotency-Key runs again (told once an hour)",
                self._most,
                self._untold,
            )
            self._told_s, self._untold = now_s, 0

    # --------------------------------------------------------------------------------------------- looking

    def _lanes(self, txn: lmdb.Transaction[bytes]) -> dict[LaneEntry, int]:
        """Where answers lie, and how many as the counts say: those of this group left out."""
        found: dict[LaneEntry, int] = {}
        for lane in self._catalog.kept:
            if raw := txn.get(lane_counts_key(lane.number), db=self._tables.counter):
                found[lane] = LANE_COUNTS.unpack(raw)[0]
        return found

    def _heads(self, txn: lmdb.Transaction[bytes]) -> list[tuple[int, int]]:
        lanes = self._catalog.kept
        return [(id, lane.number) for lane in lanes if lane.ready and (id := self._first(txn, lane))]

    def _first(self, txn: lmdb.Transaction[bytes], lane: LaneEntry) -> int:
        cursor = txn.cursor(self._tables.ready)
        found = cursor.set_range(READY.pack(lane.number, RANK, 0))
        return _id_of(cursor.key(), lane) if found else 0

    def _last(self, txn: lmdb.Transaction[bytes], lane: LaneEntry) -> int:
        cursor = txn.cursor(self._tables.ready)
        found = cursor.prev() if cursor.set_range(READY.pack(lane.number, RANK + 1, 0)) else cursor.last()
        return _id_of(cursor.key(), lane) if found else 0

    def _count(self, txn: lmdb.Transaction[bytes], lanes: list[LaneEntry], answers: int, newest: int) -> None:
        """From the newest on, until the bound is reached."""
        size = counted = 0
        for _, each in merge(*(self._backwards(txn, lane) for lane in lanes), reverse=True):
            size, counted = size + each, counted + 1
            if size > self._most:
                break
        evicted = self.total.evicted
        self.total = Total(size, answers, newest, max(0, answers - counted), evicted)
        self._dirty = True

    def _backwards(self, txn: lmdb.Transaction[bytes], lane: LaneEntry) -> Iterator[tuple[int, int]]:
        """(id, size) of a lane's answers, the newest first."""
        cursor = txn.cursor(self._tables.ready)
        if not (cursor.set_range(READY.pack(lane.number, RANK + 1, 0)) and cursor.prev()):
            cursor.last()
        for key, record in cursor.iterprev():
            if not (id := _id_of(key, lane)):
                return
            payload = decode_row(record).payload
            if payload is None:
                payload = txn.get(BODY.pack(lane.number, id), db=self._tables.body) or b""
            yield id, size_of(len(payload))


def _id_of(key: bytes, lane: LaneEntry) -> int:
    """0: the key is no answer of this lane."""
    if len(key) != READY.size:
        return 0
    number, rank, id = READY.unpack(key)
    return id if (number, rank) == (lane.number, RANK) else 0
