"""The bounded histories, `run` and `audit`: writes their new rows, and what is too much goes (quotas.py).

Owns the rows "h", "i" and "j" of `counter` (keys.py): how much each share holds, and the rows of each by age,
so that the oldest of a share is found without reading the others. Kept by the writer's thread.

A process of an earlier version on the same file knows none of these rows. What it appends is counted here
with the next group that keeps a row; what it takes away, always the oldest of the whole table, is no longer
counted then. Either is bounded per group, as is what goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iii.store.contract import Limits
from iii.store.lmdb.keys import (
    EXPIRES_RUNS,
    EXPIRY_HEAD,
    HELD,
    held_key,
    placed_prefix,
    placed_up_to_key,
    u32,
    u64,
)
from iii.store.lmdb.trimming import remove_oldest
from iii.store.quotas import KINDS, PARTS, Kind, Place, Shares, place_of

if TYPE_CHECKING:
    import lmdb

    from iii.store.lmdb.environment import Tables

__all__ = ["ROWS_MAX", "Histories", "shares_of"]

ROWS_MAX = 1_000
"""Rows counted, or taken away, in one group."""


class Histories:
    def __init__(self, tables: Tables, limits: Limits) -> None:
        self.rows: dict[Kind, list[tuple[bytes, bytes]]] = {kind: [] for kind in KINDS}
        self._tables, self._limits = tables, limits
        self._shares: Shares | None = None
        self._changed: set[Place] = set()
        self._shrunk = dict.fromkeys(KINDS, True)  # the oldest rows went, and may be counted still
        self._first: dict[Kind, bytes] = {}  # the oldest row when no other was counted
        self._expired = False  # which of the runs did in this process

    def begin(self) -> None:
        """A group begins."""
        for rows in self.rows.values():
            rows.clear()

    def forget(self) -> None:
        """Nothing of the group was written."""
        self._first.clear()
        self.see_others()

    def see_others(self) -> None:
        """Another process has written."""
        self._shares = None
        self._changed.clear()
        self._shrunk = dict.fromkeys(KINDS, True)

    def expire_runs(self, txn: lmdb.Transaction[bytes], last: int, rows_max: int) -> bool:
        """The run records up to this number go; whether all of them went."""
        self._shrunk["run"] = self._expired = True
        return remove_oldest(txn, self._tables.run, last, rows_max) < rows_max

    def flush(self, txn: lmdb.Transaction[bytes], now_ms: int) -> None:
        """Write the group's rows, and let go of what is too much."""
        counter: lmdb.Cursor[bytes] | None = None
        for kind, rows in self.rows.items():
            if rows:
                counter = counter or txn.cursor(self._tables.counter)
                self._append(txn, counter, kind, rows)
                if kind == "run":
                    until = EXPIRY_HEAD.pack(self._limits.run_until_ms(now_ms), EXPIRES_RUNS)
                    txn.put(until, rows[-1][0], db=self._tables.expiry)
                self._trim(txn, counter, kind)
            elif kind == "run" and self._expired:
                self._drop_gone(txn, txn.cursor(self._tables.counter), kind)
        if self._changed:
            self._write(txn)

    def _append(
        self,
        txn: lmdb.Transaction[bytes],
        counter: lmdb.Cursor[bytes],
        kind: Kind,
        rows: list[tuple[bytes, bytes]],
    ) -> None:
        table = self._table(kind)
        txn.cursor(table).putmulti(rows, append=True)
        if self._shares is None:
            self._shares = shares_of(txn, self._tables)
        up_to = self._place_older(txn, counter, kind, u64.unpack(rows[0][0])[0] - 1)
        self._place(counter, kind, rows)
        if up_to:
            txn.put(placed_up_to_key(PARTS[kind][0]), rows[-1][0], db=self._tables.counter)

    def _place_older(
        self, txn: lmdb.Transaction[bytes], counter: lmdb.Cursor[bytes], kind: Kind, last: int
    ) -> bool:
        """Count what others appended, up to number `last`; False where that was too much for one group."""
        key = placed_up_to_key(PARTS[kind][0])
        placed_up_to = u64.unpack(txn.get(key, db=self._tables.counter) or u64.pack(0))[0]
        if placed_up_to >= last:
            return True
        cursor = txn.cursor(self._table(kind))
        left, end = ROWS_MAX, u64.pack(last)
        found = cursor.set_range(u64.pack(placed_up_to + 1))
        while found and cursor.key() <= end:
            if not left:
                txn.put(key, u64.pack(placed_up_to), db=self._tables.counter)
                return False
            self._place(counter, kind, [cursor.item()])
            placed_up_to = u64.unpack(cursor.key())[0]
            left -= 1
            found = cursor.next()
        return True

    def _place(self, counter: lmdb.Cursor[bytes], kind: Kind, rows: list[tuple[bytes, bytes]]) -> None:
        """Count these rows, but for those that are counted already."""
        for number, content in rows:
            place, size = place_of(kind, content), len(content)
            if counter.put(placed_prefix(*place) + number, u32.pack(size), overwrite=False):
                self._count(place, 1, size)

    def _trim(self, txn: lmdb.Transaction[bytes], counter: lmdb.Cursor[bytes], kind: Kind) -> None:
        assert self._shares is not None
        self._drop_gone(txn, counter, kind)
        rows = txn.cursor(self._table(kind))
        for _ in range(ROWS_MAX):
            place = self._shares.too_much(kind, self._limits)
            if place is None or (number := self._take_oldest(counter, place)) is None:
                break
            if rows.key() == number or rows.set_key(number):  # mostly the next one
                rows.delete()
        if not self._shrunk[kind]:
            self._first[kind] = self._oldest(txn, kind)

    def _drop_gone(self, txn: lmdb.Transaction[bytes], counter: lmdb.Cursor[bytes], kind: Kind) -> None:
        """What is counted of rows older than the oldest that is there."""
        if not self._shrunk[kind]:
            return
        first, left = self._oldest(txn, kind), ROWS_MAX
        if self._shares is None:
            self._shares = shares_of(txn, self._tables)
        known = self._first.get(kind) == first  # whoever takes rows away without counting takes the oldest
        for place in () if known else self._shares.of_kind(kind):
            while left and self._take_oldest(counter, place, before=first) is not None:
                left -= 1
        self._shrunk[kind] = not left
        if kind == "run":
            self._expired = not left

    def _oldest(self, txn: lmdb.Transaction[bytes], kind: Kind) -> bytes:
        """Its number; one that none has where there is no row."""
        cursor = txn.cursor(self._table(kind))
        return cursor.key() if cursor.first() else u64.pack((1 << 64) - 1)

    def _take_oldest(
        self, counter: lmdb.Cursor[bytes], place: Place, before: bytes | None = None
    ) -> bytes | None:
        """The number of the share's oldest row, which is counted no more; None: it is not older than that."""
        prefix = placed_prefix(*place)
        if not counter.set_range(prefix) or not (key := counter.key()).startswith(prefix):
            return None
        number = key[len(prefix) :]
        if before is not None and number >= before:
            return None
        self._count(place, -1, -u32.unpack(counter.value())[0])
        counter.delete()
        return number

    def _count(self, place: Place, rows: int, size: int) -> None:
        assert self._shares is not None
        self._shares.add(place, rows, size)
        self._changed.add(place)

    def _write(self, txn: lmdb.Transaction[bytes]) -> None:
        assert self._shares is not None
        for place in self._changed:
            rows, size = self._shares.of(place)
            if rows:
                txn.put(held_key(*place), HELD.pack(rows, size), db=self._tables.counter)
            else:
                txn.delete(held_key(*place), db=self._tables.counter)
        self._changed.clear()

    def _table(self, kind: Kind) -> lmdb._Database:
        return self._tables.run if kind == "run" else self._tables.audit


def shares_of(txn: lmdb.Transaction[bytes], tables: Tables) -> Shares:
    """What the file says of them."""
    shares = Shares()
    cursor = txn.cursor(tables.counter)
    found = cursor.set_range(b"h")
    while found and cursor.key()[:1] == b"h":
        key = cursor.key()
        shares.add(Place(key[1], key[2:].decode()), *HELD.unpack(cursor.value()))
        found = cursor.next()
    return shares
