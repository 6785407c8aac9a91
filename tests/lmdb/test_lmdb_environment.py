"""The store's file: what is refused and left alone, what a copy holds, what happens without room."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import lmdb
import msgspec
import pytest
from worker import take_now

from iii.clock import FakeClock
from iii.errors import StoreClosed, StoreDamaged, StoreError, StoreFull, StoreIncompatible
from iii.model import Ack, DeadLetter, Enqueue, Lane, LanePolicy, Put, Txn
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.environment import Tables
from iii.store.lmdb.keys import FORMAT, TABLES, u64
from iii.store.lmdb.rows import decode_row

JOBS = Lane("jobs", "Work")
MAP_BYTES = 8 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data", map_bytes=MAP_BYTES)
    await store.open()
    yield store
    await store.close()


async def _written(folder: Path, count: int = 300) -> None:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", f"key-{n}", os.urandom(1000)) for n in range(count)]))
    await store.close()


async def _commit_each(store: LmdbStore, txns: list[Txn]) -> None:
    for txn in txns:
        await store.commit(txn)


def _fingerprint(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def _refused(folder: Path, error: type[StoreError], match: str) -> None:
    """Opening raises, and leaves the file as it was."""
    before = _fingerprint(folder / "data.mdb")
    with pytest.raises(error, match=match):
        await LmdbStore(folder, map_bytes=MAP_BYTES).open()
    assert _fingerprint(folder / "data.mdb") == before


def test_the_layout_is_one_list() -> None:
    assert Tables._fields == TABLES


async def test_a_store_is_there_again_after_close(tmp_path: Path) -> None:
    await _written(tmp_path / "data")
    store = LmdbStore(tmp_path / "data")
    await store.open()
    assert (len(store.scan("ns")), store.version(), store.verify()) == (300, 300, [])
    await store.close()


def test_rows_of_older_files_are_read_without_the_fields_they_lack() -> None:
    """A dead letter from before its message's enqueue was written, in a row from before `due_ms`."""
    dead = ["jobs", "Work", "it broke", 4, 5]
    row = decode_row(msgspec.msgpack.encode([b"body", {}, None, 3, 0, 0, 0, None, dead]))
    assert row.dead == DeadLetter("jobs", "Work", "it broke", 4, 5, enqueued_ms=0)
    assert (row.enqueued_ms, row.due_ms) == (3, 0)


async def test_a_file_cut_off_is_refused(tmp_path: Path) -> None:
    await _written(tmp_path)
    file = tmp_path / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)
    await _refused(tmp_path, StoreDamaged, "cut off")


async def test_a_file_cut_to_a_stump_is_refused(tmp_path: Path) -> None:
    await _written(tmp_path)
    os.truncate(tmp_path / "data.mdb", 100)
    await _refused(tmp_path, StoreDamaged, "cut off at 100 bytes")


async def test_a_file_of_noise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(64 << 10))
    await _refused(tmp_path, StoreDamaged, "damaged")


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await _written(tmp_path)
    with lmdb.open(str(tmp_path), max_dbs=1, map_size=MAP_BYTES) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(b"format", u64.pack(FORMAT + 1), db=meta)
    await _refused(tmp_path, StoreIncompatible, "run the newer version")


async def test_an_lmdb_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=1, map_size=MAP_BYTES) as env:
        env.open_db(b"theirs")
    await _refused(tmp_path, StoreIncompatible, "another program")


async def test_two_stores_of_one_process_share_the_file(tmp_path: Path, store: LmdbStore) -> None:
    other = LmdbStore(tmp_path / "data", map_bytes=MAP_BYTES)
    await other.open()
    await store.commit(Txn([Put("ns", "a", b"1")]))
    assert (entry := other.get("ns", "a")) is not None and entry.value == b"1"
    await other.close()
    await store.commit(Txn([Put("ns", "a", b"2")]))
    assert (entry := store.get("ns", "a")) is not None and entry.value == b"2"


async def test_a_backup_is_whole_and_opens_cleanly(tmp_path: Path, store: LmdbStore) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Enqueue("jobs", b"x"), Put("ns", "a", b"1")]))
    (message,) = await take_now(store, {JOBS: 1})
    store.start(message.lease)
    with pytest.raises(StoreError, match="inside the store's own folder"):
        await store.backup(store.path / "copy")
    assert not (store.path / "copy").exists()
    await store.backup(tmp_path / "copy")
    with pytest.raises(StoreError, match="not empty"):
        await store.backup(tmp_path / "copy")
    await store.commit(Txn([Ack(message.lease)]))
    assert (tmp_path / "copy" / "data.mdb").stat().st_mode & 0o077 == 0, "nobody else may read it"
    copy = LmdbStore(tmp_path / "copy", map_bytes=MAP_BYTES)
    await copy.open()
    assert copy.verify() == []
    await copy.open_session([LanePolicy(*JOBS)])
    (again,) = await take_now(copy, {JOBS: 1})
    assert (again.payload, again.crashes, len(copy.sessions())) == (b"x", 0, 1)
    await copy.close()


async def test_a_full_map_refuses_new_work_and_lets_what_is_there_be_settled(store: LmdbStore) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    payload = bytes(1 << 20)
    txn = Txn([Enqueue("jobs", payload)])
    with pytest.raises(StoreFull):
        await _commit_each(store, [txn] * 20)
    with pytest.raises(StoreFull):
        await asyncio.gather(*(store.commit(txn) for _ in range(3)))
    enqueued = store.stats()[0].ready
    assert 3 <= enqueued < 8 and store.verify() == []
    messages = await take_now(store, {JOBS: 2})
    await asyncio.gather(*(store.commit(Txn([Ack(message.lease)])) for message in messages))
    assert (store.stats()[0].ready, store.stats()[0].done) == (enqueued - 2, 2)
    await store.commit(Txn([Enqueue("jobs", b"there is room again")]))
    assert store.verify() == []


async def test_one_refused_for_room_does_not_drag_down_its_group(store: LmdbStore) -> None:
    large, small = Txn([Put("ns", "large", bytes(4 << 20))]), Txn([Put("ns", "small", b"1")])
    await store.commit(Txn([Put("ns", f"filler-{n}", bytes(512 << 10)) for n in range(2)]))
    outcomes = await asyncio.gather(
        *(store.commit(txn) for txn in (small, large, Txn([Put("ns", "last", b"2")]))), return_exceptions=True
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["Committed", "StoreFull", "Committed"]
    assert store.get("ns", "large") is None and store.get("ns", "last") is not None
    assert store.verify() == []


async def test_too_much_in_flight_is_refused_by_submit_and_awaited_by_commit(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", map_bytes=1 << 30)
    await store.open()
    value = bytes(4 << 20)
    with pytest.raises(StoreFull, match="too much is waiting"):
        _ = [store.submit(Txn([Put("ns", f"{number}", value)])) for number in range(100)]
    waited = await store.commit(Txn([Put("ns", "waited", value)]))
    accepted = waited.version - 1
    assert 0 < accepted < 20 and len(store.scan("ns")) == accepted + 1
    await store.close()


async def test_a_forked_child_can_use_nothing_of_it(tmp_path: Path, store: LmdbStore) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Put("ns", "a", b"1")]))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        uses = (
            lambda: store.get("ns", "a"),
            lambda: store.submit(Txn([Put("ns", "a", b"2")])),
            store.stats,
            store.verify,
        )
        for use in uses:
            try:
                use()
                os.write(write, b"used ")
            except StoreClosed:
                os.write(write, b"closed ")
            except BaseException as error:
                os.write(write, f"{error!r} ".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 1000) == b"closed closed closed closed "
    os.close(read)
    await store.commit(Txn([Enqueue("jobs", b"the parent works on")]))
    assert len(await take_now(store, {JOBS: 1})) == 1 and store.verify() == []


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), map_bytes=MAP_BYTES)
    with pytest.raises(StoreClosed):
        store.get("ns", "a")
    await store.open()
    with pytest.raises(StoreError, match="open already"):
        await store.open()
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.commit(Txn([Put("ns", "a", b"1")]))


@pytest.mark.parametrize("fsync", ["commit", "meta", "interval"])
async def test_every_fsync_mode_keeps_what_a_closed_store_held(tmp_path: Path, fsync: str) -> None:
    for number in range(2):
        store = LmdbStore(tmp_path / "data", fsync=fsync, map_bytes=MAP_BYTES)  # type: ignore[arg-type]
        await store.open()
        await store.commit(Txn([Put("ns", f"{number}", b"1")]))
        assert len(store.scan("ns")) == number + 1 and store.verify() == []
        await store.close()


async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot use"):
        await LmdbStore(tmp_path / "file").open()


async def test_without_room_what_is_due_is_tried_again_after_a_pause_and_the_store_still_closes(
    tmp_path: Path,
) -> None:
    clock, tries, full = FakeClock(), [], False

    def probe(stage: str, number: int) -> None:
        if full and stage == "before":
            tries.append(number)
            raise lmdb.MapFullError("mdb_put: MDB_MAP_FULL")

    store = LmdbStore(tmp_path / "data", clock=clock, map_bytes=MAP_BYTES, probe=probe)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Enqueue("jobs", b"later", delay_ms=1000)]))
    full = True
    clock.advance(1000)
    with pytest.raises(StoreFull):
        await store.commit(Txn([Put("ns", "a", b"1")]))
    with pytest.raises(StoreFull):  # its leases cannot be given back, and yet it closes
        await store.close()
    assert len(tries) < 12
    full = False
    again = LmdbStore(tmp_path / "data", clock=clock, map_bytes=MAP_BYTES)
    await again.open()
    await again.open_session([LanePolicy(*JOBS)])
    (message,) = await take_now(again, {JOBS: 1})
    assert message.payload == b"later"
    await again.close()
