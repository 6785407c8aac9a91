"""A clock that is wrong for a while: no schedule falls silent, and none repeats what has run."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cron_kit import DAY, HOUR, HOURLY, MINUTE, SECOND, START_MS, at, looks, scheduled
from engine_kit import running

from iii.clock import FakeClock
from iii.sources.cron_marks import AHEAD_MAX_MS
from iii.store.memory import MemoryTables

YEARS = 10 * 365 * DAY


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "iii.cron" and r.levelno >= logging.WARNING]


@pytest.mark.parametrize("missed", ["last", "skip", "all"])
async def test_a_first_start_years_ahead_silences_no_schedule(
    missed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock(START_MS + YEARS)
    work = scheduled(seen, missed=missed)
    async with running(work, tables=tables, clock=clock) as app:
        await app.pass_time(HOUR)
    seen.clear()
    clock.set_wall(START_MS)
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        assert seen == []
        for _ in range(3):
            await app.pass_time(HOUR)
        assert at(seen) == [60, 120, 180]
    (told,) = warnings(caplog)
    for part in ('Work: the schedule "0 * * * *" (UTC)', "2035-12-30T01:00:00.000Z", "3650d 1h", "goes on"):
        assert part in told


@pytest.mark.parametrize("missed", ["last", "skip", "all"])
async def test_a_clock_set_a_day_back_while_it_runs_is_a_clock_error(
    missed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    async with running(scheduled(seen, missed=missed)) as app:
        await app.pass_time(HOUR)
        app.clock.set_wall(START_MS - DAY)
        await app.settle()
        assert app.engine.next_ms() == START_MS - DAY + HOUR
        await app.pass_time(HOUR)
        await app.pass_time(HOUR)
        assert at(seen) == [60, -DAY // MINUTE + 60, -DAY // MINUTE + 120]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("missed", ["last", "all"])
async def test_a_clock_that_is_right_again_repeats_nothing_of_before(missed: Any) -> None:
    """A machine without a battery clock begins in 1970, until it asks for the time."""
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock()
    work = scheduled(seen, missed=missed)
    async with running(work, tables=tables, clock=clock) as app:
        for _ in range(3):
            await app.pass_time(HOUR)
    seen.clear()
    clock.set_wall(40 * SECOND)
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        clock.set_wall(START_MS + 4 * HOUR + MINUTE)
        await app.settle()
        assert at(seen) == [240]
        await app.pass_time(HOUR)
        assert at(seen) == [240, 300]


async def test_up_to_three_hours_back_no_tick_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    work = scheduled(seen)
    async with running(work) as app:
        for _ in range(4):
            await app.pass_time(HOUR)
        app.clock.set_wall(START_MS + 4 * HOUR - AHEAD_MAX_MS)
        await app.settle()
        (look,) = looks(app, work)
        assert look.next_ms == (START_MS + 5 * HOUR,)
        upto = "it is dealt with up to 2026-01-01T04:00:00Z, which lies 3h ahead of the clock"
        assert look.notes == (f"{upto}: nothing before that",)
        for _ in range(4):
            await app.pass_time(HOUR)
        assert at(seen) == [60, 120, 180, 240, 300]
        app.clock.set_wall(app.clock.wall_ms() - AHEAD_MAX_MS - 1)
        await app.settle()
        await app.pass_time(1 + HOUR)
        assert at(seen)[5:] == [180]
    assert len(warnings(caplog)) == 1


async def test_a_list_of_schedules_tells_of_a_clock_error_before_an_engine_mends_it() -> None:
    tables, clock = MemoryTables(), FakeClock(START_MS + DAY)
    work = scheduled([])
    async with running(work, tables=tables, clock=clock) as app:
        await app.pass_time(HOUR)
        clock.set_wall(START_MS)
        (look,) = looks(app, work)
        assert look.next_ms == (START_MS + HOUR,)
        last = "it is dealt with up to 2026-01-02T01:00:00Z, which lies 1d 1h ahead of the clock"
        assert look.notes == (f"{last}: a clock error, it goes on from now",)
        await app.settle()
        (look,) = looks(app, work)
        assert (look.next_ms, look.notes) == ((START_MS + HOUR,), ())


async def test_two_instances_give_up_a_mark_once(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock(START_MS + DAY)
    work = scheduled(seen)
    async with (
        running(work, tables=tables, clock=clock) as one,
        running(work, tables=tables, clock=clock) as two,
    ):
        clock.advance(HOUR)
        clock.set_wall(START_MS)
        for app in (one, two):
            await app.settle()
        seen.clear()
        clock.advance(HOUR)
        for app in (one, two):
            await app.settle()
        assert at(seen) == [60]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(("expression", "zone", "shown"), [
    (HOURLY, "UTC", "2026-01-01T01:00:00Z"),
    ("0 3 * * *", "Europe/Berlin", "2026-01-01T03:00:00+01:00 Europe/Berlin"),
])  # fmt: skip
async def test_a_time_of_a_schedule_is_shown_in_its_zone(expression: str, zone: str, shown: str) -> None:
    async with running(scheduled([], expression, timezone=zone)) as app:
        (line,) = app.engine.report().crons
        assert line.next == shown
        assert zone in line.words
