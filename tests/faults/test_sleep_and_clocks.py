"""The machine sleeps, or its clock is set: nobody is taken for dead, nothing runs too soon, twice, never."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from engine_process import Project, until

from iii.clock import FakeClock
from iii.config import load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.handling.context import Context
from iii.model import Enqueue, Txn
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.liveness import STALE_BEATS

MakeProject = Callable[[str], Project]

BEAT_S = 0.05
SLEEP_S = 1.5 * STALE_BEATS * BEAT_S
MESSAGES = 400
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

STEPS = """
import asyncio

config = {"name": "Count", "triggers": [{"type": "queue", "topic": "count", "config": {"concurrency": 4}}]}


async def handler(input, ctx):
    await asyncio.sleep(0.005)
    await ctx.state.update("ns", "count", [{"type": "increment", "path": "n", "by": 1}])
"""


async def test_all_instances_sleep_and_wake_up_and_nobody_takes_another_for_dead(
    make_project: MakeProject,
) -> None:
    project = make_project(STEPS)
    first = project.start(beat_s=BEAT_S)
    await first.address()
    second = project.start(beat_s=BEAT_S, group=first.pid)
    await second.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("count", b"1") for _ in range(MESSAGES)]))
        await until(lambda: store.unsettled() < MESSAGES - 20, "some work done")
        os.killpg(first.pid, signal.SIGSTOP)
        asleep, left = time.monotonic(), store.unsettled()
        assert left, "they slept while there was work"
        await until(lambda: time.monotonic() > asleep + SLEEP_S, "the end of the night")
        assert store.unsettled() == left
        os.killpg(first.pid, signal.SIGCONT)
        await until(lambda: store.unsettled() == 0, "everything settled", lambda: first.text + second.text)
        assert (count := store.get("ns", "count")) is not None and count.value == b'{"n":%d}' % MESSAGES
        assert len(store.sessions()) == 2 and store.verify() == []
    for engine in (first, second):
        assert await engine.stop() == 0
        assert not any(word in engine.text for word in ("killed", "dead", "stale")), engine.text


class Clocked:
    """A cron at every full hour and a queue, on a store on disk and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.ticks, self.ran = FakeClock(), list[int](), list[object]()
        cron = {"type": "cron", "expression": "0 * * * *", "missed": "all"}
        self.steps = [
            make_step({"name": "Hourly", "triggers": [cron]}, self.tick),
            make_step({"name": "Work", "triggers": [{"type": "queue", "topic": "work"}]}, self.work),
        ]
        file = folder / "iii-config.yaml"
        file.write_text("store: {path: data}\n")
        self.engine = Engine(load(file), self.steps, store=LmdbStore(folder / "data", clock=self.clock))

    async def tick(self, tick: Any, ctx: Context) -> None:
        self.ticks.append(tick.scheduled_at)

    async def work(self, message: object, ctx: Context) -> None:
        self.ran.append(message)

    async def settle(self) -> None:
        await self.engine.idle(20, due_only=True)


@pytest.fixture
def clocked(tmp_path: Path) -> Clocked:
    return Clocked(tmp_path)


@pytest.mark.parametrize("jump_ms", [DAY_MS, -DAY_MS], ids=["a day ahead", "a day back"])
async def test_delays_do_not_notice_a_clock_that_is_set(clocked: Clocked, jump_ms: int) -> None:
    async with clocked.engine as engine:
        await engine.enqueue("work", "delayed", delay="1h")
        clocked.clock.set_wall(clocked.clock.wall_ms() + jump_ms)
        await clocked.settle()
        clocked.clock.advance(3_599_999)
        await clocked.settle()
        assert clocked.ran == []
        clocked.clock.advance(1)
        await clocked.settle()
        assert clocked.ran == ["delayed"]


@pytest.mark.parametrize("jump_ms", [HOUR_MS, 3 * HOUR_MS])
async def test_no_tick_is_repeated_or_left_out_when_the_clock_is_set_hours_back_and_ahead_again(
    clocked: Clocked, jump_ms: int
) -> None:
    async with clocked.engine:
        for way in (-1, 1, 1, -1, 1):
            clocked.clock.set_wall(clocked.clock.wall_ms() + way * jump_ms)
            await clocked.settle()
            for _ in range(3):
                clocked.clock.advance(HOUR_MS)
                await clocked.settle()
    assert len(clocked.ticks) == len(set(clocked.ticks)), "no tick runs twice"
    gaps = {later - earlier for earlier, later in pairwise(sorted(clocked.ticks))}
    assert len(gaps) == 1, "missed: all leaves no hour out"


async def test_a_clock_a_day_back_is_an_error_and_once_it_is_right_again_all_is_as_before(
    clocked: Clocked,
) -> None:
    start = datetime.fromtimestamp(clocked.clock.wall_ms() / 1000, UTC)
    async with clocked.engine:
        for jump_ms in (-DAY_MS, DAY_MS, DAY_MS, -DAY_MS, DAY_MS):
            clocked.clock.set_wall(clocked.clock.wall_ms() + jump_ms)
            await clocked.settle()
            for _ in range(3):
                clocked.clock.advance(HOUR_MS)
                await clocked.settle()
    hours = [round((tick - start).total_seconds()) // 3600 for tick in clocked.ticks]
    wrong_at_first, wrong_again = [-23, -22, -21], [10, 11, 12]
    assert hours == [*wrong_at_first, *range(1, 34), *wrong_again, *range(34, 40)]
