"""Processes that give one file maps of different sizes: the largest counts, and nobody notices."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from worker import inbox, take_now

from iii.errors import StoreFull
from iii.model import Ack, Enqueue, Lane, LanePolicy, Put, Txn
from iii.store.lmdb import LmdbStore

JOBS = Lane("jobs", "Work")
SMALL, LARGE = 8 << 20, 256 << 20

GROW = """
import asyncio, sys
from pathlib import Path
from iii.model import Enqueue, Put, Txn
from iii.store.lmdb import LmdbStore

async def grow():
    store = LmdbStore(Path(sys.argv[1]), map_bytes=int(sys.argv[2]))
    await store.open()
    for n in range(20):
        await store.commit(Txn([Put("large", str(n), bytes(1 << 20)), Enqueue("jobs", b"from the other")]))
    await store.close()

asyncio.run(grow())
"""


async def _grow_beyond(folder: Path) -> None:
    """Another process, with a larger map, makes the file larger than SMALL."""
    run = [sys.executable, "-c", GROW, str(folder), str(LARGE)]
    done = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "data.mdb").stat().st_size > SMALL


async def _fill(store: LmdbStore) -> None:
    for n in range(20):
        await store.commit(Txn([Put("ns", str(n), bytes(1 << 20))]))


async def _open(folder: Path, map_bytes: int) -> LmdbStore:
    store = LmdbStore(folder, map_bytes=map_bytes)
    await store.open()
    return store


@pytest.mark.parametrize("first", ["writes", "is granted"])
async def test_a_store_goes_on_when_another_process_grows_the_file_beyond_its_map(
    tmp_path: Path, first: str
) -> None:
    folder = tmp_path / "data"
    store = await _open(folder, SMALL)
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Put("ns", "a", b"1")]))
    box = inbox(store)
    if first == "is granted":
        await store.credit({JOBS: 100})
    await _grow_beyond(folder)
    if first == "writes":
        with pytest.raises(StoreFull, match="raise store"):
            await store.commit(Txn([Put("ns", "b", b"1")]))
    await store.credit({JOBS: 100})
    messages = await box.all(1)
    await store.commit(Txn([Ack(message.lease) for message in messages]))
    assert messages and len(store.scan("large")) == 20 and store.verify() == []
    await store.close()


async def test_a_reader_without_a_session_follows_too(tmp_path: Path) -> None:
    store = await _open(tmp_path / "data", SMALL)
    await _grow_beyond(tmp_path / "data")
    assert len(store.scan("large")) == 20
    await store.close()


async def test_a_smaller_map_than_the_file_reads_and_settles_and_takes_no_new_work(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await (await _open(folder, SMALL)).close()
    await _grow_beyond(folder)
    store = await _open(folder, SMALL)
    await store.open_session([LanePolicy(*JOBS)])
    with pytest.raises(StoreFull, match="raise store"):
        await store.commit(Txn([Enqueue("jobs", b"new")]))
    messages = await take_now(store, {JOBS: 20})
    await store.commit(Txn([Ack(message.lease) for message in messages]))
    assert len(messages) == 20 and store.verify() == []
    await store.close()


async def test_a_larger_map_takes_more_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    small = await _open(folder, SMALL)
    with pytest.raises(StoreFull):
        await _fill(small)
    await small.close()
    large = await _open(folder, LARGE)
    await _fill(large)
    assert large.verify() == []
    await large.close()
