"""Kept answers in a file that the first release wrote, or still writes: it does not count them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from iii.clock import FakeClock
from iii.model import Enqueue, LanePolicy, Txn, Unique
from iii.store.contract import Limits
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.kept import RECOUNT_S, Kept
from iii.store.lmdb.keys import KEPT, KEPT_KEY, TABLES
from iii.store.lmdb.rows import decode_row, encode

DAY = 24 * 3600 * 1000
POLICIES = [LanePolicy(f"$http/{step}", "", retention_ms=DAY) for step in ("A", "B")]


def answer(key: int, size: int = 488) -> Enqueue:
    """It counts 1,000 bytes."""
    return Enqueue(
        f"$http/{'AB'[key % 2]}", bytes(size), step="", unique=Unique(f"key-{key}", DAY, exclusive=True)
    )


def known(store: LmdbStore, key: int) -> bool:
    return store.known(f"$http/{'AB'[key % 2]}", "", f"key-{key}") is not None


def store_in(folder: Path, bytes_max: int = 100_000) -> LmdbStore:
    return LmdbStore(folder, clock=FakeClock(), limits=Limits(kept_bytes_max=bytes_max), map_bytes=1 << 28)


def figures(store: LmdbStore) -> tuple[int, int, int]:
    found = store.figures()
    return found.kept_bytes, found.kept_answers, found.kept_evicted


async def filled(folder: Path, keys: range) -> None:
    store = store_in(folder)
    await store.open()
    await store.open_session(POLICIES)
    for key in keys:
        await store.commit(Txn((answer(key, 488 if key % 3 else 4_488),)))
    await store.close()


async def until(store: LmdbStore, met: Callable[[], bool]) -> None:
    """Group after group of the store's."""
    async with asyncio.timeout(10):
        while not met():
            await store.call(lambda applier: None)


Edit = Callable[[lmdb.Environment, "lmdb.Transaction[bytes]"], None]


def edited(folder: Path, edit: Edit) -> None:
    with (
        lmdb.open(str(folder), max_dbs=len(TABLES), map_size=1 << 28) as env,
        env.begin(write=True) as txn,
    ):
        edit(env, txn)


def uncounted(env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> None:
    txn.delete(KEPT_KEY, db=env.open_db(b"counter", txn=txn))


def without_keys(env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> None:
    """As the first release wrote rows: without the name of their unique key."""
    ready = env.open_db(b"ready", txn=txn)
    for key, record in list(txn.cursor(ready)):
        row = decode_row(record)
        row.headers = {}
        txn.put(key, encode(row), db=ready)


async def test_answers_that_nobody_counted_are_counted_when_a_session_opens(tmp_path: Path) -> None:
    await filled(tmp_path, range(10))
    edited(tmp_path, uncounted)
    store = store_in(tmp_path)
    await store.open()
    assert (store.verify(), figures(store)) == ([], (0, 0, 0))
    await store.open_session(POLICIES)
    assert figures(store) == (6 * 1_000 + 4 * 5_000, 10, 0)
    assert store.verify() == []
    await store.close()


async def test_of_uncounted_ones_only_as_many_as_the_bound_takes_are_read_and_the_older_go(
    tmp_path: Path,
) -> None:
    await filled(tmp_path, range(40))
    edited(tmp_path, uncounted)
    store = store_in(tmp_path, 12_000)
    await store.open()
    await store.open_session(POLICIES)
    await until(store, lambda: figures(store) == (12_000, 4, 36))
    assert [key for key in range(40) if known(store, key)] == [36, 37, 38, 39]
    assert store.verify() == []
    await store.close()


@pytest.mark.parametrize("before", [0, 10])
async def test_what_the_first_release_kept_or_removed_since_is_found_by_number_and_newest_id(
    tmp_path: Path, before: int
) -> None:
    """The row says what was there at first; then answers came (and as many expired) that it does not know."""
    await filled(tmp_path, range(before, 20))
    rows: list[bytes] = []

    def remember(env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> None:
        rows.append(txn.get(KEPT_KEY, db=env.open_db(b"counter", txn=txn)) or b"")

    def set_back(env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> None:
        txn.put(KEPT_KEY, rows[0], db=env.open_db(b"counter", txn=txn))

    edited(tmp_path, remember)
    store = store_in(tmp_path, 30_000)
    await store.open()
    await store.open_session(POLICIES)
    for key in range(20, 40):
        await store.commit(Txn((answer(key),)))
    await store.close()
    edited(tmp_path, set_back)
    again = store_in(tmp_path, 100_000)
    await again.open()
    assert again.verify() == []
    await again.open_session(POLICIES)
    held, answers, _ = figures(again)
    assert answers == sum(known(again, key) for key in range(40))
    assert held == sum((1_000 if key % 3 or key >= 20 else 5_000) for key in range(40) if known(again, key))
    await again.close()


async def test_a_first_release_beside_us_makes_nobody_count_in_each_commit(tmp_path: Path) -> None:
    """It adds answers without a word; ours may be wrong for RECOUNT_S then, and is right again after it."""
    now_s = time.monotonic()

    def with_our_clock(applier: Applier) -> None:
        applier.kept.now_s = lambda: now_s

    def unknown(applier: Applier) -> None:
        applier.txn.put(KEPT_KEY, KEPT.pack(1_000, 1, 1, 0, 0), db=applier.tables.counter)
        applier.wrote = True

    store, other = store_in(tmp_path), store_in(tmp_path)
    for each in (store, other):
        await each.open()
        await each.open_session(POLICIES)
        await each.call(with_our_clock)
    await store.commit(Txn((answer(1),)))
    for found in ((3_000, 3, 0), (2_000, 2, 0)):
        await store.commit(Txn((answer(found[0]),)))
        await store.call(unknown)
        await other.commit(Txn((answer(found[0] + 1),)))
        assert figures(other) == found
        assert other.verify() == []
    now_s += RECOUNT_S
    await other.commit(Txn((answer(9),)))
    assert figures(other) == (6_000, 6, 0)
    assert other.verify() == []
    for each in (store, other):
        await each.close()


async def test_an_answer_that_goes_leaves_no_row_behind(tmp_path: Path) -> None:
    store = store_in(tmp_path, 10_000)
    await store.open()
    await store.open_session(POLICIES)
    for key in range(100):
        await store.commit(Txn((answer(key, 488 if key % 3 else 4_488),)))

    def rows(applier: Applier) -> dict[str, int]:
        tables = {name: getattr(applier.tables, name) for name in ("ready", "unique", "expiry", "body")}
        return {name: applier.txn.stat(table)["entries"] for name, table in tables.items()}

    answers = store.figures().kept_answers
    assert await store.call(rows) == {
        "ready": answers,
        "unique": answers,
        "expiry": 2 * answers,
        "body": sum(known(store, key) for key in range(0, 100, 3)),
    }
    assert store.verify() == []
    await store.close()


async def test_an_answer_that_goes_without_its_key_being_named_frees_the_key_all_the_same(
    tmp_path: Path,
) -> None:
    await filled(tmp_path, range(4))
    edited(tmp_path, without_keys)
    store = store_in(tmp_path, 1_000)
    await store.open()
    await store.open_session(POLICIES)
    await until(store, lambda: figures(store) == (1_000, 1, 3) or figures(store) == (0, 0, 4))
    await store.commit(Txn((answer(1),)))
    assert known(store, 1)
    assert store.verify() == []
    await store.close()


async def test_an_answer_within_the_bound_is_kept_without_a_look_at_the_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, bytes_max=3_000)
    await store.open()
    await store.open_session(POLICIES)
    first, looks = Kept._first, [0]

    def counted(*given: Any) -> int:
        looks[0] += 1
        return first(*given)

    monkeypatch.setattr(Kept, "_first", counted)
    for key in range(3):
        await store.commit(Txn((answer(key),)))
    assert looks == [0]
    await store.commit(Txn((answer(3),)))
    assert looks[0] > 0 and figures(store) == (3_000, 3, 1)
    await store.close()
