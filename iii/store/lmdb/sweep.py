"""What happens by itself: rows come due, expired rows go (what has a bound: histories.py, changelog.py).

Each is bounded per group, so that no backlog of it delays a commit; `next_ms` says when to come back.
"""

from __future__ import annotations

import lmdb

from iii.store.lmdb.apply import Applier
from iii.store.lmdb.environment import Tables
from iii.store.lmdb.keys import (
    EXPIRES_READY,
    EXPIRES_RUNS,
    EXPIRY_HEAD,
    LATER,
    NEVER_MS,
    READY,
    UNIQUE_VALUE,
    u64,
)

ROWS_MAX = 1_000
"""Rows of one kind moved or removed in one group."""


def next_ms(txn: lmdb.Transaction[bytes], tables: Tables) -> int:
    """When something is due next on the delay clock; NEVER_MS = nothing waits."""
    due = NEVER_MS
    for table in (tables.later, tables.expiry):
        cursor = txn.cursor(table)
        if cursor.first():
            due = min(due, u64.unpack_from(cursor.key())[0])
    return due


def sweep(applier: Applier) -> None:
    """Everything that is due by now, up to ROWS_MAX of each kind."""
    _come_due(applier)
    _expire(applier)


def _come_due(applier: Applier) -> None:
    for key in _due_keys(applier, applier.tables.later):
        due_ms, id, number = LATER.unpack(key)
        lane = applier.catalog.by_number[number]
        taken = applier.take_later(lane, due_ms, id)
        assert taken is not None
        priority, row = taken
        applier.ready(lane, 255 - priority, id, row)


def _expire(applier: Applier) -> None:
    for key in _due_keys(applier, applier.tables.expiry):
        kind, rest = key[8], key[EXPIRY_HEAD.size :]
        if kind == EXPIRES_READY:
            number, rank, id = READY.unpack(rest)
            lane = applier.catalog.by_number[number]
            row = applier.take_ready(lane, rank, id)
            assert row is not None
            applier.left(lane, id, row)
        elif kind == EXPIRES_RUNS:
            _expire_runs(applier, key)
        else:
            _expire_unique(applier, key, rest)


def _expire_unique(applier: Applier, key: bytes, unique_key: bytes) -> None:
    raw = applier.txn.get(unique_key, db=applier.tables.unique)
    if raw is not None and UNIQUE_VALUE.unpack(raw)[1] == EXPIRY_HEAD.unpack_from(key)[0]:
        applier.delete(applier.tables.unique, unique_key)
    applier.delete(applier.tables.expiry, key)


def _expire_runs(applier: Applier, key: bytes) -> None:
    """What is left of them beyond ROWS_MAX goes with the next group."""
    last = u64.unpack(applier.txn.get(key, db=applier.tables.expiry) or u64.pack(0))[0]
    applier.wrote = True
    if applier.histories.expire_runs(applier.txn, last, ROWS_MAX):
        applier.delete(applier.tables.expiry, key)


def _due_keys(applier: Applier, table: lmdb._Database) -> list[bytes]:
    keys: list[bytes] = []
    cursor = applier.txn.cursor(table)
    end = u64.pack(applier.now_ms + 1)
    found = cursor.first()
    while found and len(keys) < ROWS_MAX:
        key = cursor.key()
        if key >= end:
            break
        keys.append(key)
        found = cursor.next()
    return keys


__all__ = ["ROWS_MAX", "next_ms", "sweep"]
