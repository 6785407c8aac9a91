"""A session whose files somebody removed goes on as another: it is seen again, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_process import until
from worker import inbox, take_now

from iii.errors import LeaseLost
from iii.model import Ack, Enqueue, Lane, LanePolicy, Txn
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.liveness import session_file, session_ids
from iii.store.lmdb.roster import roster

JOBS = Lane("jobs", "Work")
MAP_BYTES = 64 << 20

REMOVED: dict[str, Callable[[Path, int], object]] = {
    "sessions": lambda data, session: shutil.rmtree(data / "sessions"),
    "lock": lambda data, session: session_file(data, session, "lock").unlink(),
    "board": lambda data, session: session_file(data, session, "board").unlink(),
    "bell": lambda data, session: session_file(data, session, "bell").unlink(),
    "a lock of somebody else's": lambda data, session: shutil.copy(
        shutil.move(session_file(data, session, "lock"), data / "moved"),
        session_file(data, session, "lock"),
    ),
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data", map_bytes=MAP_BYTES)
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize("removed", REMOVED)
async def test_a_session_whose_files_are_removed_goes_on_as_another(store: LmdbStore, removed: str) -> None:
    session = await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Enqueue("jobs", b"1"), Enqueue("jobs", b"2")]))
    running, _ = await take_now(store, {JOBS: 2})
    store.start(running.lease)
    await store.credit({JOBS: 2})
    REMOVED[removed](store.path, session)
    await until(lambda: [row.id for row in store.sessions()] not in ([], [session]), "another session")
    assert session_ids(store.path) == [store.session] and store.session != session
    assert [row.session for row in roster(store.path)] == [store.session]
    with pytest.raises(LeaseLost):
        await store.commit(Txn([Ack(running.lease)]))
    again = await inbox(store).all(2)
    assert [message.payload for message in again] == [b"1", b"2"]
    assert {message.crashes for message in again} == {0}, "nothing is to blame for it"
    await store.commit(Txn([Ack(message.lease) for message in again]))
    assert (store.unsettled(), store.verify()) == (0, [])


async def test_levels_count_in_the_next_session(store: LmdbStore) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    inbox(store)
    await store.credit({JOBS: 1})
    shutil.rmtree(store.path / "sessions")
    await until(lambda: len(session_ids(store.path)) == 1, "another session")
    await store.commit(Txn([Enqueue("jobs", b"1")]))
    (message,) = await inbox(store).all(1)
    await store.commit(Txn([Ack(message.lease)]))
    assert store.verify() == []
