"""An id is given once: whatever copy of a store is written to, and whoever begins it."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import lmdb
import other_process
import pytest
from worker import next_message

from iii.model import Ack, Enqueue, Lane, LanePolicy, Put, Record, Txn
from iii.store.lmdb import LmdbStore, epochs
from iii.store.lmdb.keys import EPOCHS_KEY
from iii.store.lmdb.reads import under

WAIT_S = 20
FLOCK = struct.Struct("hhqqi4x")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore(folder)
    await store.open()
    try:
        yield store
        assert store.verify() == []
    finally:
        await store.close()


async def send(store: LmdbStore, count: int = 1) -> list[str]:
    ops = [Enqueue("jobs", b"x") for _ in range(count)]
    return [store.message_id(number) for (number,) in (await store.commit(Txn(ops))).ids]


async def sent(folder: Path, count: int = 1) -> list[str]:
    """By a process of its own, as it were, which finds nobody beside it."""
    async with opened(folder) as store:
        return await send(store, count)


def epochs_of(ids: list[str]) -> set[str]:
    return {id.split("-")[0] for id in ids}


async def rows(folder: Path) -> int:
    """How many epochs the file knows."""
    async with opened(folder) as store:
        with store._read() as txn:
            return len(list(under(txn, store._tables.meta, EPOCHS_KEY)))


# ------------------------------------------------------------------------------------------ restores


async def test_a_backup_that_is_restored_in_place_gives_no_id_again(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with opened(data) as store:
        before = await send(store, 3)
        await store.backup(copy)
        lost = await send(store, 3)
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    async with opened(data) as store:
        assert [store.message_id(each.id) for each in store.waiting("jobs")] == before
        given = await send(store, 3)
    assert [id.split("-")[1] for id in given] == [id.split("-")[1] for id in lost], "the numbers come again"
    assert not set(given) & {*before, *lost}


async def test_a_backup_that_is_used_while_the_original_runs_gives_no_id_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        await store.open_session([LanePolicy("jobs", "Work")])
        given = await send(store, 2)
        for name in ("one", "two"):
            await store.backup(tmp_path / name)
        async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
            for each in (store, one, two, store, one):
                given += await send(each, 2)
    assert len(set(given)) == len(given)


async def test_a_copy_of_a_copy_gives_no_id_again(tmp_path: Path) -> None:
    given, folder = await sent(tmp_path / "0"), tmp_path / "0"
    for n in range(1, 5):
        shutil.copytree(folder, tmp_path / str(n))  # with its holder, its locks and all
        given += await sent(folder, 2)
        folder = tmp_path / str(n)
        given += await sent(folder)
    assert len(set(given)) == len(given)


async def test_a_file_that_was_copied_over_the_old_one_gives_no_id_again(tmp_path: Path) -> None:
    """`cp` into the same file: the same inode, the same holder."""
    data, kept = tmp_path / "data", tmp_path / "kept.mdb"
    given = await sent(data)
    shutil.copyfile(data / "data.mdb", kept)
    for _ in range(3):
        given += await sent(data, 2)
        shutil.copyfile(kept, data / "data.mdb")
    assert len(set(given)) == len(given)


async def test_a_copy_taken_before_the_first_message_of_an_epoch_gives_no_id_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        await store.open_session([LanePolicy("jobs", "Work")])  # the epoch begins with this write
        await store.backup(tmp_path / "copy")
        given = await send(store)
    assert not set(given) & set(await sent(tmp_path / "copy"))


async def test_who_only_looks_at_a_restored_store_hides_nothing_from_the_one_that_writes(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "data") as store:
        (before,) = await send(store)
        await store.backup(tmp_path / "copy")
        (lost,) = await send(store)
    async with opened(tmp_path / "copy") as looker:
        assert looker.number_of(lost) == 2 and looker.find(2) == (None, None), "not there"
        (given,) = await sent(tmp_path / "copy")
        assert given != lost
        assert [looker.message_id(each.id) for each in looker.waiting("jobs")] == [before, given]
        assert looker.number_of(lost) is None


# ------------------------------------------------------------------------------------- when one begins


async def test_each_command_without_an_engine_begins_an_epoch_and_one_beside_it_does_not(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    first, second = await sent(data), await sent(data)
    assert len(epochs_of(first + second)) == 2
    async with opened(data) as engine:
        await engine.open_session([LanePolicy("jobs", "Work")])
        beside = await sent(data) + await send(engine) + await sent(data)
    assert len(epochs_of(beside)) == 1 and not epochs_of(beside) & epochs_of(first + second)


async def test_two_processes_that_start_at_once_agree_on_one_epoch(tmp_path: Path) -> None:
    data = tmp_path / "data"
    earlier = await sent(data)
    for _ in range(5):
        stores = [LmdbStore(data) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        given = [id for ids in await asyncio.gather(*map(send, stores)) for id in ids]
        assert len(epochs_of(given)) == 1 and not epochs_of(given) & epochs_of(earlier)
        for store in stores:
            assert {store.message_id(each.id) for each in store.waiting("jobs")} == {*earlier, *given}
            await store.close()
        earlier += given


async def test_processes_that_begin_together_on_a_copy_agree_on_one_new_epoch(tmp_path: Path) -> None:
    given = await sent(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    given += await sent(tmp_path / "data", 9)
    context = multiprocessing.get_context("forkserver")
    pipes = []
    for _ in range(3):
        ours, theirs = context.Pipe()
        child = context.Process(target=other_process.enqueue_and_stay, args=(tmp_path / "copy", theirs))
        child.start()
        theirs.close()
        pipes.append((ours, child))
    new = [await asyncio.wait_for(asyncio.to_thread(pipe.recv), WAIT_S) for pipe, _ in pipes]
    for pipe, child in pipes:
        pipe.send("end")
        await asyncio.to_thread(child.join)
        pipe.close()
    assert len(epochs_of(new)) == 1 and len({*given, *new}) == len(given) + 3


async def test_the_epoch_goes_on_while_any_process_that_writes_in_it_lives(tmp_path: Path) -> None:
    """A roll: one after the other is replaced."""
    stores = [LmdbStore(tmp_path / "data") for _ in range(5)]
    given = []
    await stores[0].open()
    given += await send(stores[0])
    for old, new in itertools.pairwise(stores):
        await new.open()
        given += await send(new)
        await old.close()
        given += await send(new)
    assert len(epochs_of(given)) == 1
    await stores[-1].close()


async def test_beside_a_process_of_the_first_edition_no_epoch_begins(tmp_path: Path) -> None:
    """It takes a slot and no more, and what it enqueues must be called as it calls it."""
    data = tmp_path / "data"
    (first,) = await sent(data)
    fd = os.open(data / "holder", os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    (beside,) = await sent(data)
    assert epochs_of([first]) == epochs_of([beside])
    os.close(fd)
    assert epochs_of(await sent(data)) != epochs_of([first])


async def test_numbers_from_before_the_first_epoch_stand_alone(tmp_path: Path) -> None:
    """A store of the first release: nothing of its messages changes, in reading or in use."""
    data = tmp_path / "data"
    await sent(data, 6)
    with lmdb.open(str(data), max_dbs=32) as env, env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn=txn, create=False)
        for key in list(txn.cursor(meta).iternext(values=False)):
            if key.startswith(EPOCHS_KEY):
                txn.delete(key, db=meta)
    (new,) = await sent(data)
    async with opened(data) as store:
        ids = [store.message_id(each.id) for each in store.waiting("jobs")]
        assert ids == ["1", "2", "3", "4", "5", "6", new] and new.endswith("-7")
        assert store.number_of("6") == 6 and store.number_of(f"{new.split('-')[0]}-6") is None


# --------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("stage", ["applied", "after"])
async def test_a_process_killed_at_its_first_commit_leaves_no_id_to_be_given_again(
    tmp_path: Path, stage: str
) -> None:
    data = tmp_path / "data"
    await sent(data)
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=other_process.die_at_first_commit, args=(data, stage))
    child.start()
    await asyncio.to_thread(child.join)
    assert child.exitcode == -signal.SIGKILL
    async with opened(data) as store:
        there = [store.message_id(each.id) for each in store.waiting("jobs")]
        assert len(there) == (1 if stage == "applied" else 2)
        given = await send(store)
        assert len(set(there + given)) == len(there) + 1
        assert [store.message_id(each.id) for each in store.waiting("jobs")] == there + given


async def test_a_first_group_that_fails_begins_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    data = tmp_path / "data"
    earlier = await sent(data)
    failed = False

    def fail_once(stage: str, number: int) -> None:
        nonlocal failed
        if stage == "applied" and not failed:
            failed = True
            raise RuntimeError("it fails with everything applied")

    store, peer = LmdbStore(data, probe=fail_once), LmdbStore(data)
    await store.open()
    await peer.open()
    with pytest.raises(Exception, match="it fails with everything applied"):
        await send(store)
    assert await rows(data) == 1
    given = await send(peer) + await send(store)
    assert len(epochs_of(given)) == 1 and not epochs_of(given) & epochs_of(earlier)
    assert [store.message_id(each.id) for each in store.waiting("jobs")] == earlier + given
    await store.close()
    await peer.close()


async def test_a_look_at_the_file_from_before_ones_own_first_write_changes_nothing(tmp_path: Path) -> None:
    """The loop reads while the writer commits; here its snapshot has an epoch that was overwritten since."""
    data = tmp_path / "data"
    await sent(data)
    async with opened(data) as store:
        await store.commit(Txn([Record("audit", b"an epoch without a message")]))
    async with opened(data) as store:
        with store._read() as before:
            (given,) = await send(store)
            store._epochs.load(before)
        known = store._epochs.known
        assert known.to >= 2 and f"{known.prefix_of(2)}2" == given


# ------------------------------------------------------------------------------------------- bounds


async def test_an_epoch_in_which_nothing_was_given_leaves_no_row(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await sent(data)
    for _ in range(20):
        async with opened(data) as store:
            await store.commit(Txn([Record("audit", b"a word")]))
    assert await rows(data) == 2, "that of the message, and the newest"
    await sent(data)
    async with opened(data) as store:
        await store.commit(Txn([Put("ns", "a", b"1")]))
    assert await rows(data) == 3, "one whose changes have numbers is kept as well"


async def test_epochs_whose_messages_are_gone_go_and_the_others_keep_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "PRUNED_EVERY", 16)
    data, kept = tmp_path / "data", list[str]()
    for n in range(48):
        async with opened(data) as store:
            await store.open_session([LanePolicy("done", "Work")])
            await store.commit(Txn([Enqueue("done", b"x")]))
            message = await next_message(store, Lane("done", "Work"))
            await store.commit(Txn([Ack(message.lease)]))
            if n % 6 == 0:
                kept += await send(store)
    assert await rows(data) <= len(kept) + 16
    async with opened(data) as store:
        assert [store.message_id(each.id) for each in store.waiting("jobs")] == kept


async def test_however_many_messages_wait_the_rows_are_bounded_and_the_newest_keep_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "PRUNED_EVERY", 8)
    monkeypatch.setattr(epochs, "ROWS_MAX", 10)
    data, given = tmp_path / "data", list[str]()
    for _ in range(50):
        given += await sent(data)
    assert await rows(data) <= 18
    async with opened(data) as store:
        assert [store.message_id(each.id) for each in store.waiting("jobs")][-10:] == given[-10:]
        assert len(set(given)) == 50
