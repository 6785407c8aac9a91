"""/api/overview: how the engine is, what is wrong with it first, and its last hour."""

from __future__ import annotations

import shutil
from typing import Literal

from msgspec import Struct

from iii.console.asks import Ask
from iii.console.means import Means
from iii.console.pulse import Latency, Rates
from iii.console.queues import shown_lanes
from iii.formats.units import rough_text
from iii.model import ARCHIVE, LaneStats
from iii.observe.hour import POINT_S, Point
from iii.observe.metering import LaneTrouble
from iii.store.keeping import CHANGES, HELD_TIMES
from iii.store.reasons import WHY_FORGOTTEN, forgotten_steps

__all__ = ["ROUTES", "Now", "now"]

MAP_USED_WARN = 0.9
FREE_DISK_WARN_BYTES = 256 << 20
NOT_WELL = {
    "stopped": "Its messages run elsewhere; look at its process.",
    "stale": "Its messages run elsewhere; look at its process.",
    "stuck": "Its event loop does not turn: the log says why. After health.stuck_after it is ended.",
}


class Totals(Struct, frozen=True):
    ready: int
    later: int
    behind: int
    leased: int
    dead: int
    paused_queues: int


class Problem(Struct, frozen=True):
    severity: Literal["error", "warning"]
    kind: str
    title: str
    detail: str
    href: str


class PointView(Struct, frozen=True):
    """What happened in the step_ms until at_ms, and how many waited then."""

    at_ms: int
    done: int
    failed: int
    enqueued: int
    depth: int
    requests: int
    run_p99_ms: float | None


class Now(Struct, frozen=True):
    """What is sent each second to who watches. `point`: the newest of the last hour."""

    now_ms: int
    totals: Totals
    rates: Rates
    latency: Latency
    problems: list[Problem]
    point: PointView | None


class KeptView(Struct, frozen=True):
    """Answers kept for their Idempotency-Key. evicted: those that went before their time."""

    answers: int
    bytes: int
    bytes_max: int
    evicted: int


class StoreView(Struct, frozen=True):
    """map_used: a share, 0 to 1."""

    path: str
    file_bytes: int
    map_bytes: int
    map_used: float
    free_disk_bytes: int | None
    commits_per_s: float
    group_size: float
    kept: KeptView


class Overview(Struct, frozen=True):
    """signed_in: who asks has a session, and can end it."""

    now_ms: int
    version: str
    started_ms: int
    read_only: bool
    signed_in: bool
    project: str
    totals: Totals
    rates: Rates
    latency: Latency
    store: StoreView
    history: dict[str, object]
    problems: list[Problem]


def overview(ask: Ask) -> Overview:
    means = ask.means
    seen = now(means)
    return Overview(
        now_ms=seen.now_ms,
        version=means.version,
        started_ms=means.started_ms,
        read_only=means.config.console.read_only,
        signed_in=ask.visit.session is not None,
        project=means.config.root.name or "iii",
        totals=seen.totals,
        rates=seen.rates,
        latency=seen.latency,
        store=_store(means),
        history={
            "step_ms": POINT_S * 1000,
            "points": [_point(each) for each in means.metering.hour],
        },
        problems=seen.problems,
    )


def now(means: Means) -> Now:
    lanes, hour = shown_lanes(means), means.metering.hour
    return Now(
        now_ms=means.store.clock.wall_ms(),
        totals=_totals(lanes),
        rates=means.pulse.rates(),
        latency=means.pulse.latency(),
        problems=problems(means),
        point=_point(hour[-1]) if hour else None,
    )


def _totals(lanes: list[LaneStats]) -> Totals:
    work = [lane for lane in lanes if lane.step != ARCHIVE]
    return Totals(
        ready=sum(lane.ready for lane in work),
        later=sum(lane.later for lane in work),
        behind=sum(lane.behind for lane in work),
        leased=sum(lane.leased for lane in work),
        dead=sum(lane.ready + lane.later + lane.behind for lane in lanes if lane.step == ARCHIVE),
        paused_queues=sum(lane.paused for lane in work),
    )


def _point(point: Point) -> PointView:
    return PointView(
        point.at_ms,
        point.done,
        point.failed,
        point.enqueued,
        point.depth,
        point.requests,
        None if point.run_p99_s is None else point.run_p99_s * 1000,
    )


def _store(means: Means) -> StoreView:
    figures = means.store.figures()
    commits_per_s, group_size = means.pulse.commits()
    is_file = means.config.store.kind == "lmdb"
    return StoreView(
        path=str(means.config.store.path) if is_file else "in memory",
        file_bytes=figures.file_bytes,
        map_bytes=figures.map_bytes,
        map_used=round(figures.used_bytes / figures.map_bytes, 6) if figures.map_bytes else 0.0,
        free_disk_bytes=_free_bytes(means),
        commits_per_s=commits_per_s,
        group_size=group_size,
        kept=KeptView(figures.kept_answers, figures.kept_bytes, figures.kept_bytes_max, figures.kept_evicted),
    )


def _free_bytes(means: Means) -> int | None:
    if means.config.store.kind != "lmdb":
        return None
    try:
        return shutil.disk_usage(means.config.store.path).free
    except OSError:
        return None


# ------------------------------------------------------------------------------------- what is wrong


def problems(means: Means) -> list[Problem]:
    """The worst first."""
    found = [*_room(means), *_held(means), *_forgotten(means), *_health(means)]
    shown = {(lane.topic, lane.step) for lane in shown_lanes(means)}
    for trouble in means.metering.overview().troubles:
        if (trouble.topic, trouble.step) in shown:
            found += _of_lane(trouble)
    return sorted(found, key=lambda each: each.severity != "error")


def _of_lane(trouble: LaneTrouble) -> list[Problem]:
    name = f"{trouble.topic} of {trouble.step}" if trouble.step else trouble.topic
    href = f"#/queues/{_encoded(trouble.topic)}"
    found: list[Problem] = []
    if "dead" in trouble.reasons:
        text = f"{_count(trouble.dead, 'message')} died in {name}"
        found.append(Problem("error", "dead", text, "Look at the error, mend it, redrive them.", "#/dead"))
    if "no step" in trouble.reasons:
        text = f"No step serves {name}"
        found.append(
            Problem("error", "no_step", text, "Its messages wait for an instance that has the step.", href)
        )
    if "paused" in trouble.reasons:
        text = f"{name} is paused"
        found.append(Problem("warning", "paused", text, f"{_count(trouble.ready, 'message')} ready.", href))
    if "old" in trouble.reasons and "paused" not in trouble.reasons and "no step" not in trouble.reasons:
        age = rough_text(trouble.oldest_age_ms)
        text = f"{name} falls behind"
        detail = f"Its oldest ready message is {age} old; {_count(trouble.ready, 'message')} ready."
        found.append(Problem("warning", "old", text, detail, href))
    if "chain" in trouble.reasons:
        text = f"{name} sends on without delay, again and again"
        detail = f"Generation {trouble.generation:,}: a loop, unless it is a long chain of work that ends."
        found.append(Problem("warning", "chain", text, detail, href))
    return found


def _room(means: Means) -> list[Problem]:
    figures, free = means.store.figures(), _free_bytes(means)
    found: list[Problem] = []
    if figures.map_bytes and figures.used_bytes > MAP_USED_WARN * figures.map_bytes:
        detail = "New work is refused when it is full: raise store.map_size, or compact the store."
        found.append(Problem("error", "map", "The store is almost as large as it may be", detail, "#/config"))
    if free is not None and free < FREE_DISK_WARN_BYTES:
        detail = f"{free >> 20} MiB are free where the store lies; new work is refused when it is full."
        found.append(Problem("error", "disk", "The disk is almost full", detail, "#/"))
    return found


def _held(means: Means) -> list[Problem]:
    """A state trigger that lags keeps the changes it has not seen."""
    figures, most = means.store.figures(), means.store.limits.changes_bytes_max
    step = figures.changes_held_by
    if step is None:
        return []
    title = f"The state trigger of {step} falls behind"
    detail = (
        f"It has {figures.changes_bytes >> 20} MiB of changes to see; store.max_changes is {most >> 20} MiB."
    )
    href = f"#/queues/{_encoded(CHANGES + step)}"
    if figures.changes_bytes < HELD_TIMES * most:
        return [Problem("warning", "changes_held", title, detail, href)]
    return [Problem("error", "changes_held", f"{title}: writes of state are refused", detail, href)]


def _forgotten(means: Means) -> list[Problem]:
    detail = f"{WHY_FORGOTTEN[0].upper()}{WHY_FORGOTTEN[1:]}."
    titles = [f"The state trigger of {step} misses changes" for step in forgotten_steps(means.store)]
    return [Problem("error", "forgotten_trigger", title, detail, "#/steps") for title in titles]


def _health(means: Means) -> list[Problem]:
    return [
        Problem(
            "error",
            "instance",
            f"Instance pid {row.pid} is {row.health}",
            NOT_WELL[row.health],
            "#/instances",
        )
        for row in means.roster()
        if row.health in NOT_WELL
    ]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _encoded(topic: str) -> str:
    from urllib.parse import quote

    return quote(topic, safe="")


ROUTES = (("GET", "/api/overview", overview),)
