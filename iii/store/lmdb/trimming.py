"""How a table that only grows gets shorter: its size in the file, and its oldest rows going."""

from __future__ import annotations

from typing import NamedTuple

import lmdb

from iii.store.lmdb.keys import u64

__all__ = ["Size", "remove_oldest", "size_of"]


class Size(NamedTuple):
    """What a table takes in the file, by its pages."""

    rows: int
    bytes: int


def size_of(txn: lmdb.Transaction[bytes], table: lmdb._Database) -> Size:
    stat = txn.stat(table)
    pages = stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"]
    return Size(stat["entries"], pages * stat["psize"])


def remove_oldest(txn: lmdb.Transaction[bytes], table: lmdb._Database, last: int, rows_max: int) -> int:
    """Remove rows numbered up to `last`, the oldest first; how many went."""
    if last <= 0:
        return 0
    left = rows_max
    cursor = txn.cursor(table)
    end = u64.pack(last)
    found = cursor.first()
    while found and left and cursor.key() <= end:
        found = cursor.delete() and bool(cursor.key())
        left -= 1
    return rows_max - left
