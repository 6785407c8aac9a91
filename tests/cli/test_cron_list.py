"""`iii cron list`: what will happen next, each time with its zone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from iii_project import Project

from iii.definitions.loader import load_steps
from iii.model import Mark, Txn
from iii.sources.cron_jobs import jobs
from iii.store.lmdb import LmdbStore

HOUR_MS = 3_600_000

STEP = """
from iii import cron

config = {{
    "name": "Clean",
    "triggers": [cron("0 0 2 * * *", timezone="{zone}"), cron("0 0 1 1 *", timezone="{zone}")],
}}


async def handler(tick):
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write_step(STEP.format(zone="Europe/Berlin"))
    return project


def set_marks(project: Project, by_ms: int) -> None:
    """As if the last tick of each schedule had been `by_ms` ahead of the clock."""

    async def write() -> None:
        store = LmdbStore(project.folder / "data")
        await store.open()
        now_ms = store.clock.wall_ms()
        found = jobs(load_steps(project.folder / "steps"))
        await store.commit(Txn([Mark(job.mark, now_ms + by_ms, store.mark(job.mark)) for job in found]))
        await store.close()

    asyncio.run(write())


def test_of_schedules_that_no_engine_began_it_says_so(project: Project) -> None:
    daily, annual = project.json("cron", "list")
    assert daily["notes"] == annual["notes"] == ["it begins when an engine starts with it"]
    text = project.ok("cron", "list")
    assert 'Clean "0 0 2 * * *": it begins when an engine starts with it' in text
    assert "no engine runs on this store: nothing happens until one starts" in text


def test_times_are_on_the_wall_of_the_schedules_zone_and_name_it(project: Project) -> None:
    text = project.ok("cron", "list")
    assert "every day at 02:00 Europe/Berlin" in text
    assert "T02:00:00+01:00 Europe/Berlin" in text or "T02:00:00+02:00 Europe/Berlin" in text
    assert "-01-01T00:00:00+01:00 Europe/Berlin" in text
    assert "cron 0 0 2 * * * Europe/Berlin" in project.ok("steps")
    project.write_step(STEP.format(zone="UTC"))
    assert "T02:00:00Z" in project.ok("cron", "list")
    assert "cron 0 0 2 * * * UTC" in project.ok("steps")


def test_a_clock_error_is_shown_before_an_engine_mends_it(project: Project) -> None:
    set_marks(project, 5 * HOUR_MS)
    for row in project.json("cron", "list"):
        (note,) = row["notes"]
        assert "ahead of the clock: a clock error, it goes on from now" in note
    (daily, _) = before = project.json("cron", "list")
    assert daily["last"] is None and before == project.json("cron", "list"), "it only reads"


def test_within_three_hours_nothing_is_announced_before_the_last_tick(project: Project) -> None:
    set_marks(project, 2 * HOUR_MS)
    for row in project.json("cron", "list"):
        (note,) = row["notes"]
        assert "ahead of the clock: nothing before that" in note
