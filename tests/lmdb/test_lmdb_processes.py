"""Several processes on one store: work wakes whoever waits, the dead are buried within a second."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import other_process
import pytest
from deadline import until
from worker import inbox, next_message, take_now

from iii.errors import LeaseLost
from iii.model import Ack, Enqueue, Lane, LanePolicy, Put, Retry, Txn
from iii.store.lmdb import LmdbStore, sessions
from iii.store.lmdb.liveness import OwnSession, session_ids

JOBS = Lane("jobs", "Work")
WAIT_S = 20


class Child:
    def __init__(self, work: Callable[[Path, Connection], None], folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(folder, theirs))
        self.process.start()
        theirs.close()

    async def hears(self) -> Any:
        return await asyncio.wait_for(asyncio.to_thread(self._pipe.recv), WAIT_S)

    def tell(self, what: str) -> None:
        self._pipe.send(what)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data")
    await store.open()
    yield store
    assert store.verify() == []
    await store.close()


async def test_a_killed_process_gives_back_what_it_leased(tmp_path: Path, store: LmdbStore) -> None:
    await store.commit(Txn([Enqueue("jobs", bytes([n]), step="Work") for n in range(4)]))
    child = Child(other_process.hold, tmp_path / "data")
    pid = await child.hears()
    await store.open_session([LanePolicy(*JOBS)])
    assert [session.pid for session in store.sessions()] == [pid, os.getpid()]
    (fourth,) = await take_now(store, {JOBS: 4})
    await store.credit({JOBS: 4})
    os.kill(pid, signal.SIGKILL)
    found = await inbox(store).all(3)
    assert [(message.payload[0], message.crashes, message.attempt) for message in found] == [
        (0, 1, 1),
        (1, 1, 1),
        (2, 0, 1),
    ]
    assert [session.pid for session in store.sessions()] == [os.getpid()]
    await store.commit(Txn([Retry(found[0].lease, 0, "again")]))
    again = await inbox(store).all(1)
    assert [(message.payload[0], message.crashes, message.attempt) for message in again] == [(0, 0, 2)]
    await store.commit(Txn([Ack(message.lease) for message in [fourth, *found[1:], *again]]))
    assert store.unsettled() == 0
    child.end()


async def test_an_idle_survivor_that_committed_nothing_since_the_other_came_buries_it(
    tmp_path: Path, store: LmdbStore
) -> None:
    await store.open_session([LanePolicy("mail", "Send")])
    await store.credit({Lane("mail", "Send"): 1})
    child = Child(other_process.hold_its_own, tmp_path / "data")
    await child.hears()
    assert [lane.leased for lane in store.stats() if lane.topic == "jobs"] == [1]
    child.end()

    def given_back() -> bool:
        return [lane.ready for lane in store.stats() if lane.topic == "jobs"] == [1]

    await asyncio.to_thread(until, given_back, "the message of the killed process is ready")
    assert [session.pid for session in store.sessions()] == [os.getpid()]


async def test_a_peer_is_idle_while_it_is_ready_and_runs_nothing(tmp_path: Path, store: LmdbStore) -> None:
    await store.open_session([LanePolicy("mail", "Send")])
    store.show("ready", lambda: 0)
    assert not store.has_idle_peer()
    child = Child(other_process.be_idle_then_busy, tmp_path / "data")
    assert await child.hears() == "idle"
    assert store.has_idle_peer()
    child.tell("go on")
    assert await child.hears() == "busy"
    assert not store.has_idle_peer()
    child.end()


async def test_a_commit_of_another_process_is_heard_by_a_worker_and_a_reader(
    tmp_path: Path, store: LmdbStore
) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    inbox(store)
    await store.credit({JOBS: 1})
    reader = asyncio.create_task(store.changes(0, 10, None))
    await asyncio.sleep(0)
    child = Child(other_process.commit, tmp_path / "data")
    assert await child.hears() == [[1]]
    (message,) = await inbox(store).all(1)
    (change,) = await asyncio.wait_for(reader, WAIT_S)
    assert (message.payload, change.key, change.new) == (b"from outside", "a", b"1")
    child.end()


async def test_a_process_stopped_inside_its_commit_stops_no_tool_either(tmp_path: Path) -> None:
    """Nobody has a session here: two command lines, the first of them stopped with Ctrl-Z."""
    child = Child(other_process.stop_inside_a_commit, tmp_path / "data")
    assert await child.hears() == child.process.pid
    store = LmdbStore(tmp_path / "data")
    await store.open()
    await asyncio.wait_for(store.commit(Txn([Put("ns", "whole", b"1")])), WAIT_S)
    assert [entry.key for entry in store.scan("ns")] == ["whole"]
    child.process.join(WAIT_S)
    assert child.process.exitcode == -signal.SIGKILL
    await store.close()
    child.end()


async def test_a_full_disk_refuses_work_and_lets_what_is_there_be_settled(tmp_path: Path) -> None:
    child = Child(other_process.fill_the_disk, tmp_path / "data")
    refusal, committed, done, ready, findings = await child.hears()
    assert "no room" in refusal
    assert (done, ready, findings) == (1, committed - 1, [])
    child.end()


async def test_a_session_buried_alive_goes_on_as_a_new_one(tmp_path: Path, store: LmdbStore) -> None:
    """As after a long stop: peers took its leases, it wakes up to LeaseLost and a new session."""
    old = await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Enqueue("jobs", b"x")]))
    (message,) = await take_now(store, {JOBS: 1})
    await store.credit({JOBS: 1})
    peer = LmdbStore(tmp_path / "data")
    await peer.open()
    assert await peer.call(lambda applier: sessions.recover(applier, old, {message.lease.id})) == 1
    await peer.close()
    with pytest.raises(LeaseLost):
        await store.commit(Txn([Ack(message.lease)]))
    (again,) = await inbox(store).all(1)
    assert again.lease.session != old and (again.payload, again.crashes) == (b"x", 1)
    assert [session.id for session in store.sessions()] == [again.lease.session]


async def test_a_delayed_message_is_granted_when_it_is_due(store: LmdbStore) -> None:
    await store.open_session([LanePolicy(*JOBS)])
    before_ms = store.clock.delay_ms()
    await store.commit(Txn([Enqueue("jobs", b"x", delay_ms=30)]))
    message = await next_message(store, JOBS)
    assert store.clock.delay_ms() >= before_ms + 30
    await store.commit(Txn([Ack(message.lease)]))


async def test_a_reader_gives_up_after_its_time(store: LmdbStore) -> None:
    assert await asyncio.wait_for(store.changes(0, 1, 20), WAIT_S) == []


async def test_what_a_process_left_that_died_before_it_was_on_record_is_removed(tmp_path: Path) -> None:
    OwnSession(tmp_path, 77).close(remove=False)
    store = LmdbStore(tmp_path)
    await store.open()
    session = await store.open_session([LanePolicy(*JOBS)])
    assert session_ids(tmp_path) == [session]
    await store.close()
