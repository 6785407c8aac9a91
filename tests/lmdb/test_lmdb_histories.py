"""The histories of a file that an earlier version wrote, or writes beside us: it knows of no quotas."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from iii.clock import FakeClock
from iii.errors import StoreFull
from iii.model import Put, Record, Txn
from iii.store.contract import Held, Limits
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.histories import ROWS_MAX, Histories
from iii.store.lmdb.keys import COUNTERS, COUNTERS_KEY, u64
from iii.store.lmdb.trimming import remove_oldest

V1 = Path(__file__).parent / "v1" / "data.mdb"
LIMITS = Limits(runs_max=20, runs_failed_max=10)


def row(step: str, outcome: str, n: int = 0) -> bytes:
    return json.dumps({"step": step, "outcome": outcome, "n": n}).encode()


async def commit(store: LmdbStore, *contents: bytes) -> None:
    await store.commit(Txn([Record("run", content) for content in contents]))


def earlier_version_writes(store: LmdbStore, contents: list[bytes], keep: int) -> None:
    """As commit a04e96a does: appends, then removes all but the newest `keep`, whatever they are."""
    tables = store._opened.tables
    with store._opened.writing, store._opened.env.begin(write=True) as txn:
        numbers = list(COUNTERS.unpack(txn.get(COUNTERS_KEY, db=tables.counter) or bytes(COUNTERS.size)))
        for content in contents:
            numbers[6] += 1
            txn.put(u64.pack(numbers[6]), content, db=tables.run, append=True)
        remove_oldest(txn, tables.run, numbers[6] - keep, 1 << 30)
        numbers[0] += 1
        txn.put(COUNTERS_KEY, COUNTERS.pack(*numbers), db=tables.counter)


def kept(store: LmdbStore) -> Counter[str]:
    rows = [json.loads(content) for _, content in store.records("run", limit=100_000)]
    return Counter(f"{row['step']} {row['outcome']}" for row in rows)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data", map_bytes=256 << 20, clock=FakeClock(), limits=LIMITS)
    await store.open()
    yield store
    assert store.verify() == []
    await store.close()


async def test_what_an_earlier_version_appends_counts_with_the_next_record(store: LmdbStore) -> None:
    await commit(store, row("A", "failed"))
    earlier_version_writes(store, [row("B", "failed"), row("B", "done")] * 30, keep=1_000)
    assert store.held() == Held(failed=1) and store.verify() == []
    await commit(store, row("A", "done"))
    assert kept(store) == {"A failed": 1, "B failed": 9, "A done": 1, "B done": 19}
    assert store.held() == Held(runs=20, failed=10)


async def test_what_an_earlier_version_took_away_is_counted_no_more(store: LmdbStore) -> None:
    await commit(store, *(row("A", "failed", n) for n in range(10)))
    earlier_version_writes(store, [row("B", "done")] * 5, keep=5)
    assert kept(store) == {"B done": 5} and store.verify() == []
    await commit(store, *(row("C", "failed", n) for n in range(10)))
    assert kept(store) == {"B done": 5, "C failed": 10}, "nothing goes for rows that are gone"
    assert store.held() == Held(runs=5, failed=10)


async def test_however_many_rows_an_earlier_version_left_a_group_counts_so_many(store: LmdbStore) -> None:
    earlier_version_writes(store, [row("Old", "failed", n) for n in range(2 * ROWS_MAX + 100)], keep=1 << 20)
    after = []
    for n in range(6):
        await commit(store, row("New", "failed", n))
        after.append(store.held().failed)
        assert store.verify() == []
    assert kept(store) == {"Old failed": 5, "New failed": 5}
    assert after[0] == after[-1] == 10, "what is counted is within the quota at once"
    assert len(store.records("run", limit=10_000)) == 10


async def test_a_group_that_keeps_no_record_touches_no_history(store: LmdbStore) -> None:
    earlier_version_writes(store, [row("Old", "failed")] * 20, keep=1 << 20)
    await store.commit(Txn([Put("ns", "k", b"1")]))
    assert len(store.records("run", limit=100)) == 20


async def test_the_records_of_a_store_of_format_1_count_like_new_ones(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(V1, tmp_path / "data")
    store = LmdbStore(tmp_path / "data", map_bytes=64 << 20)
    await store.open()
    try:
        before = store.records("run", limit=10_000)
        outcomes = Counter(json.loads(content)["outcome"] for _, content in before)
        await commit(store, row("New", "failed"))
        failed = outcomes["failed"] + outcomes["dead"]
        assert failed and store.held().failed == failed + 1
        assert store.held().runs == outcomes.total() - failed and store.verify() == []
        assert store.records("run", limit=10_000)[1:] == before
    finally:
        await store.close()


async def test_after_another_process_wrote_only_a_history_whose_oldest_went_is_looked_through(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit(store, *(row(f"Step{n}", "failed") for n in range(8)))
    take, looks = Histories._take_oldest, [0]

    def counted(*given: Any, **more: Any) -> bytes | None:
        looks[0] += 1
        return take(*given, **more)

    monkeypatch.setattr(Histories, "_take_oldest", counted)
    for _ in range(5):
        earlier_version_writes(store, [], keep=1_000)
        await commit(store, row("A", "done"))
    assert looks == [0], "no look at each of the steps"
    earlier_version_writes(store, [], keep=3)
    await commit(store, row("A", "done"))
    assert looks[0] > 0 and store.held() == Held(runs=4) and kept(store) == {"A done": 4}


async def test_what_a_group_that_came_to_nothing_saw_is_seen_anew(store: LmdbStore) -> None:
    await commit(store, *(row("A", "failed", n) for n in range(5)))
    earlier_version_writes(store, [row("B", "done")] * 5, keep=5)

    def flush_and_fail(applier: Applier) -> None:
        applier._record(Record("run", row("C", "done")))
        applier.histories.flush(applier.txn, applier.now_ms)
        raise lmdb.MapFullError

    with pytest.raises(StoreFull):
        await store.call(flush_and_fail)
    assert store.held() == Held(failed=5)
    await commit(store, row("D", "done"))
    assert store.held() == Held(runs=6)
