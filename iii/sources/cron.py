"""Cron triggers: turns the ticks of each schedule into messages. Owns a mark a trigger: its last tick.

    wall clock -> ticks after the mark -> one Txn [Mark, Enqueue($cron/<step>)]

The compare-and-set of the mark makes a tick one message over all instances, and keeps a clock that was set
back from repeating any. A mark over 3 h ahead of the clock is a clock error: it is given up, with a warning,
and the schedule goes on from now. The wall clock is read again every minute at least, whatever timers say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from iii.errors import Conflict, QueueFull, StoreClosed, StoreDamaged, StoreError
from iii.formats.units import rough_text
from iii.model import Mark, Op, Txn
from iii.running.duty import Duty, Failed, ignored
from iii.running.timers import Timers
from iii.sources.cron_backlog import BACKLOG_MAX, Backlog, unsettled
from iii.sources.cron_jobs import CronJob, jobs
from iii.sources.cron_marks import Seen, begin, give_up, look
from iii.sources.cron_ticks import MISSED_MAX, left_out, ticks
from iii.step import Step
from iii.store.contract import Store
from iii.store.operations import iso
from iii.trace import Sampler

__all__ = ["CronSource"]

LOOK_AGAIN_MS = 60_000
AGAIN_MS = 200

log = logging.getLogger("iii.cron")


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
        self._unbegun = {step.name: [job for job in self.jobs if job.step == step.name] for step in steps}
        self._backlog = Backlog(store)
        self._since_ms = self._clock.wall_ms()
        self._wake = asyncio.Event()
        self._undo_jump = self._clock.on_jump(self._wake.set)
        self._duty: Duty | None = None
        self._looking = True

    async def start(self) -> None:
        """A schedule that was not in force begins now."""
        self._since_ms = self._clock.wall_ms()
        try:
            await self._begin(self._since_ms)
        except (StoreClosed, StoreDamaged):
            raise
        except StoreError as error:
            log.warning("schedules begin when the store takes their marks: %s", error)
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
        now_ms = self._clock.wall_ms()
        fires = (job.schedule.next_ms(self._after_ms(job, now_ms)) for job in self.jobs)
        return min((fire for fire in fires if fire is not None), default=None)

    def _after_ms(self, job: CronJob, now_ms: int) -> int:
        """Another version of the step may be in force by now: this one goes on until its instance ends."""
        seen = look(self._store, job, now_ms)
        return now_ms if seen.astray else max(now_ms, seen.last_ms)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._looking = True
            now_ms = self._clock.wall_ms()
            self._since_ms = min(self._since_ms, now_ms)
            try:
                await self._begin(now_ms)
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

    async def _begin(self, now_ms: int) -> None:
        """Put the schedules of each step in force, once."""
        for step, own in list(self._unbegun.items()):
            while ops := begin(self._store, step, own, now_ms):
                if await self._commit(step, ops):
                    break
            del self._unbegun[step]

    async def _fire(self, job: CronJob, now_ms: int) -> None:
        seen = look(self._store, job, now_ms)
        if seen.mark_ms is None:  # it was removed by hand: the schedule begins anew
            await self._commit(job, [Mark(job.mark, now_ms, None)])
        elif seen.astray:
            await self._go_on(job, seen)
        elif due := ticks(job.schedule, job.trigger.missed, seen.last_ms, now_ms, self._since_ms):
            await self._enqueue(job, seen, due)

    async def _go_on(self, job: CronJob, seen: Seen) -> None:
        if await self._commit(job, give_up(job, seen)):
            log.warning(
                "%s is dealt with up to %s, %s ahead of the clock, %s: the clock was wrong then or "
                "is now. It goes on from now; ticks up to that time may run twice",
                job, iso(seen.last_ms), rough_text(seen.ahead_ms), iso(seen.now_ms),
            )  # fmt: skip

    async def _enqueue(self, job: CronJob, seen: Seen, due: list[int]) -> None:
        behind = unsettled(self._store, job, self.jobs)
        if job.trigger.overlap == "queue":
            wanted = due[-(BACKLOG_MAX - behind) :] if behind < BACKLOG_MAX else []
        else:
            wanted = [] if behind else due[-1:]
        sent = await self._send(job, Mark(job.mark, due[-1], seen.mark_ms), wanted)
        if sent is None:
            return
        dropped = len(due) - sent
        if older := left_out(job.schedule, job.trigger.missed, seen.last_ms, due):
            log.warning(
                "%s: %d ticks were missed after %s; the newest %d run, the %d older ones are dropped "
                '(missed="all" makes up for %d)',
                job, older + len(due), iso(seen.last_ms), sent, older + dropped, MISSED_MAX,
            )  # fmt: skip
            dropped = 0
        if job.trigger.overlap == "queue":
            self._backlog.note(job, behind, sent, dropped)
        elif behind:
            log.info("%s: the tick is skipped, the previous one still runs", job)
        elif len(due) > sent:
            log.info('%s: of %d ticks that are due the newest runs (overlap="skip")', job, len(due))

    async def _send(self, job: CronJob, mark: Mark, wanted: list[int]) -> int | None:
        """How many of them, the newest, the queue took; None where another instance was first."""
        while True:
            ops: list[Op] = [mark, *(job.message(tick, sampled=self._sampler.take()) for tick in wanted)]
            try:
                return len(wanted) if await self._commit(job, ops) else None
            except QueueFull:  # its max_depth, which only the store counts
                wanted = wanted[(len(wanted) + 1) // 2 :]

    async def _commit(self, of: CronJob | str, ops: Sequence[Op]) -> bool:
        """Whether it landed: False where another instance moved a mark."""
        try:
            await self._store.commit(Txn(tuple(ops)))
        except Conflict:
            log.debug("another instance moved the mark of %s", of)
            return False
        return True
