"""What the other process does in test_lmdb_processes.py."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from worker import inbox, next_message, take_now

from iii.errors import StoreFull
from iii.model import Ack, Enqueue, Lane, LanePolicy, Put, Txn
from iii.store.lmdb import LmdbStore

JOBS = Lane("jobs", "Work")


def hold(folder: Path, pipe: Connection) -> None:
    """Lease three messages, start two of them, say so, and wait to be killed."""

    async def run() -> None:
        store = LmdbStore(folder)
        await store.open()
        await store.open_session([LanePolicy(*JOBS)])
        messages = await take_now(store, {JOBS: 3})
        for message in messages[:2]:
            store.start(message.lease)
        pipe.send(os.getpid())
        await asyncio.Event().wait()

    asyncio.run(run())


def hold_its_own(folder: Path, pipe: Connection) -> None:
    """Lease a message by the commit that enqueues it, so that it is never ready; wait to be killed."""

    async def run() -> None:
        store = LmdbStore(folder)
        await store.open()
        await store.open_session([LanePolicy(*JOBS)])
        inbox(store)
        await store.credit({JOBS: 1})
        await store.commit(Txn([Enqueue("jobs", b"x")]))
        pipe.send(os.getpid())
        await asyncio.Event().wait()

    asyncio.run(run())


def be_idle_then_busy(folder: Path, pipe: Connection) -> None:
    """Say so each time."""

    async def run() -> None:
        store = LmdbStore(folder)
        await store.open()
        await store.open_session([LanePolicy(*JOBS)])
        store.show("ready", lambda: 0)
        pipe.send("idle")
        await asyncio.to_thread(pipe.recv)
        await store.commit(Txn([Enqueue("jobs", b"x")]))
        message = await next_message(store, JOBS)
        store.start(message.lease)
        pipe.send("busy")
        await asyncio.Event().wait()

    asyncio.run(run())


def commit(folder: Path, pipe: Connection) -> None:
    """Without a session, as a command line does."""

    async def run() -> None:
        store = LmdbStore(folder)
        await store.open()
        pipe.send((await store.commit(Txn([Enqueue("jobs", b"from outside"), Put("ns", "a", b"1")]))).ids)
        await store.close()

    asyncio.run(run())


def enqueue_and_stay(folder: Path, pipe: Connection) -> None:
    """Say what the message is called, and keep the store open until told."""

    async def run() -> None:
        store = LmdbStore(folder)
        await store.open()
        committed = await store.commit(Txn([Enqueue("jobs", b"x")]))
        pipe.send(store.message_id(committed.ids[0][0]))
        await asyncio.to_thread(pipe.recv)
        await store.close()

    asyncio.run(run())


def die_at_first_commit(folder: Path, at: str) -> None:
    """By SIGKILL, at this stage of the first commit."""

    def probe(stage: str, number: int) -> None:
        if stage == at:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # the signal may reach another thread first

    async def run() -> None:
        store = LmdbStore(folder, probe=probe)
        await store.open()
        await store.commit(Txn([Enqueue("jobs", b"x")]))

    asyncio.run(run())


def stop_inside_a_commit(folder: Path, pipe: Connection) -> None:
    """Stand still (SIGSTOP) with the write transaction open, between apply and fsync."""

    def probe(stage: str, number: int) -> None:
        if stage == "applied":
            pipe.send(os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()  # the signal may reach another thread first

    async def run() -> None:
        store = LmdbStore(folder, probe=probe)
        await store.open()
        await store.commit(Txn([Put("ns", "half", b"done")]))

    asyncio.run(run())


def fill_the_disk(folder: Path, pipe: Connection) -> None:
    """The disk's end is played by a limit on the size of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    async def run() -> None:
        store = LmdbStore(folder, map_bytes=64 << 20)
        await store.open()
        await store.open_session([LanePolicy(*JOBS)])
        committed, refusal = 0, ""
        while not refusal:
            try:
                await store.commit(Txn([Enqueue("jobs", bytes(50_000))]))
                committed += 1
            except StoreFull as full:
                refusal = str(full)
        (message,) = await take_now(store, {JOBS: 1})
        await store.commit(Txn([Ack(message.lease)]))
        row = store.stats()[0]
        pipe.send((refusal, committed, row.done, row.ready, store.verify()))
        await store.close()

    asyncio.run(run())
