"""What is claimed: how much, for whom it stands, and when nothing is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Gate, RecordingStore, config, step, turns

from iii import queue
from iii.clock import FakeClock
from iii.engine import Engine
from iii.model import Lane, Message
from iii.sources.queue import AHEAD, HELD_BACK_MS, LAG_S, QUICK_S
from iii.store.lmdb import LmdbStore


class Asked(RecordingStore):
    """Remembers what was asked for: (demand, for which lanes it stands)."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: list[tuple[dict[Lane, int], list[Lane]]] = []

    @property
    def demands(self) -> list[int]:
        return [count for demand, _ in self.asked for count in demand.values()]

    def ask(
        self, demand: Mapping[Lane, int], standing: Collection[Lane] = ()
    ) -> asyncio.Future[list[Message]]:
        self.asked.append((dict(demand), list(standing)))
        return super().ask(demand, standing)


async def test_a_lane_that_used_all_its_slots_anew_is_claimed_for_beyond_them() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        if data >= 40:
            await gate(data)

    clock = FakeClock()
    quick = step(handler, queue("in", config={"concurrency": 4}))
    async with Engine(config(), (quick,), store=(store := Asked(clock))) as engine:
        for n in range(40):
            await engine.enqueue("in", n, delay="1s")
        clock.advance(1000)
        await engine.idle(20)
        assert max(store.demands) == 4 * (1 + AHEAD)
        for n in range(40, 60):
            await engine.enqueue("in", n)
        await gate.entered(4)
        await turns()
        (lane,) = [lane for lane in engine.store.stats() if lane.topic == "in"]
        assert lane.leased <= 4 * (1 + AHEAD)
        gate.open()
        await engine.idle(20)


async def test_only_lanes_that_are_claimed_for_beyond_their_slots_ask_to_stand() -> None:
    async def handler(data: Any) -> None: ...

    clock = FakeClock()
    quick = step(handler, queue("quick", config={"concurrency": 4}), name="Quick")
    alone = step(handler, queue("alone", config={"concurrency": 1}), name="Alone")
    async with Engine(config(), (quick, alone), store=(store := Asked(clock))) as engine:
        for topic in ("quick", "alone"):
            for n in range(40):
                await engine.enqueue(topic, n, delay="1s")
        clock.advance(1000)
        await engine.idle(20)
        lane = Lane("quick", "Quick")
        assert [lane] in [standing for _, standing in store.asked]
        assert all(set(standing) <= {lane} for _, standing in store.asked)
        assert all((demand.get(lane, 0) > 4) <= (standing == [lane]) for demand, standing in store.asked)


async def test_nothing_stands_for_a_lane_that_is_full_and_no_longer_quick(tmp_path: Path) -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        if data == "slow":
            await gate(data)

    store = LmdbStore(tmp_path / "data")
    work = step(handler, queue("in", config={"concurrency": 4}))
    async with Engine(config(), (work,), store=store) as engine:
        for _ in range(5):
            await asyncio.gather(*(engine.enqueue("in", n) for n in range(100)))
        await engine.idle(20)
        await asyncio.sleep(2 * QUICK_S)
        await asyncio.gather(*(engine.enqueue("in", "slow") for _ in range(4)))
        await gate.entered(4)
        await turns()
        for _ in range(20):
            await engine.enqueue("in", "slow")
        (lane,) = [lane for lane in store.stats() if lane.topic == "in"]
        assert (lane.leased, lane.ready) == (4, 20)
        gate.open()
        await engine.idle(20)


async def test_an_engine_that_drains_takes_back_what_it_asked_for() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        await gate(data)

    work = step(handler, queue("in", config={"concurrency": 1}))
    async with Engine(config(), (work,), store=(store := Asked(FakeClock()))) as engine:
        await engine.enqueue("in", 1)
        await gate.entered(1)
        stopping = asyncio.ensure_future(engine.stop())
        await turns()
        assert store.asked[-1] == ({}, [])
        asked = len(store.asked)
        gate.open()
        await stopping
        assert len(store.asked) == asked


@pytest.mark.parametrize("peer_is_idle", [True, False])
async def test_an_instance_whose_loop_lags_claims_nothing_while_a_peer_is_idle(peer_is_idle: bool) -> None:
    events: list[str] = []
    clock = FakeClock()

    class Watched(RecordingStore):
        def has_idle_peer(self) -> bool:
            events.append("looked for idle peers")
            return peer_is_idle

        def ask(
            self, demand: Mapping[Lane, int], standing: Collection[Lane] = ()
        ) -> asyncio.Future[list[Message]]:
            events.append("claimed")
            return super().ask(demand, standing)

    async def handler(data: Any) -> None:
        events.append("ran")
        until = time.perf_counter() + 2 * LAG_S
        while time.perf_counter() < until:
            pass

    one = step(handler, queue("in", config={"concurrency": 1}))
    async with Engine(config(), [one], store=Watched(clock)) as engine:
        await turns()
        await engine.enqueue("in", 1)
        while "looked for idle peers" not in events:
            await asyncio.sleep(0)
        await turns()
        held_back = events[-1] == "looked for idle peers"
        assert held_back is peer_is_idle, events
        clock.advance(HELD_BACK_MS)
        await engine.enqueue("in", 2)
        await engine.idle(10)
        assert events.count("ran") == 2
