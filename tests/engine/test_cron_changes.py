"""An expression that is changed fires for no time before the change, and an unchanged one loses none."""

from __future__ import annotations

from typing import Any

import pytest
from cron_kit import DAY, HOUR, HOURLY, MINUTE, START_MS, at, looks, scheduled
from engine_kit import RecordingStore, running, turns

from iii.clock import FakeClock
from iii.errors import StoreFull
from iii.running.timers import Timers
from iii.sources.cron import AGAIN_MS, CronSource
from iii.store.memory import MemoryTables

HALF = "30 * * * *"


class Deployed:
    """One step on one store, whose schedule changes from start to start."""

    def __init__(self) -> None:
        self.tables, self.clock = MemoryTables(), FakeClock()
        self.seen: list[Any] = []

    async def run(self, *expressions: str, ms: int = 0, **options: Any) -> list[int]:
        """The ticks that ran while an engine with these expressions did; `ms` pass then."""
        self.seen.clear()
        work = scheduled(self.seen, *expressions, **options)
        async with running(work, tables=self.tables, clock=self.clock) as app:
            await app.settle()
            for _ in range(ms // (30 * MINUTE)):
                await app.pass_time(30 * MINUTE)
        return at(self.seen)


@pytest.mark.parametrize("missed", ["last", "all"])
async def test_an_expression_changed_and_changed_back_begins_anew_each_time(missed: Any) -> None:
    deployed = Deployed()
    assert await deployed.run(HOURLY, ms=90 * MINUTE, missed=missed) == [60]
    assert await deployed.run(HALF, ms=90 * MINUTE, missed=missed) == [150]
    deployed.clock.advance(2 * HOUR)
    assert await deployed.run(HOURLY, ms=HOUR, missed=missed) == [360]
    deployed.clock.advance(DAY)
    assert await deployed.run(HALF, missed=missed) == []


async def test_a_zone_changed_and_changed_back_is_another_schedule_too() -> None:
    deployed = Deployed()
    assert await deployed.run("0 2 * * *", timezone="Europe/Berlin", ms=2 * HOUR) == [60]
    assert await deployed.run("0 2 * * *", ms=DAY) == [26 * 60]
    deployed.clock.advance(DAY)
    assert await deployed.run("0 2 * * *", timezone="Europe/Berlin") == []


async def test_a_schedule_taken_out_and_put_back_into_its_step_begins_anew() -> None:
    deployed = Deployed()
    assert await deployed.run(HALF, HOURLY, ms=60 * MINUTE) == [30, 60]
    assert await deployed.run(HALF, ms=60 * MINUTE) == [90]
    deployed.clock.advance(5 * HOUR)
    assert await deployed.run(HALF, HOURLY) == [390], "the one that stayed makes up for what was missed"


async def test_a_schedule_that_only_moved_in_its_step_loses_and_repeats_nothing() -> None:
    deployed = Deployed()
    assert await deployed.run("0 0 1 1 *", HOURLY, ms=90 * MINUTE) == [60]
    deployed.clock.advance(HOUR)
    assert await deployed.run(HOURLY) == [120]
    deployed.clock.advance(HOUR)
    assert await deployed.run(HALF, "0 0 1 1 *", HOURLY) == [180]
    assert await deployed.run(HALF, "0 0 1 1 *", HOURLY) == []


async def test_a_step_that_nobody_ran_for_a_while_makes_up_for_what_it_missed() -> None:
    """It was not changed: its file may have been away, or no engine ran."""
    deployed = Deployed()
    await deployed.run(HOURLY, ms=HOUR)
    async with running(tables=deployed.tables, clock=deployed.clock) as app:
        await app.pass_time(5 * HOUR)
    assert await deployed.run(HOURLY) == [360]


async def test_while_two_versions_run_each_fires_its_own_schedule_and_later_only_the_new() -> None:
    """A rolling deploy: the older instance goes on until it ends."""
    tables, clock, old, new = MemoryTables(), FakeClock(), list[Any](), list[Any]()
    async with running(scheduled(old, HOURLY), tables=tables, clock=clock) as first:
        async with running(scheduled(new, HALF), tables=tables, clock=clock) as second:
            for _ in range(2):
                clock.advance(30 * MINUTE)
                await first.settle()
                await second.settle()
        assert sorted(at(old) + at(new)) == [30, 60]
    clock.advance(DAY)
    again: list[Any] = []
    async with running(scheduled(again, HOURLY), tables=tables, clock=clock) as app:
        await app.settle()
        assert again == [], "rolled back after a day: it begins now, though it ran beside the other"


async def test_a_store_of_an_earlier_version_keeps_the_schedule_that_was_in_force() -> None:
    """It has marks alone: the newest of a place is the one in force."""
    deployed = Deployed()
    await deployed.run(HALF, ms=HOUR)
    await deployed.run(HOURLY, ms=2 * HOUR)
    places = [name for name in _marks(deployed) if name.startswith("cron-schedule/")]
    assert places
    with deployed.tables.atomic():
        for name in places:
            deployed.tables.mark.pop(name)
    deployed.clock.advance(2 * HOUR)
    assert await deployed.run(HOURLY) == [300]
    with deployed.tables.atomic():
        for name in places:
            deployed.tables.mark.pop(name)
    deployed.clock.advance(2 * HOUR)
    assert await deployed.run(HALF) == []


async def test_a_list_of_schedules_tells_which_no_engine_has_begun() -> None:
    tables, clock = MemoryTables(), FakeClock()
    async with running(scheduled([], HOURLY), tables=tables, clock=clock) as app:
        await app.pass_time(HOUR)
        (now,) = looks(app, scheduled([], HOURLY), count=2)
        assert (now.next_ms, now.last_ms, now.notes) == (
            (START_MS + 2 * HOUR, START_MS + 3 * HOUR), START_MS + HOUR, ()
        )  # fmt: skip
        (edited,) = looks(app, scheduled([], HALF))
        assert edited.notes == ("it begins when an engine starts with it",)
        assert (edited.next_ms, edited.last_ms) == ((START_MS + 90 * MINUTE,), None)
    async with running(scheduled([], HALF), tables=tables, clock=clock) as app:
        await app.pass_time(HOUR)
        (back,) = looks(app, scheduled([], HOURLY))
        assert back.notes == ("it begins when an engine starts with it",)


def _marks(deployed: Deployed) -> list[str]:
    return [name for name, _ in deployed.tables.mark.scan()]


async def test_in_a_full_store_a_schedule_begins_when_there_is_room() -> None:
    work = scheduled([])
    store = RecordingStore(FakeClock())
    await store.open()
    timers = Timers(store.clock)
    source = CronSource(store, timers, [work])
    store.refuse = [StoreFull("no room"), StoreFull("still none")]
    await source.start()
    assert store.marks("cron") == {}
    await turns()
    store.clock.advance(AGAIN_MS)
    await turns()
    assert list(store.marks("cron/").values()) == [START_MS + AGAIN_MS]
    await source.stop()
    timers.close()
    await store.close()
