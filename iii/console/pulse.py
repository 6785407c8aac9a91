"""How fast it goes: the engine's counts, looked at once a second while somebody watches, and what lies
between.

Owns the looks of the last minute. The counts themselves are the store's and the instances'
(observe/metering.py).
"""

from __future__ import annotations

import time
from collections import deque

from msgspec import Struct

from iii.model import ARCHIVE, Lane, LaneStats
from iii.observe.hour import POINT_S
from iii.observe.metering import Metering
from iii.observe.snapshots import Snapshot, Times
from iii.store import kept
from iii.store.contract import Store

__all__ = ["Latency", "Look", "Pulse", "Rates"]

LOOK_S = 1.0
KEPT = 60
RATE_S = 5.0
"""Rates are over about as long."""


class Look(Struct, frozen=True):
    """What there was to see at a moment. `waits`, `runs`: of all steps together."""

    at_s: float
    lanes: dict[Lane, LaneStats]
    total: Snapshot
    waits: Times
    runs: Times


class Rates(Struct, frozen=True):
    done_per_s: float = 0.0
    failed_per_s: float = 0.0
    enqueued_per_s: float = 0.0
    requests_per_s: float = 0.0


class Latency(Struct, frozen=True):
    """Over the last minute, about (Times.quantile); None: nothing ran. commit: the mean."""

    wait_p50_ms: float | None = None
    wait_p99_ms: float | None = None
    run_p50_ms: float | None = None
    run_p99_ms: float | None = None
    commit_p50_ms: float | None = None


class Pulse:
    def __init__(self, store: Store, metering: Metering) -> None:
        self._store, self._metering = store, metering
        self._looks: deque[Look] = deque(maxlen=KEPT)

    def look(self) -> Look:
        """As it is now; a look of less than a second ago serves again."""
        now_s = time.monotonic()
        if self._looks and now_s - self._looks[-1].at_s < LOOK_S * 0.9:
            return self._looks[-1]
        if self._looks and now_s - self._looks[-1].at_s > KEPT:
            self._looks.clear()
        lanes = {Lane(each.topic, each.step): each for each in self._store.stats()}
        total = self._metering.total()
        waits, runs = Times(), Times()
        for each in total.steps:
            waits.add(each.wait)
            runs.add(each.run)
        self._looks.append(Look(now_s, lanes, total, waits, runs))
        return self._looks[-1]

    def rates(self) -> Rates:
        now = self.look()
        before, seconds = self._before(RATE_S)
        if before is None:
            return self._last_point()
        return Rates(
            done_per_s=_per_s(_settled(now, "done") - _settled(before, "done"), seconds),
            failed_per_s=_per_s(_settled(now, "failed") - _settled(before, "failed"), seconds),
            enqueued_per_s=_per_s(_enqueued(now) - _enqueued(before), seconds),
            requests_per_s=_per_s(_requests(now) - _requests(before), seconds),
        )

    def latency(self) -> Latency:
        now = self.look()
        before, _ = self._before(float(KEPT))
        waits, runs, commits, commit_s = now.waits, now.runs, now.total.commits, now.total.commit_s
        if before is not None:
            waits, runs = _since(waits, before.waits), _since(runs, before.runs)
            commits, commit_s = commits - before.total.commits, commit_s - before.total.commit_s
        return Latency(
            wait_p50_ms=_ms(waits.quantile(0.5)),
            wait_p99_ms=_ms(waits.quantile(0.99)),
            run_p50_ms=_ms(runs.quantile(0.5)),
            run_p99_ms=_ms(runs.quantile(0.99)),
            commit_p50_ms=round(commit_s * 1000 / commits, 3) if commits > 0 else None,
        )

    def commits(self) -> tuple[float, float]:
        """(commits a second, Txns and credits in each)."""
        now = self.look()
        before, seconds = self._before(RATE_S)
        commits, items = now.total.commits, now.total.commit_items
        if before is not None:
            commits, items = commits - before.total.commits, items - before.total.commit_items
        return _per_s(commits, seconds) if before else 0.0, round(items / commits, 1) if commits > 0 else 0.0

    def of_lane(self, lane: Lane) -> tuple[float, float]:
        """(enqueued to its topic, done) a second."""
        now = self.look()
        before, seconds = self._before(RATE_S)
        if before is None:
            return 0.0, 0.0
        sent = now.total.enqueued.get(lane.topic, 0) - before.total.enqueued.get(lane.topic, 0)
        done = now.lanes[lane].done if lane in now.lanes else 0
        done -= before.lanes[lane].done if lane in before.lanes else 0
        return _per_s(sent, seconds), _per_s(done, seconds)

    def of_route(self, method: str, path: str, step: str) -> float:
        """Requests a second."""
        now = self.look()
        before, seconds = self._before(RATE_S)
        key = (method, path, step)
        return 0.0 if before is None else _per_s(_answered(now, key) - _answered(before, key), seconds)

    def _before(self, ago_s: float) -> tuple[Look | None, float]:
        """The look of about `ago_s` ago, or the oldest there is; how many seconds lie between."""
        newest = self._looks[-1].at_s
        older = [look for look in self._looks if look.at_s < newest]
        if not older:
            return None, 0.0
        within = [look for look in older if newest - look.at_s <= ago_s * 1.1]
        chosen = within[0] if within else older[-1]
        return chosen, newest - chosen.at_s

    def _last_point(self) -> Rates:
        """Nobody watched until now: what the last hour's newest point says."""
        hour = self._metering.hour
        if not hour or self._store.clock.wall_ms() - hour[-1].at_ms > 2000 * POINT_S:
            return Rates()
        newest = hour[-1]
        counts = newest.done, newest.failed, newest.enqueued, newest.requests
        return Rates(*(_per_s(count, POINT_S) for count in counts))


def _settled(look: Look, name: str) -> int:
    return sum(
        getattr(lane, name)
        for lane in look.lanes.values()
        if lane.step != ARCHIVE and not lane.topic.startswith(kept.TOPICS)
    )


def _enqueued(look: Look) -> int:
    return sum(look.total.enqueued.values())


def _requests(look: Look) -> int:
    return sum(count for route in look.total.routes for count in route.statuses.values())


def _answered(look: Look, key: tuple[str, str, str]) -> int:
    routes = (each for each in look.total.routes if (each.method, each.path, each.step) == key)
    return sum(count for route in routes for count in route.statuses.values())


def _since(now: Times, before: Times) -> Times:
    counts = [max(0, a - b) for a, b in zip(now.counts, before.counts, strict=True)]
    return Times(counts, now.sum_s - before.sum_s)


def _per_s(count: float, seconds: float) -> float:
    return round(max(0.0, count) / seconds, 1) if seconds > 0 else 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
