"""/api/cron: the schedules in words and times, their last runs; run one now, pause, resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from iii.console.asks import Ask, Missing
from iii.console.means import Means
from iii.console.runs import RunView, find_runs, run_view
from iii.model import Lane, LaneStats, Txn
from iii.sources.cron_jobs import CronJob, manual_tick
from iii.sources.cron_outlook import outlook
from iii.store import bulk

__all__ = ["ROUTES"]

NEXT = LAST = 5


class CronView(Struct, frozen=True):
    """next_ms: the next ticks, wall clock; last_ms: the last one. notes: what else will happen, or keeps one
    from happening. last_runs: the newest first, as far as kept."""

    step: str
    expression: str
    words: str
    timezone: str
    next_ms: tuple[int, ...]
    last_ms: int | None
    notes: tuple[str, ...]
    last_runs: list[RunView]
    paused: bool


async def crons(ask: Ask) -> dict[str, Any]:
    means = ask.means
    last: dict[tuple[str, str], list[RunView]] = {}
    found, _ = await find_runs(
        means.store, ('"trigger":"cron"',), lambda run: run.trigger == "cron", limit=200
    )
    for row in found:
        shown = last.setdefault((row.run.step, row.run.source), [])
        if len(shown) < LAST:
            shown.append(run_view(row))
    lanes = means.pulse.look().lanes
    return {"crons": [_view(means, job, last, lanes) for job in means.crons]}


def _view(
    means: Means, job: CronJob, last: Mapping[tuple[str, str], list[RunView]], lanes: Mapping[Lane, LaneStats]
) -> CronView:
    look = outlook(means.store, job, means.crons, NEXT)
    return CronView(
        step=job.step,
        expression=job.trigger.expression,
        words=job.schedule.words,
        timezone=job.trigger.timezone,
        next_ms=look.next_ms,
        last_ms=look.last_ms,
        notes=look.notes,
        last_runs=last.get((job.step, job.trigger.expression), []),
        paused=(lane := lanes.get(job.lane)) is not None and lane.paused,
    )


async def run(ask: Ask) -> dict[str, list[str]]:
    means, step = ask.means, _known(ask)
    tick = manual_tick(means.steps, step, means.store.clock.wall_ms())
    assert tick is not None, "it has a cron trigger"
    committed = await means.store.commit(Txn((tick, ask.by.did(means.store, "cron run", step=step))))
    return {"ids": [means.store.message_id(number) for number in committed.ids[0]]}


async def pause(ask: Ask) -> dict[str, int]:
    return await _set(ask, True)


async def resume(ask: Ask) -> dict[str, int]:
    return await _set(ask, False)


async def _set(ask: Ask, paused: bool) -> dict[str, int]:
    step = _known(ask)
    lane = next(job.lane for job in ask.means.crons if job.step == step)
    return {
        "changed": len(await bulk.set_paused(ask.means.store, lane.topic, paused, ask.by, step=lane.step))
    }


def _known(ask: Ask) -> str:
    step = ask.path["step"]
    known = sorted({job.step for job in ask.means.crons})
    if step not in known:
        told = ", ".join(known) or "none"
        raise Missing(f'no step "{step}" with a cron trigger; those with one: {told}')
    return step


ROUTES = (
    ("GET", "/api/cron", crons),
    ("POST", "/api/cron/{step}/run", run),
    ("POST", "/api/cron/{step}/pause", pause),
    ("POST", "/api/cron/{step}/resume", resume),
)
