"""The change log of a file: one that an earlier version filled gives room by itself, and to the byte."""

from __future__ import annotations

import asyncio
from pathlib import Path

import lmdb
import pytest
from worker import take_now

from iii.errors import ChangesHeld, StoreFull
from iii.model import TAIL, Ack, Enqueue, Lane, LanePolicy, Mark, Merge, Put, Txn
from iii.store.contract import Limits
from iii.store.keeping import FORGOTTEN
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.compact import compact
from iii.store.lmdb.keys import COUNTERS, COUNTERS_KEY, STATE_HEAD, namespace_count_key, state_key, u64
from iii.store.lmdb.rows import encode
from iii.store.lmdb.trimming import size_of

MAP = 32 << 20
BOUND = MAP // 16
JOBS = Lane("jobs", "Work")


async def opened(folder: Path, map_bytes: int = MAP) -> LmdbStore:
    store = LmdbStore(folder, map_bytes=map_bytes)
    await store.open()
    return store


async def made(folder: Path) -> None:
    """A store with a message that waits."""
    store = await opened(folder)
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Enqueue("jobs", b"waits"), Mark(TAIL, 0, None)]))
    await store.close()


async def overwrite(store: LmdbStore, times: int) -> None:
    for n in range(times):
        await store.commit(Txn([Put("ns", "k", b"%d" % n + bytes(100_000))]))


async def enqueue_for_ever(store: LmdbStore) -> None:
    while True:
        await store.commit(Txn([Enqueue("jobs", bytes(100_000))]))


def overwrite_unbounded(folder: Path, value_bytes: int, used_bytes: int) -> None:
    """Overwrite one key until the file takes so much, as the first release did: no change is ever trimmed."""
    with lmdb.open(str(folder), map_size=MAP, max_dbs=20, sync=False) as env:
        while (env.info()["last_pgno"] + 1) * 4096 < used_bytes:
            try:
                _overwrite(env, value_bytes, 200_000 // value_bytes + 1)
            except lmdb.MapFullError:
                break


def _overwrite(env: lmdb.Environment, value_bytes: int, times: int) -> None:
    state, change, counter = (env.open_db(name) for name in (b"state", b"change", b"counter"))
    with env.begin(write=True) as txn:
        numbers = list(COUNTERS.unpack(txn.get(COUNTERS_KEY, db=counter) or b""))
        numbers[0] += 1
        for _ in range(times):
            old = txn.get(state_key("ns", "one"), db=state)
            numbers[3] += 1
            new = b"%020d" % numbers[3] + b"v" * value_bytes
            row = ("ns", "one", None if old is None else old[STATE_HEAD.size :], new, {})
            txn.put(u64.pack(numbers[3]), encode(row), db=change, append=True)
            txn.put(state_key("ns", "one"), STATE_HEAD.pack(numbers[3], 0) + new, db=state)
        txn.put(namespace_count_key("ns"), u64.pack(1), db=counter)
        txn.put(COUNTERS_KEY, COUNTERS.pack(*numbers), db=counter)


def log_bytes(folder: Path) -> int:
    with lmdb.open(str(folder), max_dbs=20, readonly=True, lock=False) as env:
        change = env.open_db(b"change", create=False)
        with env.begin() as txn:
            stat = txn.stat(change)
            return int((stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"]) * stat["psize"])


@pytest.mark.parametrize("value_bytes", [500_000, 3_000, 200])
@pytest.mark.parametrize("used_bytes", [int(MAP * 0.96), MAP])
async def test_a_store_that_the_first_version_filled_takes_work_again_when_it_is_opened(
    tmp_path: Path, value_bytes: int, used_bytes: int
) -> None:
    folder = tmp_path / "data"
    await made(folder)
    await asyncio.to_thread(overwrite_unbounded, folder, value_bytes, used_bytes)
    assert log_bytes(folder) > MAP // 2
    store = await opened(folder)
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Put("ns", "one", b"new"), Enqueue("jobs", b"new")]))
    (first, second) = await take_now(store, {JOBS: 5})
    await store.commit(Txn([Ack(first.lease), Ack(second.lease), Put("ns", "two", b"x")]))
    assert store.verify() == []
    await store.close()
    assert log_bytes(folder) <= BOUND


async def test_the_first_version_s_log_goes_although_a_trigger_held_it_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await made(folder)
    store = await opened(folder)
    await store.commit(Txn([Mark("trigger/Gone/0", 0, None)]))
    await store.close()
    await asyncio.to_thread(overwrite_unbounded, folder, 3_000, int(MAP * 0.96))
    store = await opened(folder)
    await store.commit(Txn([Put("ns", "one", b"new")]))
    assert store.marks(FORGOTTEN) and (store.mark(TAIL) or 0) > 0
    await store.close()
    assert log_bytes(folder) <= BOUND


async def test_new_work_is_not_refused_while_the_log_can_give_room(tmp_path: Path) -> None:
    """Payloads fill the map up to what the log takes; the next ones take that too."""
    store = await opened(tmp_path / "data", MAP)
    for n in range(100):
        await store.commit(Txn([Put("ns", "k", b"%d" % n + bytes(200_000))]))
    assert await store.changes(0, 10, 0)
    with pytest.raises(StoreFull, match="raise store"):
        await enqueue_for_ever(store)
    assert await store.changes(0, 10, 0) == []
    assert store.verify() == []
    await store.close()


async def test_a_log_that_is_held_is_not_taken_for_room(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data", MAP)
    await store.open_session([LanePolicy("$state/Audit", "Audit")])
    await store.commit(Txn([Mark("trigger/Audit/0", 0, None), Mark(TAIL, 0, None)]))
    for n in range(10):
        await store.commit(Txn([Put("ns", "k", b"%d" % n + bytes(200_000))]))
    with pytest.raises(StoreFull, match="raise store"):
        await enqueue_for_ever(store)
    assert [each.version for each in await store.changes(0, 100, 0)] == list(range(1, 11))
    await store.close()


@pytest.mark.parametrize("value_bytes", [4 << 20, 20_000])
async def test_the_largest_values_keep_the_bound_within_a_row(tmp_path: Path, value_bytes: int) -> None:
    folder = tmp_path / "data"
    store = LmdbStore(folder, map_bytes=1 << 30, limits=Limits(changes_bytes_max=24 << 20))
    await store.open()
    for n in range(20):
        for small in range(20):
            await store.commit(Txn([Put("ns", f"small{small}", b"%d" % n)]))
        await store.commit(Txn([Put("ns", "big", b"%03d" % n + bytes(value_bytes - 3))]))
        with store._opened.env.begin() as txn:
            assert size_of(txn, store._opened.tables.change).bytes <= 24 << 20
    assert len(await store.changes(0, 1_000, 0)) > 20, "no more went than had to"
    await store.close()


async def test_compacting_shortens_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await made(folder)
    await asyncio.to_thread(overwrite_unbounded, folder, 3_000, MAP)
    before, after = await asyncio.to_thread(compact, folder, MAP)
    assert before > MAP * 0.9 and after < BOUND + (1 << 20)
    store = await opened(folder)
    assert store.verify() == [] and store.get("ns", "one") is not None
    await store.close()


async def test_a_group_of_patches_to_a_large_value_does_not_gather_it_in_memory(tmp_path: Path) -> None:
    """Each patch leaves the value before and after it: who follows still sees every one."""
    store = LmdbStore(tmp_path / "data", map_bytes=4 << 30)
    await store.open()
    await store.commit(Txn([Put("ns", "big", b'{"n":0,"pad":"' + b"x" * (3 << 20) + b'"}')]))
    follows = asyncio.create_task(store.changes(store.version(), 5, None))
    await asyncio.sleep(0)
    patch = b'[{"type":"increment","path":"n"}]'
    await asyncio.gather(*(store.commit(Txn([Merge("ns", "big", patch)])) for _ in range(5)))
    seen = await follows
    while len(seen) < 5:
        seen += await store.changes(seen[-1].version, 5, None)
    assert [each.new is not None and each.new[:6] for each in seen] == [b'{"n":%d' % n for n in range(1, 6)]
    assert store.verify() == []
    await store.close()


async def test_a_held_log_says_who_holds_it(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data", MAP)
    await store.open_session([LanePolicy("$state/Audit", "Audit")])
    await store.commit(Txn([Mark("trigger/Audit/0", 0, None), Mark(TAIL, 0, None)]))
    with pytest.raises(ChangesHeld, match=r"step Audit .* \$state/Audit"):
        await overwrite(store, 200)
    await store.commit(Txn([Mark("trigger/Audit/0", store.version(), 0)]))
    await store.commit(Txn([Put("ns", "k", b"1")]))
    await store.close()
    assert log_bytes(tmp_path / "data") <= BOUND
