"""Cron triggers: turns the ticks of each schedule into messages. Owns one mark a trigger: its last tick.

    wall clock -> ticks after the mark -> one Txn [Mark, Enqueue($cron/<step>)]

The compare-and-set of the mark makes a tick one message over all instances, and keeps a clock that was set
back from repeating any. The wall clock is read again at least every minute, whatever the timers say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from msgspec import Struct

from iii import trace
from iii.errors import Conflict, StoreClosed, StoreDamaged, StoreError
from iii.formats.cron_expression import Schedule, parse
from iii.handling.inputs import encode_tick
from iii.model import Enqueue, Mark, Op, Txn
from iii.running.bindings import TRIGGER_HEADER
from iii.running.duty import Duty, Failed, ignored
from iii.running.timers import Timers
from iii.step import CronTrigger, Missed, Step
from iii.store.contract import Store
from iii.trace import Sampler

__all__ = ["CronJob", "CronSource", "jobs", "manual_tick", "ticks"]

LOOK_AGAIN_MS = 60_000
ON_TIME_MS = 5_000  # a tick this late, of a source that was there, was not missed
MISSED_MAX = 1_000
AGAIN_MS = 200

log = logging.getLogger("iii.cron")


class CronJob(Struct, frozen=True):
    """A cron trigger with its schedule and the name of its mark."""

    step: str
    index: int
    trigger: CronTrigger
    schedule: Schedule
    mark: str

    def message(self, scheduled_ms: int, *, manual: bool = False, sampled: bool = True) -> Enqueue:
        """One tick. Ticks of a trigger are a group: they run one at a time, in order."""
        return Enqueue(
            f"$cron/{self.step}",
            encode_tick(scheduled_ms, self.trigger.expression, manual=manual),
            group=str(self.index),
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


def ticks(schedule: Schedule, missed: Missed, mark_ms: int, now_ms: int, since_ms: int) -> list[int]:
    """The ticks in (mark, now] that are due messages. Pure.

    On time are those after `since_ms`, from when on somebody was there, and at most ON_TIME_MS late. The
    others were missed: "last" keeps the newest of them unless one is on time, "skip" none, "all" at most
    the newest MISSED_MAX.
    """
    edge_ms = max(mark_ms, min(since_ms, now_ms), now_ms - ON_TIME_MS)
    on_time = schedule.between(edge_ms, now_ms, MISSED_MAX)
    if missed == "skip" or edge_ms <= mark_ms or (missed == "last" and on_time):
        return on_time
    return _newest(schedule, mark_ms, edge_ms, 1 if missed == "last" else MISSED_MAX) + on_time


class CronSource:
    """`on_failure` is called when it died of an unexpected error."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        steps: Sequence[Step],
        *,
        on_failure: Failed = ignored,
        sampler: Sampler | None = None,
    ) -> None:
        self._store, self._timers, self._clock = store, timers, store.clock
        self._sampler = sampler or Sampler()
        self._on_failure = on_failure
        self.jobs = jobs(steps)
        self._since_ms = self._clock.wall_ms()
        self._wake = asyncio.Event()
        self._undo_jump = self._clock.on_jump(self._wake.set)
        self._duty: Duty | None = None
        self._looking = True

    async def start(self) -> None:
        """A schedule that was never seen begins now."""
        self._since_ms = self._clock.wall_ms()
        for job in self.jobs:
            if self._store.mark(job.mark) is None:
                try:
                    await self._store.commit(Txn((Mark(job.mark, self._since_ms, None),)))
                except Conflict:  # another instance starts too
                    log.debug("the mark of %s is set already", job.step)
        self._duty = Duty(
            "cron", self._run, lost="no schedule starts a step any more", failed=self._on_failure
        )

    async def stop(self) -> None:
        self._undo_jump()
        if self._duty is not None:
            await self._duty.cancel()

    @property
    def waits(self) -> bool:
        """Whether every tick that is due by now has been dealt with."""
        return not self.jobs or not (self._looking or self._wake.is_set())

    def next_ms(self) -> int | None:
        """Wall clock of the next tick of all."""
        after = self._clock.wall_ms()
        fires = (job.schedule.next_ms(max(after, self._store.mark(job.mark) or 0)) for job in self.jobs)
        return min((fire for fire in fires if fire is not None), default=None)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._looking = True
            now_ms = self._clock.wall_ms()
            try:
                for job in self.jobs:
                    await self._fire(job, now_ms)
            except (StoreClosed, StoreDamaged):
                raise
            except StoreError as error:
                log.warning("cron waits for the store: %s", error)
                await self._timers.sleep(AGAIN_MS)
                continue
            self._looking = False
            await self._until_next()

    async def _until_next(self) -> None:
        next_ms = self.next_ms()
        wait_ms = LOOK_AGAIN_MS if next_ms is None else min(next_ms - self._clock.wall_ms(), LOOK_AGAIN_MS)
        handle = self._timers.after(max(wait_ms, 1), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            self._timers.cancel(handle)

    async def _fire(self, job: CronJob, now_ms: int) -> None:
        mark_ms = self._store.mark(job.mark)
        if mark_ms is None:  # it was removed by hand: the schedule begins anew
            await self._commit(job, [Mark(job.mark, now_ms, None)])
            return
        due = ticks(job.schedule, job.trigger.missed, mark_ms, now_ms, self._since_ms)
        if not due:
            return
        ops: list[Op] = [Mark(job.mark, due[-1], mark_ms)]
        if job.trigger.overlap == "queue":
            ops += [job.message(tick, sampled=self._sampler.take()) for tick in due]
        elif not self._unsettled(job):
            ops.append(job.message(due[-1], sampled=self._sampler.take()))
        else:
            log.info("%s: the tick is skipped, the previous one still runs", job.step)
        await self._commit(job, ops)

    async def _commit(self, job: CronJob, ops: list[Op]) -> None:
        try:
            await self._store.commit(Txn(ops))
        except Conflict:
            log.debug("another instance moved the mark of %s", job.step)

    def _unsettled(self, job: CronJob) -> bool:
        """Whether a message of this very trigger waits or runs."""
        lane = self._store.waiting(f"$cron/{job.step}", step=job.step, limit=MISSED_MAX)
        return any(message.headers.get(TRIGGER_HEADER) == str(job.index) for message in lane)


def _newest(schedule: Schedule, after_ms: int, until_ms: int, count: int) -> list[int]:
    """The newest `count` fires in (after, until]: the last, and before it window by window.

    A window grows while it holds few fires and shrinks when it holds more than are looked at.
    """
    last_ms = schedule.previous_ms(until_ms)
    if last_ms is None or last_ms <= after_ms:
        return []
    fires, end_ms, window_ms = [last_ms], last_ms - 1_000, 1_000
    while len(fires) < count and end_ms > after_ms:
        start_ms = max(after_ms, end_ms - window_ms)
        found = schedule.between(start_ms, end_ms, MISSED_MAX)
        if len(found) == MISSED_MAX and end_ms - start_ms > MISSED_MAX * 1_000:
            window_ms = (end_ms - start_ms) // 4
            continue
        fires, end_ms = found + fires, start_ms
        if 4 * len(found) < MISSED_MAX:
            window_ms *= 4
    return fires[-count:]


def _mark(step: Step, index: int) -> str:
    """Another expression is another schedule, which begins anew."""
    trigger = step.triggers[index]
    assert isinstance(trigger, CronTrigger)
    meaning = f"{trigger.expression}\n{trigger.timezone}".encode()
    return f"cron/{step.name}/{index}/{blake2b(meaning, digest_size=8).hexdigest()}"
