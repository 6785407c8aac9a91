"""/api/flow: the steps as a graph, from what starts them to what they send, with counts on the edges.

    route, cron, state  -- triggers -->  step  -- enqueues -->  topic  -- triggers -->  step

What a step enqueues is what its config declares; a step that declares nothing, what its latest runs sent.
State that steps wrote in these runs leads to the state triggers that watch it ("fires").
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from msgspec import Struct

from iii.console.asks import Ask
from iii.console.means import Means
from iii.console.pulse import Look
from iii.console.runs import find_runs
from iii.model import Lane
from iii.step import CronTrigger, HttpTrigger, QueueTrigger, StateTrigger, Step, Trigger

__all__ = ["ROUTES"]

SEEN_MAX = 1_000


class Node(Struct, frozen=True):
    id: str
    kind: Literal["route", "step", "topic", "state", "cron"]
    label: str
    detail: str = ""
    step: str | None = None
    namespace: str | None = None
    depth: int | None = None
    failing: bool = False


class Edge(Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """count: since the engines started, over all instances; per_s: now."""

    start: str
    end: str
    kind: Literal["triggers", "enqueues", "fires"]
    count: int
    per_s: float


class _Seen(Struct):
    """What the latest runs of each step did."""

    sent: Counter[tuple[str, str]]
    wrote: Counter[tuple[str, str]]


async def flow(ask: Ask) -> dict[str, Any]:
    means = ask.means
    look, seen = means.pulse.look(), await _seen(means)
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    for step in means.steps:
        _add_step(means, look, step, nodes, edges)
    for step in means.steps:
        _add_sent(step, look, seen, nodes, edges)
    _add_fires(seen, nodes, edges)
    return {"nodes": list(nodes.values()), "edges": list(edges.values())}


async def _seen(means: Means) -> _Seen:
    found, _ = await find_runs(means.store, (), lambda run: True, limit=SEEN_MAX)
    seen = _Seen(Counter(), Counter())
    for row in found:
        seen.sent.update((row.run.step, each.topic) for each in row.run.enqueued)
        seen.wrote.update((row.run.step, each.namespace) for each in row.run.changes)
    return seen


def _add_step(
    means: Means, look: Look, step: Step, nodes: dict[str, Node], edges: dict[tuple[str, str], Edge]
) -> None:
    id = f"step:{step.name}"
    lanes = [look.lanes[lane] for lane, _ in step.lanes() if lane in look.lanes]
    waiting = sum(lane.ready + lane.later + lane.behind for lane in lanes)
    failing = any(lane.dead for lane in lanes)
    nodes[id] = Node(id, "step", step.name, step.description, step.name, None, waiting, failing)
    for trigger in step.triggers:
        source = _source(means, look, trigger, step)
        nodes.setdefault(source.id, source)
        count, per_s = _taken(means, look, trigger, step)
        edges[source.id, id] = Edge(source.id, id, "triggers", count, per_s)


def _source(means: Means, look: Look, trigger: Trigger, step: Step) -> Node:
    match trigger:
        case HttpTrigger():
            name = f"{trigger.method} {trigger.path}"
            return Node(f"route:{name}", "route", name)
        case QueueTrigger():
            return _topic(look, trigger.topic)
        case CronTrigger():
            job = next(job for job in means.crons if (job.step, job.trigger) == (step.name, trigger))
            shown = f"{trigger.expression} {trigger.timezone}"
            return Node(f"cron:{step.name}:{job.index}", "cron", job.schedule.words, shown)
        case StateTrigger():
            name = trigger.namespace or "every namespace"
            return Node(f"state:{name}", "state", name, "state", None, trigger.namespace)


def _topic(look: Look, topic: str) -> Node:
    lanes = [lane for lane in look.lanes.values() if lane.topic == topic]
    depth = sum(lane.ready + lane.later + lane.behind for lane in lanes)
    return Node(f"topic:{topic}", "topic", topic, "", None, None, depth, any(lane.dead for lane in lanes))


def _taken(means: Means, look: Look, trigger: Trigger, step: Step) -> tuple[int, float]:
    if isinstance(trigger, HttpTrigger):
        key = (trigger.method, trigger.path, step.name)
        found = [each for each in look.total.routes if (each.method, each.path, each.step) == key]
        return sum(sum(each.statuses.values()) for each in found), means.pulse.of_route(*key)
    topic = {QueueTrigger: "", CronTrigger: f"$cron/{step.name}", StateTrigger: f"$state/{step.name}"}[
        type(trigger)
    ]
    lane = Lane(topic or getattr(trigger, "topic", ""), step.name)
    row = look.lanes.get(lane)
    return (row.done + row.failed if row else 0), means.pulse.of_lane(lane)[1]


def _add_sent(
    step: Step, look: Look, seen: _Seen, nodes: dict[str, Node], edges: dict[tuple[str, str], Edge]
) -> None:
    sent = {topic: count for (name, topic), count in seen.sent.items() if name == step.name}
    for topic in sorted({*(step.enqueues or ()), *sent}):
        node = _topic(look, topic)
        nodes.setdefault(node.id, node)
        start = f"step:{step.name}"
        edges[start, node.id] = Edge(start, node.id, "enqueues", sent.get(topic, 0), 0.0)


def _add_fires(seen: _Seen, nodes: dict[str, Node], edges: dict[tuple[str, str], Edge]) -> None:
    for (step, namespace), count in seen.wrote.items():
        start = f"step:{step}"
        for node in [
            node for node in nodes.values() if node.kind == "state" and node.namespace in (namespace, None)
        ]:
            if start in nodes and (start, node.id) not in edges:
                edges[start, node.id] = Edge(start, node.id, "fires", count, 0.0)


ROUTES = (("GET", "/api/flow", flow),)
