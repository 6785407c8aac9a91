"""How many messages an engine lets the store grant: slots, more of them while a lane is quick, less and 0."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest
from deadline import DEADLINE_S
from engine_kit import Gate, RecordingStore, Running, config, running, step, turns

from iii import queue
from iii.clock import FakeClock
from iii.engine import Engine
from iii.model import Lane, LanePolicy, Txn
from iii.sources import queue as source
from iii.sources.queue import HELD_BACK_MS, LAG_S, QUICK_MS, QUICK_TIMES
from iii.store.contract import StoreFigures
from iii.store.memory import MemoryStore, MemoryTables

IN = Lane("in", "Work")


class Telling(RecordingStore):
    """Remembers the levels that it was told, and what it was handed over meanwhile, in one order."""

    def __init__(self, clock: FakeClock, *, tables: MemoryTables | None = None) -> None:
        super().__init__(clock, tables=tables)
        self.told: list[dict[Lane, int] | Txn] = []

    @property
    def levels(self) -> list[int]:
        return [levels[IN] for levels in self.told if not isinstance(levels, Txn) and IN in levels]

    def credit(self, levels: Mapping[Lane, int]) -> Awaitable[None]:
        self.told.append(dict(levels))
        return super().credit(levels)

    def submit(self, txn: Txn) -> Any:
        self.told.append(txn)
        return super().submit(txn)


def leased(store: MemoryStore) -> int:
    return sum(lane.leased for lane in store.stats() if lane.topic == "in")


async def a_burst(app: Engine, clock: FakeClock, count: int) -> None:
    """So many messages that fall due at once."""
    for n in range(count):
        await app.enqueue("in", n, delay="1s")
    clock.advance(1000)


@pytest.mark.parametrize("slots", [2, 4])
async def test_a_lane_that_used_all_its_slots_anew_is_granted_more_than_it_has_slots(slots: int) -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        if data == "slow":
            await gate(data)

    quick, clock = step(handler, queue("in", config={"concurrency": slots})), FakeClock()
    async with Engine(config(), (quick,), store=(store := Telling(clock))) as engine:
        assert store.levels == [slots]
        await a_burst(engine, clock, 10 * slots)
        await engine.idle(20)
        assert store.levels == [slots, QUICK_TIMES * slots]
        for _ in range(10 * slots):
            await engine.enqueue("in", "slow")
        await gate.entered(slots)
        await turns()
        assert leased(store) == QUICK_TIMES * slots and gate.most == slots
        gate.open()
        await engine.idle(20)


@pytest.mark.parametrize("knobs", [{"concurrency": 1}, {"concurrency": 4, "max_in_flight": 9}])
async def test_a_lane_of_one_slot_or_with_a_cap_is_never_granted_more(knobs: dict[str, int]) -> None:
    async def handler(data: Any) -> None: ...

    work, clock = step(handler, queue("in", config=knobs)), FakeClock()
    async with Engine(config(), (work,), store=(store := Telling(clock))) as engine:
        await a_burst(engine, clock, 60)
        await engine.idle(20)
        assert store.levels == [knobs["concurrency"]]


async def test_a_lane_that_rests_or_slows_down_is_quick_no_more() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        if data == "slow":
            await gate(data)

    work, clock = step(handler, queue("in", config={"concurrency": 4})), FakeClock()
    async with Engine(config(), (work,), store=(store := Telling(clock))) as engine:
        await a_burst(engine, clock, 40)
        await engine.idle(20)
        assert store.levels[-1] == 4 * QUICK_TIMES
        clock.advance(QUICK_MS + 1)
        await turns()
        assert store.levels[-1] == 4
        for _ in range(24):
            await engine.enqueue("in", "slow")
        await gate.entered(4)
        await turns()
        assert leased(store) == 4
        gate.open()
        await engine.idle(20)


async def test_on_a_slow_disk_a_lane_may_take_ten_commits_to_be_quick() -> None:
    class SlowDisk(Telling):
        def figures(self) -> StoreFigures:
            return StoreFigures(commits=10, commit_s=0.3)

    gate = Gate()

    async def handler(data: Any) -> None:
        await gate(data)

    for kind, is_quick in ((Telling, False), (SlowDisk, True)):
        gate, clock = Gate(), FakeClock()
        clock.advance(60_000)
        work = step(handler, queue("in", config={"concurrency": 2}))
        async with Engine(config(), (work,), store=(store := kind(clock))) as engine:
            for _ in range(3):
                held, gate = gate, Gate()
                held.open()
                for _ in range(2):
                    await engine.enqueue("in")
                await gate.entered(2)
                clock.advance(200)
            gate.open()
            await engine.idle(20)
            assert (2 * QUICK_TIMES in store.levels) is is_quick


async def test_payloads_that_wait_here_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "WAITING_BYTES_MAX", 2_000)
    gate = Gate()

    async def handler(data: Any) -> None:
        if data:
            await gate(data)

    work, clock = step(handler, queue("in", config={"concurrency": 2})), FakeClock()
    async with Engine(config(), (work,), store=(store := Telling(clock))) as engine:
        for _ in range(20):
            await engine.enqueue("in")
        await engine.idle(20)
        assert store.levels[-1] == 2 * QUICK_TIMES
        for _ in range(10):
            await engine.enqueue("in", "x" * 1_000)
        await gate.entered(2)
        await turns()
        assert store.levels[-1] == 2 and leased(store) < 2 * QUICK_TIMES
        gate.open()
        await engine.idle(20)


async def test_a_thread_that_runs_on_takes_its_slot_out_of_the_level() -> None:
    inside, release = threading.Semaphore(0), threading.Event()

    def handler(data: Any) -> None:
        inside.release()
        release.wait(DEADLINE_S)

    knobs = {"concurrency": 2, "timeout": "1s", "max_retries": 0}
    work, clock = step(handler, queue("in", config=knobs)), FakeClock()
    store = Telling(clock)
    try:
        async with Engine(config(), (work,), store=store) as engine:
            for n in range(4):
                await engine.enqueue("in", n)
            for _ in range(2):
                assert await asyncio.to_thread(inside.acquire, True, DEADLINE_S)
            told = len(store.told)
            clock.advance(1_000)
            async with asyncio.timeout(DEADLINE_S):
                while len(store.levels) < 3:
                    await asyncio.sleep(0)
            await turns()
            since = store.told[told:]
            lowered = [at for at, one in enumerate(since) if not isinstance(one, Txn) and IN in one]
            settled = [at for at, one in enumerate(since) if isinstance(one, Txn)]
            assert store.levels == [2, 1, 0] and lowered[0] < settled[0] and lowered[1] < settled[1]
            (lane,) = [lane for lane in store.stats() if lane.topic == "in"]
            assert (lane.ready, lane.leased) == (2, 0)
            release.set()
            await engine.idle(20)
            assert store.levels[3:5] == [1, 2]
    finally:
        release.set()


async def test_an_engine_that_drains_returns_at_once_what_has_not_begun() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        if data == "slow":
            await gate(data)

    tables, clock = MemoryTables(), FakeClock()
    work = step(handler, queue("in", config={"concurrency": 2}))
    store, peer = Telling(clock, tables=tables), MemoryStore(clock, tables=tables)
    await peer.open()
    async with Engine(config(), (work,), store=store) as engine:
        await a_burst(engine, clock, 20)
        await engine.idle(20)
        for _ in range(12):
            await engine.enqueue("in", "slow")
        await gate.entered(2)
        await turns()
        assert leased(store) == 10
        stopping = asyncio.ensure_future(engine.stop())
        await turns()
        assert store.levels[-1] == 0
        (lane,) = [lane for lane in peer.stats() if lane.topic == "in"]
        assert (lane.ready, lane.leased) == (10, 2)
        assert not stopping.done() and gate.most == 2
        gate.open()
        await stopping
    left = peer.waiting("in")
    assert [(each.state, each.attempts, each.crashes) for each in left] == [("ready", 0, 0)] * 10
    await peer.close()


@pytest.mark.parametrize("peer_is_idle", [True, False])
async def test_an_instance_whose_loop_lags_is_granted_nothing_while_a_peer_is_idle(
    peer_is_idle: bool,
) -> None:
    class Watched(Telling):
        def has_idle_peer(self) -> bool:
            return peer_is_idle

    ran: list[Any] = []

    async def handler(data: Any) -> None:
        ran.append(data)
        until = time.perf_counter() + 2 * LAG_S
        while time.perf_counter() < until:
            pass

    work, clock = step(handler, queue("in", config={"concurrency": 1})), FakeClock()
    async with Engine(config(), [work], store=(store := Watched(clock))) as engine:
        await engine.enqueue("in", 1)
        while not ran:
            await asyncio.sleep(0)
        await turns()
        assert store.levels == ([1, 0] if peer_is_idle else [1])
        clock.advance(HELD_BACK_MS)
        await engine.enqueue("in", 2)
        await engine.idle(10)
        assert ran == [1, 2] and store.levels.count(0) >= peer_is_idle


async def test_what_waits_here_when_peers_bury_the_session_does_not_run_here() -> None:
    gate = Gate()
    ran: list[Any] = []

    async def handler(data: Any) -> None:
        ran.append(data)
        if data != "quick":
            await gate(data)

    tables, clock = MemoryTables(), FakeClock()
    work = step(handler, queue("in", config={"concurrency": 2}))
    async with running(work, tables=tables, clock=clock) as app:
        for _ in range(20):
            await app.send("in", "quick")
        await app.settle()
        for n in range(8):
            await app.send("in", n)
        await gate.entered(2)
        await turns()
        assert leased(app.store) == 8
        peer = MemoryStore(clock, tables=tables)
        await peer.open()
        await peer.open_session([LanePolicy("elsewhere", "Peer")])
        tables.dead_sessions.add(app.store.session)
        peer.recover_dead()
        gate.open()
        await _all_ran(app, 8)
        assert sorted(data for data in ran if data != "quick") == [0, 0, 1, 1, *range(2, 8)]
        await peer.close()


async def _all_ran(app: Running, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while app.store.unsettled():
            await asyncio.sleep(0)
