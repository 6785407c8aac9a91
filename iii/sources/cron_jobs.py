"""The cron triggers of steps: their schedules, the names of their marks, their messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from msgspec import Struct

from iii import trace
from iii.formats.cron_expression import Schedule, parse
from iii.handling.inputs import encode_tick
from iii.model import Enqueue, Lane
from iii.running.bindings import TRIGGER_HEADER
from iii.step import CronTrigger, Step

__all__ = ["CronJob", "jobs", "manual_tick"]


class CronJob(Struct, frozen=True):
    """A cron trigger with its schedule and the name of its mark."""

    step: str
    index: int
    trigger: CronTrigger
    schedule: Schedule
    mark: str

    def __str__(self) -> str:
        return f"{self.step}: the schedule {self.schedule}"

    @property
    def lane(self) -> Lane:
        return Lane(f"$cron/{self.step}", self.step)

    @property
    def group(self) -> str:
        """Ticks of a trigger are a group: they run one at a time, in order."""
        return str(self.index)

    def message(self, scheduled_ms: int, *, manual: bool = False, sampled: bool = True) -> Enqueue:
        """One tick."""
        return Enqueue(
            self.lane.topic,
            encode_tick(scheduled_ms, self.trigger.expression, manual=manual),
            group=self.group,
            headers={**trace.new_headers(sampled=sampled), TRIGGER_HEADER: str(self.index)},
            step=self.step,
        )


def jobs(steps: Iterable[Step]) -> list[CronJob]:
    """Every cron trigger of the steps."""
    return [
        CronJob(step.name, index, trigger, parse(trigger.expression, trigger.timezone), _mark(step, index))
        for step in steps
        for index, trigger in enumerate(step.triggers)
        if isinstance(trigger, CronTrigger)
    ]


def manual_tick(steps: Iterable[Step], step: str, wall_ms: int) -> Enqueue | None:
    """The message that runs a step's first cron trigger now; None where the step has none."""
    job = next((job for job in jobs(steps) if job.step == step), None)
    return None if job is None else job.message(wall_ms, manual=True)


def _mark(step: Step, index: int) -> str:
    """Another expression or zone is another schedule."""
    trigger = step.triggers[index]
    assert isinstance(trigger, CronTrigger)
    meaning = f"{trigger.expression}\n{trigger.timezone}".encode()
    return f"cron/{step.name}/{index}/{blake2b(meaning, digest_size=8).hexdigest()}"
