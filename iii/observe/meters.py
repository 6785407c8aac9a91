"""Counts and times of this process, as plain numbers: what is added to on every message costs next to
nothing.

Owns no exposition and no sum over instances (snapshots.py, exposition.py). One thread writes, any may read.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, TypeAlias

from msgspec import Struct

from iii.core import Histogram

__all__ = [
    "BOUNDS_S",
    "LATELY_MS",
    "OTHERS",
    "TOPICS_MAX",
    "Descent",
    "Figures",
    "LaneKey",
    "RouteKey",
    "RouteMeter",
    "StepMeter",
    "add_sent",
]

BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
)  # fmt: skip
"""Upper bounds of the buckets; one more holds what is beyond."""

LaneKey: TypeAlias = tuple[str, str]
"""(topic, step)"""
RouteKey: TypeAlias = tuple[str, str, str]
"""(method, path, step)"""


class StepMeter:
    """The runs of one lane. `run`: from the call of the handler to its end; `wait`: from when a message could
    have started until it did."""

    __slots__ = ("cancelled", "dead", "done", "failed", "retried", "run", "snoozed", "started", "wait")

    def __init__(self) -> None:
        self.started = self.done = self.failed = self.retried = self.dead = 0
        self.cancelled = self.snoozed = 0
        self.run, self.wait = Histogram(BOUNDS_S), Histogram(BOUNDS_S)


class RouteMeter:
    """The requests of one route, by status."""

    __slots__ = ("statuses", "time")

    def __init__(self) -> None:
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.time = Histogram(BOUNDS_S)

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.time.add(seconds)


TOPICS_MAX: Final = 2_000
OTHERS: Final = "$other"
"""No topic's name: those beyond TOPICS_MAX."""

LATELY_MS = 10 * 60_000
"""A chain of messages without delay is shown so long after its last one, and told of as seldom."""


class Descent(Struct):
    """A lane whose handler lately enqueued a message far down such a chain (trace.GENERATIONS_MANY)."""

    topic: str
    step: str
    generation: int
    at_ms: int  # wall clock


class Figures:
    """All of one engine. `enqueued`: messages sent by handlers, requests and the embedder, per topic; a
    message for two steps is one. `lag`: how late the event loop was, looked at once a second."""

    __slots__ = ("_told_ms", "descents", "enqueued", "lag", "routes", "steps")

    def __init__(self) -> None:
        self.enqueued: dict[str, int] = {}
        self.steps: dict[LaneKey, StepMeter] = {}
        self.routes: dict[RouteKey, RouteMeter] = {}
        self.lag = Histogram(BOUNDS_S)
        self.descents: dict[LaneKey, Descent] = {}
        self._told_ms: dict[LaneKey, int] = {}

    def descended(self, lane: LaneKey, generation: int, wall_ms: int) -> bool:
        """A handler of `lane` enqueued this far down a chain; whether that is to be told, now."""
        self.descents[lane] = Descent(*lane, generation, wall_ms)
        told_ms = self._told_ms.get(lane)
        if told_ms is not None and 0 <= wall_ms - told_ms < LATELY_MS:
            return False
        self._told_ms[lane] = wall_ms
        return True

    def sent(self, topic: str) -> None:
        if topic in self.enqueued:
            self.enqueued[topic] += 1
        else:
            add_sent(self.enqueued, topic, 1)


def add_sent(enqueued: dict[str, int], topic: str, count: int) -> None:
    """Strangers may name topics: beyond TOPICS_MAX what is sent to others is counted together."""
    if topic not in enqueued and len(enqueued) >= TOPICS_MAX:
        topic = OTHERS
    enqueued[topic] = enqueued.get(topic, 0) + count
