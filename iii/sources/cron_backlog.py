"""How far a schedule whose ticks queue is behind: at most BACKLOG_MAX of a trigger wait, and the log tells.

Owns what has been told of each schedule. Ticks beyond the bound are dropped: a schedule that never catches up
must not fill the store.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Struct

from iii.running.bindings import TRIGGER_HEADER
from iii.sources.cron_jobs import CronJob
from iii.store.contract import Store

__all__ = ["BACKLOG_MAX", "BEHIND_MIN", "Backlog", "paused", "unsettled"]

BACKLOG_MAX = 1_000
BEHIND_MIN = 3  # so many unsettled ticks are told, and each time there are ten times as many
AGAIN_MS = 60_000  # how often it is told that ticks are dropped

log = logging.getLogger("iii.cron")


class _Told(Struct):
    tell_at: int = BEHIND_MIN
    dropped: int = 0
    dropped_ms: int | None = None  # delay clock


class Backlog:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[str, _Told] = {}

    def note(self, job: CronJob, behind: int, made: int, dropped: int) -> None:
        """Ticks were made while `behind` earlier ones were not done; `dropped`: how many were not made."""
        told = self._told.setdefault(job.mark, _Told())
        told.dropped += dropped
        if behind >= told.tell_at:
            told.tell_at = 10 * behind
            self._tell_behind(job, behind)
        elif behind < BEHIND_MIN:
            told.tell_at = BEHIND_MIN
        if made >= BEHIND_MIN:  # made up for, they wait whatever the pace is
            told.tell_at = max(told.tell_at, 10 * (behind + made))
        self._tell_dropped(job, told, behind)

    def _tell_behind(self, job: CronJob, behind: int) -> None:
        if paused(self._store, job):
            why = f"its queue is paused; `iii queue resume '{job.lane.topic}'` goes on"
        else:
            why = 'if that goes on, let it fire less often, or give it overlap="skip"'
        log.warning("%s falls behind: %d earlier ticks wait or run (at most %d do): %s",
                    job, behind, BACKLOG_MAX, why)  # fmt: skip

    def _tell_dropped(self, job: CronJob, told: _Told, behind: int) -> None:
        now_ms = self._store.clock.delay_ms()
        recent = told.dropped_ms is not None and now_ms - told.dropped_ms < AGAIN_MS
        if not told.dropped or (recent and behind >= BEHIND_MIN):
            return
        log.warning("%s: its queue is full (%d ticks wait or run); ticks dropped: %d",
                    job, behind, told.dropped)  # fmt: skip
        told.dropped, told.dropped_ms = 0, now_ms


def unsettled(store: Store, job: CronJob, jobs: Sequence[CronJob]) -> int:
    """How many ticks of a trigger wait or run. `jobs`: all, for the step may have several."""
    if store.head(*job.lane, job.group) is None:
        return 0
    if sum(other.step == job.step for other in jobs) > 1:
        return 1 + _behind(store, job)
    row = next(row for row in store.stats() if (row.topic, row.step) == job.lane)
    return row.ready + row.later + row.behind + row.leased


def paused(store: Store, job: CronJob) -> bool:
    return any(row.paused for row in store.stats() if (row.topic, row.step) == job.lane)


def _behind(store: Store, job: CronJob) -> int:
    found, after, index = 0, b"", str(job.index)
    while True:
        page = store.browse(*job.lane, "behind", after=after)
        found += sum(message.headers.get(TRIGGER_HEADER) == index for _, message in page.messages)
        if page.next is None:
            return found
        after = page.next
