"""Ticks: which of them become messages, and when. Times are minutes since the start of 2026."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cron_kit import DAY, HOUR, HOURLY, MINUTE, SECOND, START_MS, at, scheduled
from engine_kit import RecordingStore, Running, running, step

from iii import Context, CronTick, cron
from iii.clock import FakeClock
from iii.errors import InputError
from iii.formats.cron_expression import parse
from iii.running.timers import Timers
from iii.sources.cron import CronSource
from iii.sources.cron_ticks import MISSED_MAX, ticks
from iii.store.memory import MemoryTables


async def forward(app: Running, ms: int) -> None:
    await app.pass_time(ms)


async def test_a_cron_fires_once_per_tick_at_its_time() -> None:
    seen: list[Any] = []
    async with running(scheduled(seen, "*/2 * * * * *")) as app:
        await app.settle()
        assert seen == []
        for _ in range(10):
            await forward(app, SECOND)
        assert [tick.scheduled_at.second for tick in seen] == [2, 4, 6, 8, 10]
        assert all(tick.expression == "*/2 * * * * *" and not tick.manual for tick in seen)


async def test_a_ticks_message_and_its_mark_are_one_commit() -> None:
    async with running(scheduled([])) as app:
        start = len(app.store.txns)
        await forward(app, HOUR)
        assert app.store.kinds(start) == [["Mark", "Enqueue"], ["Ack"]]


async def test_a_clock_set_back_repeats_no_tick() -> None:
    seen: list[Any] = []
    async with running(scheduled(seen)) as app:
        await forward(app, HOUR)
        await forward(app, HOUR)
        app.clock.set_wall(START_MS + 30 * MINUTE)
        await app.settle()
        await forward(app, HOUR)  # 01:30 again
        await forward(app, 30 * MINUTE)  # 02:00 again
        assert at(seen) == [60, 120]
        await forward(app, HOUR)
        assert at(seen) == [60, 120, 180]


async def test_a_clock_set_forward_counts_as_missed() -> None:
    seen: list[Any] = []
    async with running(scheduled(seen)) as app:
        app.clock.set_wall(START_MS + 5 * HOUR + 10 * MINUTE)
        await app.settle()
        assert at(seen) == [300]


@pytest.mark.parametrize(("missed", "caught_up"), [("last", [600]), ("skip", []), ("all", None)])
async def test_ticks_nobody_was_there_for(missed: Any, caught_up: list[int] | None) -> None:
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock()
    work = scheduled(seen, missed=missed)
    async with running(work, tables=tables, clock=clock) as app:
        await forward(app, HOUR)
        assert at(seen) == [60]
    clock.advance(9 * HOUR + MINUTE)
    seen.clear()
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        assert at(seen) == ([60 * n for n in range(2, 11)] if caught_up is None else caught_up)
        seen.clear()
        await forward(app, 59 * MINUTE)
        assert at(seen) == [660]


async def test_a_new_schedule_begins_now_and_an_edited_one_anew() -> None:
    tables, clock = MemoryTables(), FakeClock()
    seen: list[Any] = []
    async with running(scheduled(seen), tables=tables, clock=clock):
        pass
    clock.advance(10 * HOUR)
    async with running(scheduled(seen, "30 * * * *"), tables=tables, clock=clock) as app:
        await app.settle()
        assert seen == []
        await forward(app, 30 * MINUTE)
        assert at(seen) == [630]


async def test_two_instances_make_one_message_of_a_tick() -> None:
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock()
    work = scheduled(seen)
    async with (
        running(work, tables=tables, clock=clock) as one,
        running(work, tables=tables, clock=clock) as two,
    ):
        for _ in range(5):
            clock.advance(HOUR)
            await one.settle()
            await two.settle()
        assert sorted(at(seen)) == [60, 120, 180, 240, 300]


@pytest.mark.parametrize(("overlap", "expected"), [("queue", [5, 10, 15]), ("skip", [5, 15])])
async def test_a_tick_while_the_last_one_still_runs(overlap: Any, expected: list[int]) -> None:
    seen: list[Any] = []
    release, running_now = asyncio.Event(), 0

    async def handler(tick: CronTick) -> None:
        nonlocal running_now
        running_now += 1
        assert running_now == 1, "two ticks of one trigger must not run at once"
        seen.append(tick)
        await release.wait()
        running_now -= 1

    async with running(step(handler, cron("*/5 * * * *", overlap=overlap))) as app:
        app.clock.advance(5 * MINUTE)
        async with asyncio.timeout(10):
            while not seen:
                await asyncio.sleep(0)
        app.clock.advance(5 * MINUTE)
        for _ in range(50):
            await asyncio.sleep(0)
        assert at(seen) == [5]
        release.set()
        await app.settle()
        await forward(app, 5 * MINUTE)
        assert at(seen) == expected


async def test_a_failing_cron_is_retried_and_dies_like_any_message() -> None:
    attempts: list[int] = []

    async def handler(tick: CronTick, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    async with running(step(handler, cron(HOURLY))) as app:
        await forward(app, HOUR)
        for _ in range(3):
            await forward(app, SECOND)
        assert attempts == [1, 2, 3, 4]
        assert len(app.letters("$cron/Work.failed")) == 1


async def test_a_cron_runs_by_hand_between_its_ticks() -> None:
    seen: list[Any] = []
    async with running(scheduled(seen)) as app:
        await app.engine.run_cron("Work")
        await app.settle()
        assert [tick.manual for tick in seen] == [True]
        with pytest.raises(InputError, match="those with one: Work"):
            await app.engine.run_cron("Nobody")


async def test_two_schedules_of_one_step_keep_their_ticks_apart() -> None:
    seen: list[Any] = []

    async def handler(tick: CronTick, ctx: Context) -> None:
        seen.append((ctx.trigger.index, ctx.trigger.expression, tick.expression))

    async with running(step(handler, cron(HOURLY), cron("0 2 * * *"))) as app:
        await forward(app, HOUR)
        await forward(app, HOUR)
        assert seen == [(0, HOURLY, HOURLY), (0, HOURLY, HOURLY), (1, "0 2 * * *", "0 2 * * *")]


async def test_a_schedule_whose_mark_is_removed_begins_anew() -> None:
    seen: list[Any] = []
    tables = MemoryTables()
    async with running(scheduled(seen), tables=tables) as app:
        await forward(app, HOUR)
        (mark,) = app.store.marks("cron/")
        with tables.atomic():
            tables.mark.pop(mark)
        await forward(app, HOUR)
        await forward(app, HOUR)
        assert at(seen) == [60, 180]


async def test_a_cron_source_that_dies_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenStore(RecordingStore):
        broken = False

        def mark(self, name: str) -> int | None:
            if self.broken:
                raise RuntimeError("broken")
            return super().mark(name)

    store, died = BrokenStore(FakeClock()), asyncio.Event()
    await store.open()
    timers = Timers(store.clock)
    source = CronSource(store, timers, [scheduled([])], on_failure=lambda _: died.set())
    await source.start()
    store.broken = True
    async with asyncio.timeout(10):
        await died.wait()
    assert [r.levelname for r in caplog.records if r.name == "iii.engine"] == ["CRITICAL"]
    await source.stop()
    timers.close()
    await store.close()


# ------------------------------------------------------------------------------------ the pure decision


def test_ticks_of_a_source_that_was_there_are_all_on_time() -> None:
    every_second = parse("* * * * * *")
    found = ticks(every_second, "last", START_MS, START_MS + 3 * SECOND, since_ms=START_MS)
    assert found == [START_MS + n * SECOND for n in (1, 2, 3)]


def test_missed_ticks_collapse_to_the_newest_however_many_there_were() -> None:
    every_second = parse("* * * * * *")
    now = START_MS + 400 * DAY
    assert ticks(every_second, "last", START_MS, now, since_ms=now) == [now]
    for since_ms in (now, START_MS):
        everything = ticks(every_second, "all", START_MS, now, since_ms=since_ms)
        assert len(everything) == MISSED_MAX and everything[-1] == now
    assert ticks(parse("0 0 1 1 *"), "last", START_MS, now, since_ms=now) == [START_MS + 365 * DAY]
    assert ticks(every_second, "skip", START_MS, now, since_ms=now) == []


def test_nothing_is_due_before_the_mark() -> None:
    assert ticks(parse(HOURLY), "all", START_MS + DAY, START_MS + HOUR, since_ms=START_MS) == []


@pytest.mark.parametrize("expression", ["* * 0-3 1 1 *", "*/7 * 0 1,2 * *", "* 0 0 * * *", "0 */5 * * * *"])
def test_missed_ticks_are_the_newest_of_a_schedule_that_fires_in_bursts(expression: str) -> None:
    schedule = parse(expression)
    for now in (START_MS + 3 * HOUR, START_MS + 40 * DAY + HOUR):
        start = now - 50 * DAY
        newest: list[int] = []
        fire = schedule.previous_ms(now)
        while fire is not None and fire > start and len(newest) < MISSED_MAX:
            newest.insert(0, fire)
            fire = schedule.previous_ms(fire - SECOND)
        assert ticks(schedule, "all", start, now, since_ms=now) == newest
        assert ticks(schedule, "last", start, now, since_ms=now) == newest[-1:]
