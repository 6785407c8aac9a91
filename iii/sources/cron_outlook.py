"""What will happen next with a schedule, as the store has it: what every list of schedules shows.

Not what the expression alone says: a clock that was set back, ticks that were missed, a queue that is paused
or behind, a schedule that no engine has begun.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from iii.formats.units import rough_text
from iii.sources.cron_backlog import BACKLOG_MAX, BEHIND_MIN, paused, unsettled
from iii.sources.cron_jobs import CronJob
from iii.sources.cron_marks import Seen, look
from iii.sources.cron_ticks import MISSED_MAX, ON_TIME_MS
from iii.store.contract import Store

__all__ = ["Outlook", "outlook"]


class Outlook(Struct, frozen=True):
    """next_ms: the next ticks, wall clock. last_ms: the newest that became a message, by whatever instance;
    None where there was none yet. notes: what else there is to know, as sentences without a full stop."""

    next_ms: tuple[int, ...]
    last_ms: int | None
    notes: tuple[str, ...]


def outlook(store: Store, job: CronJob, jobs: Sequence[CronJob], count: int = 1) -> Outlook:
    """`jobs`: all, for a step may have several. `count`: how many ticks ahead are told."""
    seen = look(store, job, store.clock.wall_ms())
    ahead = _next(job, seen.next_after_ms, count)
    notes = [*_clock_notes(job, seen), *_queue_notes(store, job, jobs)]
    if not ahead:
        notes.append("it never fires again")
    return Outlook(tuple(ahead), _last_ms(job, seen), tuple(notes))


def _next(job: CronJob, after_ms: int, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count and (fire := job.schedule.next_ms(found[-1] if found else after_ms)) is not None:
        found.append(fire)
    return found


def _last_ms(job: CronJob, seen: Seen) -> int | None:
    """A mark that is no tick says when the schedule was first seen."""
    last_ms = seen.last_ms
    return last_ms if seen.in_force and job.schedule.next_ms(last_ms - 1) == last_ms else None


def _clock_notes(job: CronJob, seen: Seen) -> list[str]:
    if not seen.in_force:
        return ["it begins when an engine starts with it"]
    if seen.ahead_ms:
        upto, by = job.schedule.local(seen.last_ms), rough_text(seen.ahead_ms)
        meant = "a clock error, it goes on from now" if seen.astray else "nothing before that"
        return [f"it is dealt with up to {upto}, which lies {by} ahead of the clock: {meant}"]
    return _missed_notes(job, seen)


def _missed_notes(job: CronJob, seen: Seen) -> list[str]:
    """What an engine that ran would have dealt with."""
    missed = job.schedule.count(seen.last_ms, seen.now_ms - ON_TIME_MS)
    if not missed:
        return []
    many = "1 tick was missed" if missed == 1 else f"{missed:,} ticks were missed"
    newest_ms = job.schedule.previous_ms(seen.now_ms - ON_TIME_MS)
    assert newest_ms is not None, "there is one"
    newest = job.schedule.local(newest_ms)
    match job.trigger.missed:
        case "skip":
            return [f'{many}: none is made up for (missed="skip")']
        case "all" if job.trigger.overlap == "queue" and missed > 1:
            some = f", the newest {MISSED_MAX:,} of them," if missed > MISSED_MAX else ""
            return [f'{many}: when an engine starts they run{some} (missed="all")']
    return [f"{many}: {'it' if missed == 1 else 'the newest'}, {newest}, runs when an engine starts"]


def _queue_notes(store: Store, job: CronJob, jobs: Sequence[CronJob]) -> list[str]:
    behind, queues = unsettled(store, job, jobs), job.trigger.overlap == "queue"
    if paused(store, job):
        waits = f"ticks wait, at most {BACKLOG_MAX:,}" if queues else "one tick waits, others are skipped"
        return [f"paused: {waits}, until it is resumed ({behind:,} wait or run)"]
    if behind and not queues:
        return ['the previous run is not done: ticks are skipped until it is (overlap="skip")']
    if behind >= BEHIND_MIN:
        return [f"behind: {behind:,} earlier ticks wait or run before the next one"]
    return []
