"""Claims: what a replaced one leaves to its successor, and whom a commit wakes in other processes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from iii.clock import FakeClock
from iii.model import Ack, Enqueue, Lane, LanePolicy, Message, Put, Txn
from iii.store.lmdb import LmdbStore

A, B = Lane("t", "A"), Lane("t", "B")


class Gate:
    """A probe that stops the writer inside its next commit, as soon as it is shut."""

    def __init__(self) -> None:
        self._open, self.reached = threading.Event(), threading.Event()
        self._open.set()
        self.commits = 0

    def __call__(self, stage: str, number: int) -> None:
        if stage == "applied" and not self._open.is_set():
            self.commits = number
            self.reached.set()
            self._open.wait()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


async def _granted_while_replaced(
    store: LmdbStore, gate: Gate, successor: dict[Lane, int]
) -> tuple[list[Message], asyncio.Future[list[Message]]]:
    """What a claim returned that was replaced while a message was on its way to it; and the new claim."""
    await store.open_session([LanePolicy(*A), LanePolicy(*B)])
    first = store.ask({A: 1})
    gate.shut()
    enqueued = store.submit(Txn([Enqueue("t", b"x", step="A")]))
    await asyncio.to_thread(gate.reached.wait)
    second = store.ask(successor)
    gate.open()
    await enqueued
    return await first, second


async def test_the_successor_of_a_replaced_claim_gets_what_was_on_its_way(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await store.open()
    nothing, second = await _granted_while_replaced(store, gate, {A: 2})
    messages = await second
    assert nothing == [] and [message.payload for message in messages] == [b"x"]
    assert store.meter.groups == gate.commits, "it was given back and granted anew"
    assert await store.claim({A: 2}, 0) == [] and store.verify() == []
    await store.close()


async def test_what_a_successor_does_not_ask_for_is_given_back(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await store.open()
    nothing, second = await _granted_while_replaced(store, gate, {B: 2})
    assert nothing == []
    async with asyncio.timeout(10):
        again = await store.claim({A: 1}, None)
    assert [message.payload for message in again] == [b"x"] and again[0].attempt == 1
    assert await second == [] and store.verify() == []
    await store.close()


class Listening(LmdbStore):
    """Counts how often another store's commit woke it."""

    rings = 0

    def rung(self) -> None:
        self.rings += 1
        super().rung()


async def test_a_commit_wakes_other_instances_only_where_it_leaves_them_something(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = LmdbStore(tmp_path / "data", clock=clock), Listening(tmp_path / "data", clock=clock)
    await here.open()
    await there.open()
    await here.open_session([LanePolicy(*A)])
    await there.open_session([LanePolicy(*B)])
    waiting = there.ask({B: 1})
    await there.commit(Txn([Put("$ns", "k", b"1")]))
    own = here.ask({A: 1})
    rings = there.rings
    await here.commit(Txn([Enqueue("t", b"x", step="A")]))
    await here.commit(Txn([Ack((await own)[0].lease)]))
    await there.commit(Txn([Put("$ns", "k", b"2")]))  # by now a ring would have been heard
    assert there.rings == rings
    await here.commit(Txn([Put("ns", "k", b"1")]))
    await there.commit(Txn([Put("$ns", "k", b"3")]))
    assert there.rings == rings + 1
    await here.commit(Txn([Enqueue("t", b"y", step="B")]))
    async with asyncio.timeout(10):
        assert [message.payload for message in await waiting] == [b"y"]
    await here.close()
    await there.close()
