"""What a store brings to the conformance suite and the rule machine, and the verbs both are written in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from worker import take_now

from iii.clock import FakeClock
from iii.errors import Refusal
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Enqueue,
    Lane,
    LanePolicy,
    LaneStats,
    Lease,
    Message,
    Op,
    Suspects,
    Txn,
)
from iii.store.contract import Limits, Store
from iii.store.memory import MemoryStore, MemoryTables

JOBS = Lane("jobs", "Work")
MAIL = Lane("jobs", "Mail")
NOBODY = Lane("jobs", "")
FAILED = Lane("jobs.failed", "Undertaker")
ARCHIVED = Lane("jobs.failed", ARCHIVE)
WAIT_S = 10.0


class StoreKit(Protocol):
    """Stores on one shared durable state, each like a process of its own. Made with an empty folder."""

    clock: FakeClock
    stores: list[Store]  # the open ones

    async def make(self, limits: Limits | None = None) -> Store:
        """One more store, opened."""
        ...

    async def kill(self, store: Store) -> None:
        """The store's process dies: nothing is released. Peers may need a moment to notice."""
        ...

    async def kill_committing(self, store: Store, txn: Txn) -> bool:
        """As `kill`, with `txn` handed over and nobody told what became of it: whether it landed (or was
        refused) before the process died."""
        ...

    async def kill_all(self) -> None:
        """The machine stops: nobody is left to notice."""
        ...

    async def bury(self, store: Store, peer: Store) -> None:
        """`peer` takes the store's session for dead although its process only stood still. The store finds
        out with its next commit."""
        ...

    async def close(self, store: Store) -> None: ...

    async def close_all(self) -> None: ...


class OpenStores:
    """The half of a kit that is the same for every store."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stores: list[Store] = []

    async def close(self, store: Store) -> None:
        self.stores.remove(store)
        await store.close()

    async def close_all(self) -> None:
        for store in tuple(self.stores):
            await self.close(store)


class MemoryKit(OpenStores):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._tables = MemoryTables()

    async def make(self, limits: Limits | None = None) -> Store:
        store = MemoryStore(self.clock, limits, tables=self._tables)
        await store.open()
        self.stores.append(store)
        return store

    async def kill(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        self.stores.remove(store)
        store.crash()

    async def kill_committing(self, store: Store, txn: Txn) -> bool:
        with contextlib.suppress(Refusal):
            await store.submit(txn)
        await self.kill(store)
        return True

    async def kill_all(self) -> None:
        for store in self.stores:
            assert isinstance(store, MemoryStore)
            store.crash(unnoticed=True)
        self.stores.clear()

    async def bury(self, store: Store, peer: Store) -> None:
        assert isinstance(peer, MemoryStore)
        self._tables.dead_sessions.add(store.session)
        peer.recover_dead()


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Wait for something that other threads or processes bring about."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"did not happen: {what or condition}"
        await asyncio.sleep(0.002)


async def commit(store: Store, *ops: Op) -> list[list[int]]:
    return (await store.commit(Txn(ops))).ids


async def enqueue(store: Store, payload: bytes = b"x", topic: str = "jobs", **options: Any) -> list[int]:
    """The ids of the copies."""
    return (await commit(store, Enqueue(topic, payload, **options)))[0]


async def fill(store: Store, count: int, topic: str = "jobs") -> list[int]:
    """The ids of so many new messages."""
    return [each[0] for each in await commit(store, *(Enqueue(topic, b"%d" % n) for n in range(count)))]


async def work(
    kit: StoreKit, *lanes: Lane, limits: Limits | None = None, suspects: Suspects = "one", **policy: Any
) -> Store:
    """A store with a session that serves the lanes (JOBS), all with the same policy."""
    store = await kit.make(limits)
    await store.open_session([LanePolicy(*lane, **policy) for lane in lanes or (JOBS,)], suspects)
    return store


async def take(store: Store, count: int = 1, lane: Lane = JOBS) -> list[Message]:
    """What may be granted now, up to `count`."""
    return await take_now(store, {lane: count})


async def take_one(store: Store, lane: Lane = JOBS) -> Message:
    messages = await take_now(store, {lane: 1})
    assert len(messages) == 1, f"nothing to take in {lane}: {store.stats()}"
    return messages[0]


def stats(store: Store, lane: Lane = JOBS) -> LaneStats:
    return next(row for row in store.stats() if (row.topic, row.step) == lane)


def counts(store: Store, lane: Lane = JOBS) -> tuple[int, int, int, int]:
    row = stats(store, lane)
    return row.ready, row.later, row.behind, row.leased


def ids(messages: list[Message]) -> list[int]:
    return [message.lease.id for message in messages]


def leases(messages: list[Message]) -> list[Lease]:
    return [message.lease for message in messages]


def dead(message: Message, **options: Any) -> list[Op]:
    """The ops of a message's death."""
    origin = DeadLetter(message.topic, message.step, "it broke", message.attempt, 5, message.enqueued_ms)
    letter = Enqueue(
        "jobs.failed", message.payload, step=ARCHIVE, id=message.lease.id, dead=origin, **options
    )
    return [Ack(message.lease, failed=True), letter]


async def kill(kit: StoreKit, store: Store, survivor: Store) -> None:
    """Kill one of two processes and wait until the other has recovered its session."""
    sessions = len(survivor.sessions())
    await kit.kill(store)
    await until(lambda: len(survivor.sessions()) == sessions - 1, "the survivor recovers the session")


async def crash_with(
    kit: StoreKit, store: Store, messages: list[Message], suspects: Suspects = "one"
) -> Store:
    """The process dies while the handlers of `messages` run; the next one."""
    for message in messages:
        store.start(message.lease)
    await kit.kill(store)
    return await work(kit, suspects=suspects)
