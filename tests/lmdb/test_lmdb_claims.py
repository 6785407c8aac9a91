"""Claims: what a replaced one leaves to its successor, and whom a commit wakes in other processes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from iii.clock import FakeClock
from iii.errors import StoreError
from iii.model import Ack, Committed, Enqueue, Lane, LanePolicy, Message, Op, Put, Txn
from iii.store.lmdb import LmdbStore, sessions

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


async def _on_its_way(store: LmdbStore, gate: Gate, ops: list[Op]) -> asyncio.Future[Committed]:
    """`ops`, inside their commit, as long as the gate is shut."""
    gate.shut()
    committed = store.submit(Txn(ops))
    await asyncio.to_thread(gate.reached.wait)
    return committed


async def _granted_while_replaced(
    store: LmdbStore, gate: Gate, successor: dict[Lane, int]
) -> tuple[list[Message], asyncio.Future[list[Message]]]:
    """What a claim returned that was replaced while a message was on its way to it; and the new claim."""
    await store.open_session([LanePolicy(*A), LanePolicy(*B)])
    first = store.ask({A: 1})
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"x", step="A")])
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


async def _standing(store: LmdbStore, *, demand: int) -> None:
    """A claim that stands, and has been answered with one message."""
    await store.open()
    await store.open_session([LanePolicy(*A), LanePolicy(*B)])
    asked = store.ask({A: demand}, [A])
    await store.commit(Txn([Enqueue("t", b"first", step="A")]))
    assert [message.payload for message in await asked] == [b"first"]


def _leased(store: LmdbStore) -> int:
    return sum(row.leased for row in store.stats())


async def test_a_claim_that_stands_is_granted_more_by_the_very_commits_that_enqueue(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await _standing(store, demand=3)
    for payload in (b"second", b"third", b"fourth"):
        await store.commit(Txn([Enqueue("t", payload, step="A")]))
    assert _leased(store) == 3, "and no more than it asked for"
    groups = store.meter.groups
    early = await store.ask({A: 2}, [A])
    assert [message.payload for message in early] == [b"second", b"third"]
    assert store.meter.groups == groups
    await store.close()


async def test_without_standing_nothing_is_granted_after_the_answer(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await store.open()
    await store.open_session([LanePolicy(*A)])
    asked = store.ask({A: 3})
    await store.commit(Txn([Enqueue("t", b"first", step="A")]))
    await asked
    await store.commit(Txn([Enqueue("t", b"second", step="A")]))
    assert _leased(store) == 1
    await store.close()


async def test_what_was_granted_early_and_is_not_asked_for_goes_back_as_it_was(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await _standing(store, demand=3)
    await store.commit(Txn([Enqueue("t", b"second", step="A")]))
    await store.commit(Txn([Enqueue("t", b"third", step="A")]))
    asked = await store.ask({A: 1, B: 1})
    assert [message.payload for message in asked] == [b"second"]
    [again] = await store.claim({A: 2}, 0)
    assert (again.payload, again.attempt, again.crashes) == (b"third", 1, 0)
    assert store.verify() == []
    await store.close()


async def test_an_ask_counts_what_is_on_its_way(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await _standing(store, demand=3)
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"second", step="A")])
    asked = store.ask({A: 2}, [A])  # of which one is on its way
    gate.open()
    await enqueued
    assert [message.payload for message in await asked] == [b"second"]
    for payload in (b"third", b"fourth"):
        await store.commit(Txn([Enqueue("t", payload, step="A")]))
    assert _leased(store) == 3
    await store.close()


async def test_what_a_failed_group_granted_is_granted_again(tmp_path: Path) -> None:
    fails: list[int] = []

    def probe(stage: str, number: int) -> None:
        if stage == "applied" and fails:
            raise RuntimeError(f"commit {fails.pop()}")

    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=probe)
    await _standing(store, demand=3)
    fails.append(1)
    [refused] = await asyncio.gather(
        store.commit(Txn([Enqueue("t", b"lost", step="A")])), return_exceptions=True
    )
    assert isinstance(refused, StoreError)
    for payload in (b"second", b"third", b"fourth"):
        await store.commit(Txn([Enqueue("t", payload, step="A")]))
    early = await store.ask({A: 2}, [A])
    assert [message.payload for message in early] == [b"second", b"third"] and _leased(store) == 3
    await store.close()


async def test_what_was_on_its_way_when_nothing_was_asked_for_any_more_goes_back(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await _standing(store, demand=3)
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"second", step="A")])
    nothing = store.ask({})
    gate.open()
    await enqueued
    assert await nothing == []
    await store.commit(Txn([Put("n", "k", b"1")]))  # behind what gives it back
    assert _leased(store) == 1
    await store.close()


@pytest.mark.parametrize("standing", [(), (A,)])
async def test_an_ask_takes_what_it_can_of_more_that_is_on_its_way(
    tmp_path: Path, standing: tuple[Lane, ...]
) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await _standing(store, demand=4)
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"%d" % n, step="A") for n in range(3)])
    asked = store.ask({A: 2}, standing)
    gate.open()
    await enqueued
    async with asyncio.timeout(10):
        assert [message.payload for message in await asked] == [b"0", b"1"]
        [again] = await store.claim({A: 3}, None)
    assert (again.payload, again.attempt) == (b"2", 1) and store.verify() == []
    await store.close()


async def test_an_ask_takes_its_lanes_of_what_is_on_its_way_for_others_too(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await store.open()
    await store.open_session([LanePolicy(*A), LanePolicy(*B)])
    asked = store.ask({A: 3, B: 3}, [A, B])
    await store.commit(Txn([Enqueue("t", b"first", step="A")]))
    await asked
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"a", step="A"), Enqueue("t", b"b", step="B")])
    asked = store.ask({A: 1})
    gate.open()
    await enqueued
    async with asyncio.timeout(10):
        assert [message.payload for message in await asked] == [b"a"]
        assert [message.payload for message in await store.claim({B: 1}, None)] == [b"b"]
    await store.close()


async def test_what_was_granted_early_to_a_buried_session_is_not_handed_out(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = LmdbStore(tmp_path / "data", clock=clock), LmdbStore(tmp_path / "data", clock=clock)
    await _standing(here, demand=3)
    session = here.session
    await here.commit(Txn([Enqueue("t", b"early", step="A")]))
    await there.open()
    await there.open_session([LanePolicy(*A)])
    await there.call(lambda applier: sessions.recover(applier, session, []))
    taken = await there.claim({A: 3}, 0)
    assert [message.payload for message in taken] == [b"first", b"early"]
    await here.commit(Txn([Put("n", "k", b"1")]))
    async with asyncio.timeout(10):
        while here.session in (0, session):
            await asyncio.sleep(0)
    assert here.ask({A: 3}, [A]).done() is False
    await here.close()
    await there.close()


async def test_what_is_on_its_way_to_a_standing_claim_that_is_cancelled_goes_back(tmp_path: Path) -> None:
    gate = Gate()
    store = LmdbStore(tmp_path / "data", clock=FakeClock(), probe=gate)
    await store.open()
    await store.open_session([LanePolicy(*A)])
    asked = store.ask({A: 3}, [A])
    enqueued = await _on_its_way(store, gate, [Enqueue("t", b"x", step="A")])
    asked.cancel()
    gate.open()
    await enqueued
    await store.commit(Txn([Put("n", "k", b"1")]))  # behind what gives it back
    assert _leased(store) == 0 and store.verify() == []
    await store.close()


async def test_beside_another_instance_nothing_stands(tmp_path: Path) -> None:
    clock = FakeClock()
    store, peer = (LmdbStore(tmp_path / "data", clock=clock) for _ in range(2))
    await peer.open()
    await peer.open_session([LanePolicy(*B)])
    await _standing(store, demand=3)
    await store.commit(Txn([Enqueue("t", b"second", step="A")]))
    assert _leased(store) == 1, "the second is for whoever is idle"
    await store.close()
    await peer.close()
