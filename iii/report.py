"""What an engine is made of, for the start-up report and for whoever asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from iii.running.bindings import Binding
from iii.sources.cron_jobs import CronJob
from iii.sources.cron_outlook import outlook
from iii.step import HttpTrigger, Step
from iii.store.contract import Store

__all__ = ["CronLine", "Report", "TopicLine", "next_due_ms", "report"]


class TopicLine(Struct, frozen=True):
    topic: str
    step: str
    concurrency: int
    max_retries: int
    dead_letter_queue: str


class CronLine(Struct, frozen=True):
    """`next_ms`: wall clock of the next tick, `next`: in the schedule's zone; None = never again."""

    step: str
    expression: str
    words: str
    next_ms: int | None
    next: str | None


class Report(Struct, frozen=True):
    """`store` None = in memory; `address` None = HTTP is not served here; `console` likewise."""

    steps: tuple[str, ...]
    routes: tuple[tuple[str, str, str], ...]  # method, path, step
    topics: tuple[TopicLine, ...]
    crons: tuple[CronLine, ...]
    store: Path | None
    address: str | None
    console: str | None = None


def report(
    steps: Sequence[Step],
    bindings: Iterable[Binding],
    jobs: Sequence[CronJob],
    source: Store,
    store: Path | None,
    address: str | None,
    console: str | None = None,
) -> Report:
    routes = (
        (trigger.method, trigger.path, step.name)
        for step in steps
        for trigger in step.triggers
        if isinstance(trigger, HttpTrigger)
    )
    return Report(
        steps=tuple(step.name for step in steps),
        routes=tuple(routes),
        topics=tuple(_topic(binding) for binding in bindings if not binding.lane.topic.startswith("$")),
        crons=tuple(_cron(source, job, jobs) for job in jobs),
        store=store,
        address=address,
        console=console,
    )


def next_due_ms(store: Store) -> int | None:
    """Wall clock of when the first message becomes due that a step waits for."""
    later_ms = store.clock.wall_ms() - store.clock.delay_ms()
    lanes = [lane for lane in store.stats() if lane.later and lane.served]
    firsts = (store.waiting(lane.topic, step=lane.step, states=("later",), limit=1) for lane in lanes)
    return min((each.due_ms + later_ms for first in firsts for each in first if each.due_ms), default=None)


def _topic(binding: Binding) -> TopicLine:
    rules = binding.rules
    lane = binding.lane
    return TopicLine(lane.topic, lane.step, rules.concurrency, rules.max_retries, rules.dead_letter_queue)


def _cron(store: Store, job: CronJob, jobs: Sequence[CronJob]) -> CronLine:
    next_ms = next(iter(outlook(store, job, jobs).next_ms), None)
    local = None if next_ms is None else job.schedule.local(next_ms)
    return CronLine(job.step, job.trigger.expression, job.schedule.words, next_ms, local)
