"""What the store knows of each schedule: three marks a trigger.

    cron/<step>/<index>/<hash>          the last tick, or when it began; <hash>: of expression and zone
    cron-schedule/<step>/<index>        which is in force at this place, a number made of its hash; 0 = none
    cron-ahead/<step>/<index>/<hash>    a last tick that lay too far ahead of the clock and was given up

A schedule that comes into force begins then, whatever mark an earlier time of it left; one that only moved to
another place of its step takes its mark along. A mark that was given up holds again once the clock has passed
it: the clock was wrong when it seemed ahead, and what it stands for has run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from iii.model import Mark
from iii.sources.cron_jobs import CronJob
from iii.store.contract import Store

__all__ = ["AHEAD_MAX_MS", "Seen", "begin", "give_up", "look"]

AHEAD_MAX_MS = 3 * 3_600_000


class Seen(Struct, frozen=True):
    """The marks of a schedule at a time. `mark_ms` None: it was never in force, or its mark was removed."""

    now_ms: int
    mark_ms: int | None
    given_up_ms: int | None
    in_force: bool

    @property
    def last_ms(self) -> int:
        """The newest tick that was dealt with, or when the schedule began."""
        held = self.given_up_ms
        return max(self.mark_ms or 0, held if held is not None and held <= self.now_ms else 0)

    @property
    def ahead_ms(self) -> int:
        """By how much it lies ahead of the clock; 0 = not."""
        return max(self.last_ms - self.now_ms, 0)

    @property
    def astray(self) -> bool:
        """Whether that is a clock error."""
        return self.ahead_ms > AHEAD_MAX_MS

    @property
    def next_after_ms(self) -> int:
        """What the next tick lies behind."""
        return self.now_ms if self.astray or not self.in_force else max(self.now_ms, self.last_ms)


def look(store: Store, job: CronJob, now_ms: int) -> Seen:
    mark_ms = store.mark(job.mark)
    in_force = mark_ms is not None and _in_force(store, job, mark_ms, store.mark(_place(job.step, job.index)))
    return Seen(now_ms, mark_ms, store.mark(_ahead(job)), in_force)


def give_up(job: CronJob, seen: Seen) -> list[Mark]:
    """From now on, with the mark that lies ahead kept aside."""
    assert seen.mark_ms is not None
    return [Mark(job.mark, seen.now_ms, seen.mark_ms), Mark(_ahead(job), seen.mark_ms, seen.given_up_ms)]


def begin(store: Store, step: str, jobs: Iterable[CronJob], now_ms: int) -> list[Mark]:
    """What puts the schedules of a step, as it is here, in force; [] where they are."""
    own = {job.index: job for job in jobs}
    prefix = _place(step, "")
    before = {int(name.removeprefix(prefix)): number for name, number in store.marks(prefix).items()}
    gone = [index for index, number in before.items() if number and index not in own]
    ops = [Mark(_place(step, index), 0, before[index]) for index in gone]
    for index, job in own.items():
        mark_ms, place = store.mark(job.mark), before.get(index)
        if mark_ms is None or not _in_force(store, job, mark_ms, place):
            ops.append(Mark(job.mark, _moved_ms(store, job, own, before) or now_ms, mark_ms))
        if place != _number(job):
            ops.append(Mark(_place(step, index), _number(job), place))
    return ops


def _in_force(store: Store, job: CronJob, mark_ms: int, place: int | None) -> bool:
    """An earlier version says of no place which schedule is in force: it is the one with the newest mark."""
    if place is not None:
        return place == _number(job)
    return mark_ms == max(store.marks(job.mark.rpartition("/")[0] + "/").values())


def _moved_ms(
    store: Store, job: CronJob, own: Mapping[int, CronJob], before: Mapping[int, int]
) -> int | None:
    """The mark of the same schedule at a place of the step where it is no more."""
    for index, number in before.items():
        if number == _number(job) and (index not in own or _number(own[index]) != number):
            return store.mark(f"cron/{job.step}/{index}/{_hash(job)}")
    return None


def _place(step: str, index: int | str) -> str:
    return f"cron-schedule/{step}/{index}"


def _ahead(job: CronJob) -> str:
    return f"cron-ahead/{job.mark.removeprefix('cron/')}"


def _hash(job: CronJob) -> str:
    return job.mark.rpartition("/")[2]


def _number(job: CronJob) -> int:
    return int(_hash(job), 16) >> 1 or 1
