"""/api/queues: every lane with its counts, rates and rules; pause and resume."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, structs

from iii.console.asks import Ask
from iii.console.means import Means
from iii.model import ARCHIVE, Lane, LaneStats
from iii.store import bulk, kept

__all__ = ["ROUTES", "QueueView", "rows", "shown_lanes"]


class QueueView(Struct, frozen=True):
    """A lane. `ready` of a "dead" one counts its letters; `dead`: letters from this lane that lie somewhere.
    oldest_ms: when the oldest ready message was enqueued, wall clock. generation: how far down a chain
    without delays its handler lately enqueued, 0 = not far."""

    topic: str
    step: str
    kind: Literal["queue", "cron", "state", "dead"]
    ready: int
    later: int
    behind: int
    leased: int
    dead: int
    done: int
    failed: int
    paused: bool
    served: bool
    oldest_ms: int | None
    enqueued_per_s: float
    done_per_s: float
    rules: dict[str, Any]
    dead_topic: str | None
    generation: int


def rows(means: Means) -> list[QueueView]:
    descending = means.pulse.look().total.descending(means.store.clock.wall_ms())
    return [_view(means, lane, descending.get((lane.topic, lane.step), 0)) for lane in shown_lanes(means)]


def shown_lanes(means: Means) -> list[LaneStats]:
    """HTTP's own stay out; so does an empty lane without a step where the topic has one with a step."""
    lanes = [each for each in means.pulse.look().lanes.values() if not each.topic.startswith(kept.TOPICS)]
    with_step = {lane.topic for lane in lanes if lane.step and lane.step != ARCHIVE}
    return [lane for lane in lanes if _is_shown(lane, with_step)]


def _is_shown(lane: LaneStats, with_step: set[str]) -> bool:
    holds = lane.ready + lane.later + lane.behind + lane.leased + lane.done + lane.failed
    return bool(
        holds or (lane.step and lane.step != ARCHIVE) or (not lane.step and lane.topic not in with_step)
    )


def _view(means: Means, lane: LaneStats, generation: int) -> QueueView:
    is_archive = lane.step == ARCHIVE
    at = Lane(lane.topic, lane.step)
    enqueued_per_s, done_per_s = (0.0, 0.0) if is_archive else means.pulse.of_lane(at)
    binding = means.bindings.get(at)
    rules = structs.asdict(binding.rules) if binding is not None else {}
    return QueueView(
        topic=lane.topic,
        step="" if is_archive else lane.step,
        kind="dead" if is_archive else _kind(lane.topic),
        ready=lane.ready + lane.behind if is_archive else lane.ready,
        later=lane.later,
        behind=0 if is_archive else lane.behind,
        leased=lane.leased,
        dead=lane.dead,
        done=lane.done,
        failed=lane.failed,
        paused=lane.paused,
        served=lane.served,
        oldest_ms=lane.oldest_ms,
        enqueued_per_s=enqueued_per_s,
        done_per_s=done_per_s,
        rules=rules,
        dead_topic=rules.get("dead_letter_queue"),
        generation=generation,
    )


def _kind(topic: str) -> Literal["queue", "cron", "state"]:
    return "cron" if topic.startswith("$cron/") else "state" if topic.startswith("$state/") else "queue"


class _Which(Struct, frozen=True):
    topic: str
    step: str | None = None


async def pause(ask: Ask) -> dict[str, int]:
    return await _set(ask, True)


async def resume(ask: Ask) -> dict[str, int]:
    return await _set(ask, False)


async def _set(ask: Ask, paused: bool) -> dict[str, int]:
    which = ask.read(_Which)
    steps = await bulk.set_paused(ask.means.store, which.topic, paused, ask.by, step=which.step)
    return {"changed": len(steps)}


def queues(ask: Ask) -> dict[str, list[QueueView]]:
    return {"queues": rows(ask.means)}


ROUTES = (
    ("GET", "/api/queues", queues),
    ("POST", "/api/queues/pause", pause),
    ("POST", "/api/queues/resume", resume),
)
