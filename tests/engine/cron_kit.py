"""Steps with schedules for tests, and their ticks as minutes since the start of 2026."""

from __future__ import annotations

from typing import Any

from engine_kit import Running, step

from iii import CronTick, cron
from iii.sources.cron_jobs import jobs
from iii.sources.cron_outlook import Outlook, outlook
from iii.step import Step

START_MS = 1_767_225_600_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
HOURLY = "0 * * * *"


def at(seen: list[Any]) -> list[int]:
    """The ticks as minutes since the start."""
    return [round(tick.scheduled_at.timestamp() * 1000 - START_MS) // MINUTE for tick in seen]


def scheduled(seen: list[Any], expression: str = HOURLY, *more: str, **options: Any) -> Step:
    """A step that notes its ticks."""

    async def handler(tick: CronTick) -> None:
        seen.append(tick)

    return step(handler, *(cron(each, **options) for each in (expression, *more)))


def looks(app: Running, work: Step, count: int = 1) -> list[Outlook]:
    """What a list of schedules shows of the step."""
    found = jobs([work])
    return [outlook(app.store, job, found, count) for job in found]
