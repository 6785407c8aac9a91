"""Ticks that come quicker than they are done: told, bounded, and other schedules go on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from cron_kit import DAY, HOUR, HOURLY, MINUTE, SECOND, START_MS, at, looks, scheduled
from engine_kit import Running, running, step, turns

from iii import cron
from iii.clock import FakeClock
from iii.config import QueueConfig
from iii.model import Pause, Txn
from iii.sources.cron_backlog import BACKLOG_MAX, BEHIND_MIN
from iii.sources.cron_ticks import MISSED_MAX
from iii.store.memory import MemoryTables

EVERY_SECOND = "* * * * * *"
LANE = "$cron/Work"


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "iii.cron")


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "iii.cron" and r.levelno >= level]


async def tick(app: Running, count: int, ms: int = SECOND) -> None:
    """Ticks that are made, whatever becomes of them."""
    for _ in range(count):
        app.clock.advance(ms)
        await turns()


async def paused(app: Running) -> None:
    await app.store.commit(Txn((Pause(LANE, "Work", True),)))


def waiting(app: Running) -> int:
    return len(app.store.waiting(LANE, step="Work", limit=100_000))


async def test_a_schedule_that_falls_behind_is_told_and_told_again_at_ten_times_as_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release, seen = asyncio.Event(), list[Any]()

    async def handler(input: Any) -> None:
        seen.append(input)
        await release.wait()

    async with running(step(handler, cron(EVERY_SECOND))) as app:
        await tick(app, 3 + BEHIND_MIN)
        (first,) = told(caplog)
        for part in (
            'Work: the schedule "* * * * * *" (UTC) falls behind',
            "3 earlier ticks",
            "1000",
            "overlap",
        ):
            assert part in first
        await tick(app, 10 * BEHIND_MIN)
        assert len(told(caplog)) == 2
        (look,) = looks(app, step(handler, cron(EVERY_SECOND)))
        assert look.notes == ("behind: 36 earlier ticks wait or run before the next one",)
        release.set()
        await app.settle()
        assert len(seen) == 36
        await app.pass_time(SECOND)
        assert len(told(caplog)) == 2
        release.clear()
        await tick(app, 3 + BEHIND_MIN)
        assert len(told(caplog)) == 3, "it had caught up, so it is told anew"
        release.set()
        await app.settle()


async def test_of_a_paused_schedule_at_most_a_bound_of_ticks_waits(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    async with running(scheduled(seen, EVERY_SECOND)) as app:
        await paused(app)
        await tick(app, BACKLOG_MAX + 150)
        assert waiting(app) == BACKLOG_MAX
        assert any("is paused" in each for each in told(caplog))
        dropped = [each for each in told(caplog) if "dropped" in each]
        assert 2 <= len(dropped) <= 4, "once a minute"
        assert "its queue is full (1000 ticks wait or run); ticks dropped: 1" in dropped[0]
        (look,) = looks(app, scheduled([], EVERY_SECOND))
        assert look.notes == ("paused: ticks wait, at most 1,000, until it is resumed (1,000 wait or run)",)
        await app.store.commit(Txn((Pause(LANE, "Work", False),)))
        await app.settle()
        await app.pass_time(SECOND)
        assert len(seen) == BACKLOG_MAX + 1
        total = sum(int(each.rpartition(": ")[2]) for each in told(caplog) if "dropped" in each)
        assert total == 150, "each that was dropped is told"


async def test_what_is_made_up_for_at_once_is_no_sign_of_a_slow_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables, clock = MemoryTables(), FakeClock()
    work = scheduled([], EVERY_SECOND, missed="all")
    async with running(work, tables=tables, clock=clock) as app:
        await paused(app)
    clock.advance(HOUR // 10)
    async with running(work, tables=tables, clock=clock) as app:
        await turns()
        await tick(app, 20)
        assert waiting(app) == 380
    assert told(caplog) == []


async def test_a_schedule_that_is_behind_takes_no_room_of_another_of_its_step() -> None:
    async with running(scheduled([], EVERY_SECOND, "0 * * * * *")) as app:
        await paused(app)
        await tick(app, BACKLOG_MAX + 70)
        groups = [message.group for message in app.store.waiting(LANE, step="Work", limit=100_000)]
        assert (groups.count("0"), groups.count("1")) == (BACKLOG_MAX, (BACKLOG_MAX + 70) // 60)


@pytest.mark.parametrize("missed", ["last", "all"])
async def test_a_queue_with_a_depth_of_its_own_drops_ticks_and_holds_up_no_other_schedule(
    missed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, seen = scheduled([], EVERY_SECOND, missed=missed), list[Any]()

    async def other(tick: Any) -> None:
        seen.append(tick)

    beside = step(other, cron(EVERY_SECOND), name="Other")
    async with running(first, beside, queues={LANE: QueueConfig(max_depth=5)}) as app:
        await paused(app)
        await tick(app, 10)
        assert (waiting(app), len(seen)) == (5, 10)
    assert any("dropped" in each for each in told(caplog))


async def test_the_newest_of_missed_ticks_are_kept_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    work = scheduled(seen, EVERY_SECOND, missed="all")
    async with running(work, tables=tables, clock=clock):
        pass
    clock.advance(2 * DAY + 7 * SECOND)
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        assert len(seen) == MISSED_MAX
        assert round(seen[-1].scheduled_at.timestamp() * 1000) == START_MS + 2 * DAY + 7 * SECOND
    (warning,) = told(caplog)
    for part in ("172807 ticks were missed after 2026-01-01T00:00:00.000Z", "the newest 1000 run",
                 "the 171807 older ones are dropped"):  # fmt: skip
        assert part in warning


async def test_up_to_the_bound_none_is_dropped_and_nothing_told(caplog: pytest.LogCaptureFixture) -> None:
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    work = scheduled(seen, EVERY_SECOND, missed="all")
    async with running(work, tables=tables, clock=clock):
        pass
    clock.advance(MISSED_MAX * SECOND)
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        assert len(seen) == MISSED_MAX
    assert told(caplog) == []


async def test_missed_ticks_and_those_that_wait_are_bounded_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables, clock = MemoryTables(), FakeClock()
    work = scheduled([], EVERY_SECOND, missed="all")
    async with running(work, tables=tables, clock=clock) as app:
        await paused(app)
        await tick(app, 300)
    clock.advance(DAY)
    async with running(work, tables=tables, clock=clock) as app:
        await turns()
        assert waiting(app) == BACKLOG_MAX
        await tick(app, 1)
    (missed,) = [each for each in told(caplog) if "missed" in each]
    assert "86400 ticks were missed" in missed and "the newest 700 run, the 85700 older ones" in missed
    assert told(caplog)[-1].endswith("its queue is full (1000 ticks wait or run); ticks dropped: 1")


@pytest.mark.parametrize(
    ("missed", "overlap", "note"),
    [
        (
            "last",
            "queue",
            "3 ticks were missed: the newest, 2026-01-01T03:00:00Z, runs when an engine starts",
        ),
        ("skip", "queue", '3 ticks were missed: none is made up for (missed="skip")'),
        ("all", "queue", '3 ticks were missed: when an engine starts they run (missed="all")'),
        ("all", "skip", "3 ticks were missed: the newest, 2026-01-01T03:00:00Z, runs when an engine starts"),
    ],
)
async def test_a_list_of_schedules_tells_what_was_missed_and_what_will_run(
    missed: Any, overlap: Any, note: str
) -> None:
    tables, clock, seen = MemoryTables(), FakeClock(), list[Any]()
    work = scheduled(seen, HOURLY, missed=missed, overlap=overlap)
    async with running(work, tables=tables, clock=clock) as app:
        pass
    clock.advance(3 * HOUR + MINUTE)
    (look,) = looks(app, work)
    assert (look.notes, look.next_ms) == ((note,), (START_MS + 4 * HOUR,))
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        expected = [] if missed == "skip" else [180] if "newest" in note else [60, 120, 180]
        assert at(seen) == expected
        (look,) = looks(app, work)
        assert look.notes == ((note,) if missed == "skip" else ())


async def test_a_list_tells_of_a_tick_that_will_be_skipped_and_of_a_schedule_that_is_over() -> None:
    release = asyncio.Event()

    async def handler(input: Any) -> None:
        await release.wait()

    work = step(handler, cron(EVERY_SECOND, overlap="skip"), cron("0 0 0 1 1 * 2020"))
    async with running(work) as app:
        await tick(app, 1)
        skipping, over = looks(app, work)
        assert skipping.notes == (
            'the previous run is not done: ticks are skipped until it is (overlap="skip")',
        )
        assert (over.next_ms, over.notes) == ((), ("it never fires again",))
        release.set()
        await app.settle()
