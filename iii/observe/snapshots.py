"""The figures of all engines on a data folder, added up: each leaves its own in a file that the others read.

    <data>/metrics/<name>.json    an engine's Snapshot, replaced about once a second where something changed
    <data>/metrics/<name>.alive   locked (flock) as long as that engine lives
    <data>/metrics/gone.json      the sum of those that are not any more, so that no counter ever falls

Owns these files. Nothing is synced: after a power cut counters may begin again, as after any restart. What
the store counts itself (done and failed attempts, depths) is exact, and is not here.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from iii.core import Histogram
from iii.files import make_folder, open_file, write_file
from iii.observe.meters import BOUNDS_S, LATELY_MS, Descent, Figures, LaneKey, StepMeter, add_sent
from iii.store.contract import StoreFigures

__all__ = ["RouteCounts", "Share", "Snapshot", "StepCounts", "Times", "snapshot"]

T = TypeVar("T", "StepCounts", "RouteCounts")

GONE, LOCK = "gone.json", "lock"


class Times(Struct):
    """A histogram over meters.BOUNDS_S; `counts` not added up."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, other: Times) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """About the time that `share` of them took at most; None: there are none.

        As Prometheus' histogram_quantile has it: within a bucket they are taken to lie evenly, and what is
        beyond the last bound is told as that bound."""
        left, low = share * self.count, 0.0
        for high, count in zip((*BOUNDS_S, BOUNDS_S[-1]), self.counts, strict=True):
            if count and left <= count:
                return round(low + (high - low) * left / count, 6)
            left, low = left - count, high
        return None


class StepCounts(Struct):
    """Of one lane; as meters.StepMeter."""

    topic: str
    step: str
    started: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    snoozed: int = 0
    run: Times = msgspec.field(default_factory=Times)
    wait: Times = msgspec.field(default_factory=Times)

    def add(self, other: StepCounts) -> None:
        for name in ("started", "done", "failed", "retried", "dead", "cancelled", "snoozed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.run.add(other.run)
        self.wait.add(other.wait)


class RouteCounts(Struct):
    """Of one route; statuses as text, "200"."""

    method: str
    path: str
    step: str
    statuses: dict[str, int] = {}
    time: Times = msgspec.field(default_factory=Times)

    def add(self, other: RouteCounts) -> None:
        _add_counts(self.statuses, other.statuses)
        self.time.add(other.time)


class Snapshot(Struct):
    """The figures of one engine, or the sum of several. `instances`: how many live ones are in it."""

    instances: int = 0
    enqueued: dict[str, int] = {}
    steps: list[StepCounts] = []
    routes: list[RouteCounts] = []
    lag: Times = msgspec.field(default_factory=Times)
    commits: int = 0
    commit_items: int = 0
    commit_s: float = 0.0
    descents: list[Descent] = []

    def add(self, other: Snapshot) -> None:
        self.instances += other.instances
        for topic, count in other.enqueued.items():
            add_sent(self.enqueued, topic, count)
        _add_each(self.steps, other.steps, lambda each: (each.topic, each.step))
        _add_each(self.routes, other.routes, lambda each: (each.method, each.path, each.step))
        self.lag.add(other.lag)
        self.commits += other.commits
        self.commit_items += other.commit_items
        self.commit_s += other.commit_s
        self.descents += other.descents

    def descending(self, wall_ms: int) -> dict[LaneKey, int]:
        """The lanes whose handlers lately enqueued far down a chain without delays, and how far."""
        found: dict[LaneKey, int] = {}
        for each in self.descents:
            if wall_ms - each.at_ms < LATELY_MS:
                lane = each.topic, each.step
                found[lane] = max(found.get(lane, 0), each.generation)
        return found


def snapshot(figures: Figures, store: StoreFigures) -> Snapshot:
    """What an engine's figures are now."""
    return Snapshot(
        instances=1,
        enqueued=dict(figures.enqueued),
        steps=[_step(topic, step, meter) for (topic, step), meter in figures.steps.items()],
        routes=[
            RouteCounts(*key, {str(status): n for status, n in meter.statuses.items()}, _times(meter.time))
            for key, meter in figures.routes.items()
        ],
        lag=_times(figures.lag),
        commits=store.commits,
        commit_items=store.items,
        commit_s=store.commit_s,
        descents=list(figures.descents.values()),
    )


class Share:
    """An engine's place among the others. folder: the data folder; None: there are no others."""

    def __init__(self, data: Path | None) -> None:
        self._folder = data / "metrics" if data is not None else None
        self._name = uuid.uuid4().hex
        self._alive = -1
        self._last = b""

    @property
    def has_files(self) -> bool:
        return self._folder is not None

    def open(self) -> None:
        if self._folder is not None:
            make_folder(self._folder)
            with _guarded(self._folder, fcntl.LOCK_SH):
                self._alive = _lock(self._folder / f"{self._name}.alive")
            self.fold()

    def publish(self, own: Snapshot) -> bool:
        """Let the others see it; whether there was something new. An OSError is the caller's."""
        if self._folder is None:
            return False
        work = msgspec.json.encode(msgspec.structs.replace(own, lag=Times()))  # to be looked at is no news
        if work == self._last:
            return False
        _replace(self._folder / f"{self._name}.json", msgspec.json.encode(own))
        self._last = work
        return True

    def total(self, own: Snapshot) -> Snapshot:
        """`own`, the other engines', and those that are gone."""
        total = Snapshot()
        if self._folder is not None and self._folder.is_dir():
            with _guarded(self._folder, fcntl.LOCK_SH):
                for path in self._folder.glob("*.json"):
                    if path.stem != self._name and (read := _read(path)) is not None:
                        read.instances = int(path.name != GONE and _is_alive(path))
                        total.add(read)
        total.add(own)
        return total

    def fold(self) -> None:
        """What the dead left becomes part of GONE."""
        if self._folder is None:
            return
        dead = [path for path in self._folder.glob("*.alive") if _is_free(path)]
        if not dead:
            return
        with _guarded(self._folder, fcntl.LOCK_EX) as is_mine:
            if not is_mine:
                return
            folder = self._folder
            gone = _read(folder / GONE) or Snapshot()
            for path in dead:
                left = _read(path.with_suffix(".json"))
                if left is not None and path.exists():
                    gone.add(left)
            gone.instances, gone.descents = 0, []
            _replace(folder / GONE, msgspec.json.encode(gone))
            for path in dead:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def close(self, own: Snapshot) -> None:
        """Leave: what was counted stays in the sum."""
        if self._folder is None or self._alive < 0:
            return
        with suppress(OSError):
            self.publish(own)
        os.close(self._alive)
        self._alive = -1
        with suppress(OSError):
            self.fold()

    def kill(self) -> None:
        """End as a killed process does (tests): what was published stays."""
        os.close(self._alive)
        self._alive = -1


def _times(histogram: Histogram) -> Times:
    return Times(histogram.counts, histogram.sum)


def _step(topic: str, step: str, meter: StepMeter) -> StepCounts:
    return StepCounts(
        topic,
        step,
        meter.started,
        meter.done,
        meter.failed,
        meter.retried,
        meter.dead,
        meter.cancelled,
        meter.snoozed,
        _times(meter.run),
        _times(meter.wait),
    )


def _add_counts(to: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        to[name] = to.get(name, 0) + count


def _add_each(to: list[T], more: list[T], key: Callable[[T], tuple[str, ...]]) -> None:
    known = {key(each): each for each in to}
    for each in more:
        mine = known.get(key(each))
        if mine is None:
            to.append(msgspec.json.decode(msgspec.json.encode(each), type=type(each)))
        else:
            mine.add(each)


# ---------------------------------------------------------------------------------------------- files


def _read(path: Path) -> Snapshot | None:
    """None where there is none, or one of another version of iii."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    write_file(fresh, content)
    fresh.replace(path)


def _lock(path: Path) -> int:
    fd = open_file(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _is_free(path: Path) -> bool:
    """Whether nobody holds the lock of this file."""
    try:
        fd = open_file(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _is_alive(path: Path) -> bool:
    alive = path.with_suffix(".alive")
    return alive.exists() and not _is_free(alive)


@contextmanager
def _guarded(folder: Path, how: int) -> Iterator[bool]:
    """While snapshots are read (shared) or become part of GONE (alone): whether nobody is in the way. Nobody
    waits: a process that was stopped here must not stop the others."""
    fd = open_file(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
