"""/api/steps: each step with its triggers, its figures, its source, its latest runs and what they died of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from iii.console.asks import Ask, Missing
from iii.console.means import Means
from iii.console.runs import RunView, Trigger, find_runs, run_view
from iii.observe.snapshots import Times
from iii.step import CronTrigger, HttpTrigger, QueueTrigger, Step

__all__ = ["ROUTES", "triggers"]

SOURCE_BYTES_MAX = 256 << 10
RECENT = 50
SCAN_MAX = 5_000


class Stats(Struct):
    """Since the engines started; done and failed of messages since the store was made. Over all instances.
    generation: how far down a chain without delays it lately enqueued, 0 = not far."""

    started: int = 0
    done: int = 0
    failed: int = 0
    dead: int = 0
    in_flight: int = 0
    run_p50_ms: float | None = None
    run_p99_ms: float | None = None
    generation: int = 0


class StepView(Struct, frozen=True):
    name: str
    description: str
    file: str
    triggers: list[Trigger]
    enqueues: list[str] | None
    flows: list[str]
    stats: Stats
    serving: bool


class ErrorCount(Struct, frozen=True):
    error: str
    count: int
    last_ms: int


class WholeStep(StepView, frozen=True):
    source: str | None
    config: dict[str, Any]
    recent_runs: list[RunView]
    errors: list[ErrorCount]


def steps(ask: Ask) -> dict[str, Any]:
    return {"steps": [_view(ask.means, step) for step in ask.means.steps]}


async def step(ask: Ask) -> WholeStep:
    name = ask.path["name"]
    found = next((each for each in ask.means.steps if each.name == name), None)
    if found is None:
        raise Missing(f"no step {name} in this engine")
    runs, _ = await find_runs(
        ask.means.store, (f'"{name}"',), lambda run: run.step == name, limit=500, scan_max=SCAN_MAX
    )
    counts = Counter(row.run.error for row in runs if row.run.error)
    last = {row.run.error: row.run.started_ms for row in reversed(runs)}
    return WholeStep(
        **msgspec.structs.asdict(_view(ask.means, found)),
        source=_source(found),
        config=_config(ask.means, found),
        recent_runs=[run_view(row) for row in runs[:RECENT]],
        errors=[ErrorCount(error, count, last[error]) for error, count in counts.most_common()],
    )


def triggers(step: Step) -> list[Trigger]:
    found: list[Trigger] = []
    for each in step.triggers:
        match each:
            case HttpTrigger():
                found.append(Trigger("http", f"{each.method} {each.path}"))
            case QueueTrigger():
                found.append(Trigger("queue", each.topic))
            case CronTrigger():
                found.append(Trigger("cron", f"{each.expression} {each.timezone}"))
            case _:
                found.append(Trigger("state", each.namespace or "every namespace"))
    return found


def _view(means: Means, step: Step) -> StepView:
    return StepView(
        name=step.name,
        description=step.description,
        file=_near(step.file, means.config.root),
        triggers=triggers(step),
        enqueues=None if step.enqueues is None else sorted(step.enqueues),
        flows=list(step.flows),
        stats=_stats(means, step),
        serving=not means.stopping.is_set(),
    )


def _stats(means: Means, step: Step) -> Stats:
    look = means.pulse.look()
    stats, times = Stats(), Times()
    for lane, _ in step.lanes():
        if (row := look.lanes.get(lane)) is not None:
            stats.done += row.done
            stats.failed += row.failed
            stats.dead += row.dead
            stats.in_flight += row.leased
    chains = look.total.descending(means.store.clock.wall_ms())
    stats.generation = max((far for (_, name), far in chains.items() if name == step.name), default=0)
    for counts in look.total.steps:
        if counts.step == step.name:
            stats.started += counts.started
            times.add(counts.run)
    for route in look.total.routes:
        if route.step == step.name:
            answered, broken = sum(route.statuses.values()), _broken(route.statuses)
            stats.started += answered
            stats.done += answered - broken
            stats.failed += broken
            times.add(route.time)
    p50, p99 = times.quantile(0.5), times.quantile(0.99)
    stats.run_p50_ms = None if p50 is None else p50 * 1000
    stats.run_p99_ms = None if p99 is None else p99 * 1000
    return stats


def _broken(statuses: dict[str, int]) -> int:
    return sum(count for status, count in statuses.items() if status >= "500")


def _near(file: str, root: Path) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if path.is_relative_to(root) else file


def _source(step: Step) -> str | None:
    try:
        return Path(step.file).read_bytes()[:SOURCE_BYTES_MAX].decode(errors="replace")
    except (OSError, ValueError):
        return None


def _config(means: Means, step: Step) -> dict[str, Any]:
    rules = {
        lane.topic: msgspec.structs.asdict(binding.rules)
        for lane, binding in means.bindings.items()
        if lane.step == step.name
    }
    return {"on_error": step.on_error, "queues": rules}


ROUTES = (
    ("GET", "/api/steps", steps),
    ("GET", "/api/steps/{name}", step),
)
