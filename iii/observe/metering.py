"""The engine's pulse: once a second it looks how late the loop is, and lets the other instances see its
figures.

    Metering.total()      figures of all instances, added up
    Metering.render()     the same for Prometheus, /metrics
    Metering.overview()   what is wrong now
    Metering.hour         the last hour (hour.py): a Point every POINT_S

Owns the timer. A Point holds what all instances did between two looks, from the store's exact counts and the
sum of the snapshots.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct

from iii.errors import IIIError
from iii.model import ARCHIVE, LaneStats
from iii.observe.exposition import render
from iii.observe.hour import POINT_S, Hour, Point
from iii.observe.meters import Figures, LaneKey
from iii.observe.snapshots import Share, Snapshot, Times, snapshot
from iii.store import kept
from iii.store.contract import Store
from iii.threads import in_thread

__all__ = ["LaneTrouble", "Metering", "Overview"]

TICK_S = 1.0
OLD_S = 60

log = logging.getLogger("iii.metering")


class LaneTrouble(Struct, frozen=True):
    """A queue where something is wrong, the worst first. reasons: of "dead", "paused", "no step", "old",
    "chain"; generation: how far that is."""

    topic: str
    step: str
    reasons: tuple[str, ...]
    ready: int
    dead: int
    oldest_age_ms: int
    generation: int = 0


class Overview(Struct, frozen=True):
    """`totals`: done and failed since the store was made, waiting, running, dead now."""

    instances: int
    done: int
    failed: int
    waiting: int
    running: int
    dead: int
    troubles: tuple[LaneTrouble, ...]


class _Seen(Struct):
    """The counts at the last point."""

    done: int
    failed: int
    requests: int
    server_errors: int
    run: Times
    enqueued: int


class Metering:
    """data: the data folder; None: the store has none, and no other instance."""

    def __init__(self, store: Store, figures: Figures, data: Path | None) -> None:
        self._store, self._figures = store, figures
        self._share = Share(data)
        self._hour = Hour(data)
        self._ticks = 0
        self._seen: _Seen | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._job: asyncio.Future[Snapshot | None] | None = None
        self._due_s = 0.0

    def start(self) -> None:
        self._quietly(self._share.open)
        self._quietly(lambda: self._hour.open(self._store.clock.wall_ms()))
        self._quietly(self.look)
        self._loop = asyncio.get_running_loop()
        self._arm()

    async def stop(self) -> None:
        """Before the store closes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._job is not None:
            await asyncio.wait((self._job,))
        self._quietly(lambda: self._share.close(self._own()))
        self._quietly(self._hour.close)

    # -------------------------------------------------------------------------------------- asking

    def total(self) -> Snapshot:
        """Of all instances, and of those that are gone."""
        return self._share.total(self._own())

    def render(self) -> bytes:
        """For Prometheus; exposition.CONTENT_TYPE."""
        return self.rendering()()

    def rendering(self) -> Callable[[], bytes]:
        """As `render`: figures of now, and their text when this is called, in any thread."""
        store = self._store
        return partial(render, self.total(), store.stats(), store.figures(), store.clock.wall_ms())

    @property
    def hour(self) -> tuple[Point, ...]:
        return self._hour.points

    def overview(self) -> Overview:
        lanes, wall_ms = _queues(self._store.stats()), self._store.clock.wall_ms()
        total = self.total()
        return Overview(
            instances=total.instances,
            done=sum(lane.done for lane in lanes),
            failed=sum(lane.failed for lane in lanes),
            waiting=_depth(lanes),
            running=sum(lane.leased for lane in lanes),
            dead=sum(lane.dead for lane in lanes),
            troubles=_troubles(lanes, wall_ms, total.descending(wall_ms)),
        )

    # -------------------------------------------------------------------------------------- the tick

    def tick(self, late_s: float = 0.0) -> None:
        """A second has passed, and the loop came `late_s` later to it."""
        self._figures.lag.add(late_s)
        self._ticks += 1
        is_point = self._ticks % POINT_S == 0
        if not self._share.has_files:
            if is_point:
                self._quietly(self.look)
            return
        if self._job is None or self._job.done():  # a disk may be slow: not on the loop
            points = self._hour.take()
            self._job = in_thread(partial(self._share_out, self._own(), is_point, points))
            self._job.add_done_callback(self._shared)

    def look(self) -> None:
        """Add a point to the hour."""
        self._add_point(self.total())

    def _share_out(self, own: Snapshot, is_point: bool, points: list[Point]) -> Snapshot | None:
        """In a thread."""
        self._share.publish(own)
        with suppress(OSError):
            self._hour.keep(points)
        if not is_point:
            return None
        self._share.fold()
        return self._share.total(own)

    def _shared(self, job: asyncio.Future[Snapshot | None]) -> None:
        if job.cancelled() or self._timer is None:
            return
        if (error := job.exception()) is not None:
            log.debug("figures not shared: %s", error)
        elif (total := job.result()) is not None:
            self._quietly(lambda: self._add_point(total))

    def _add_point(self, total: Snapshot) -> None:
        lanes = _queues(self._store.stats())
        now, seen = _seen(lanes, total), self._seen
        self._seen = now
        if seen is None:
            return
        run = Times([a - b for a, b in zip(now.run.counts, seen.run.counts, strict=True)])
        self._hour.add(
            Point(
                at_ms=self._store.clock.wall_ms(),
                done=now.done - seen.done,
                failed=now.failed - seen.failed,
                requests=now.requests - seen.requests,
                server_errors=now.server_errors - seen.server_errors,
                depth=_depth(lanes),
                running=sum(lane.leased for lane in lanes),
                run_p50_s=run.quantile(0.5),
                run_p95_s=run.quantile(0.95),
                run_p99_s=run.quantile(0.99),
                enqueued=now.enqueued - seen.enqueued,
            )
        )

    def _own(self) -> Snapshot:
        return snapshot(self._figures, self._store.figures())

    def _arm(self) -> None:
        self._due_s = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._due_s, self._fired)

    def _fired(self) -> None:
        late_s = max(0.0, self._loop.time() - self._due_s)
        self._arm()
        self._quietly(partial(self.tick, late_s))

    def _quietly(self, call: Callable[[], object]) -> None:
        """Whatever a disk or a store has against it: figures are not worth a failure."""
        try:
            call()
        except (OSError, IIIError) as error:
            log.debug("figures not shared: %s", error)


def _queues(stats: Sequence[LaneStats]) -> list[LaneStats]:
    """Lanes of messages that run: no archives, no kept answers."""
    return [lane for lane in stats if lane.step != ARCHIVE and not lane.topic.startswith(kept.TOPICS)]


def _depth(lanes: Sequence[LaneStats]) -> int:
    return sum(lane.ready + lane.later + lane.behind for lane in lanes)


def _seen(lanes: Sequence[LaneStats], total: Snapshot) -> _Seen:
    run = Times()
    for each in total.steps:
        run.add(each.run)
    statuses = [item for route in total.routes for item in route.statuses.items()]
    return _Seen(
        done=sum(lane.done for lane in lanes),
        failed=sum(lane.failed for lane in lanes),
        requests=sum(count for _, count in statuses),
        server_errors=sum(count for status, count in statuses if status >= "500"),
        run=run,
        enqueued=sum(total.enqueued.values()),
    )


def _troubles(
    lanes: Sequence[LaneStats], wall_ms: int, descending: Mapping[LaneKey, int]
) -> tuple[LaneTrouble, ...]:
    found = []
    for lane in lanes:
        generation = descending.get((lane.topic, lane.step), 0)
        age_ms = 0 if lane.oldest_ms is None else max(0, wall_ms - lane.oldest_ms)
        wrong = {
            "dead": lane.dead > 0,
            "no step": bool(lane.step) and not lane.served and lane.ready + lane.later + lane.behind > 0,
            "paused": lane.paused,
            "old": lane.ready > 0 and bool(lane.step) and age_ms > OLD_S * 1000,
            "chain": generation > 0,
        }
        if reasons := tuple(name for name, is_so in wrong.items() if is_so):
            found.append(
                LaneTrouble(lane.topic, lane.step, reasons, lane.ready, lane.dead, age_ms, generation)
            )
    return tuple(sorted(found, key=lambda each: (-each.dead, -each.oldest_age_ms)))
