"""A trace as a tree: from one request, message, tick or outside write to everything that it led to.

    trace(store, id) -> TraceTree
        roots: TraceNode(run, offset_ms, children)      a run; its children are the runs it caused
        waiting: TraceMessage                           messages of the trace that have not run yet, or rest

A run's children are those whose `parent_id` is its span: each attempt at a message it enqueued, each run of a
state trigger that its write started (trigger "state", with namespace and key in `source` and `key`). What
has a parent that is not kept is a root. Children stand in order of their start. Knows no terminal and no
HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from iii.model import ARCHIVE, Waiting
from iii.observe.runs import Run, RunOutcome, RunRow, runs
from iii.store.contract import Store
from iii.store.quotas import FAILURES

__all__ = ["TraceMessage", "TraceNode", "TraceTree", "trace"]

RUNS_MAX = 2_000
WAITING_MAX = 1_000
"""Messages looked at per topic: those at the front of the queue."""


class TraceNode(Struct, frozen=True):
    """A run and the runs it caused. offset_ms: from the start of the trace to its own."""

    id: int
    offset_ms: int
    run: Run
    children: tuple[TraceNode, ...]


class TraceMessage(Struct, frozen=True):
    """A message of the trace at rest. state: as Waiting.state, or "dead"."""

    id: str
    topic: str
    step: str
    state: Literal["ready", "later", "behind", "leased", "dead"]
    attempts: int
    error: str
    parent_id: str


class TraceTree(Struct, frozen=True):
    """`outcome`: dead or failed where any run ended so, else done. duration_ms: to the end of the last run.
    cut: the trace has more than RUNS_MAX runs, and the oldest are not here."""

    trace_id: str
    started_ms: int
    duration_ms: float
    outcome: RunOutcome
    runs: int
    cut: bool
    roots: tuple[TraceNode, ...]
    waiting: tuple[TraceMessage, ...]


def trace(store: Store, trace_id: str) -> TraceTree | None:
    """The tree of what is kept of a trace; None where nothing is."""
    found = runs(store, trace_id=trace_id, limit=RUNS_MAX)
    if not found:
        return None
    rows = sorted(found, key=lambda row: (row.run.started_ms, row.id))
    started_ms = rows[0].run.started_ms
    outcomes = {row.run.outcome for row in rows}
    return TraceTree(
        trace_id=trace_id,
        started_ms=started_ms,
        duration_ms=max(row.run.started_ms - started_ms + row.run.duration_ms for row in rows),
        outcome=next((name for name in FAILURES if name in outcomes), "done"),
        runs=len(rows),
        cut=len(found) == RUNS_MAX,
        roots=_tree(rows, started_ms),
        waiting=tuple(_waiting(store, rows, trace_id)),
    )


def _tree(rows: Sequence[RunRow], started_ms: int) -> tuple[TraceNode, ...]:
    """Children before their parents, without recursion: a chain may be 100 deep."""
    spans = {row.run.span_id for row in rows if row.run.span_id}
    under: dict[str, list[RunRow]] = {}
    for row in rows:
        parent = row.run.parent_id
        under.setdefault(parent if parent in spans and parent != row.run.span_id else "", []).append(row)
    made: dict[int, TraceNode] = {}
    stack = [(row, False) for row in under.get("", ())]
    while stack:
        row, is_ready = stack.pop()
        kin = under.get(row.run.span_id, []) if row.run.span_id else []
        if not is_ready:
            stack.append((row, True))
            stack += [(each, False) for each in kin]
            continue
        children = tuple(made[each.id] for each in kin)
        made[row.id] = TraceNode(row.id, row.run.started_ms - started_ms, row.run, children)
    return tuple(made[row.id] for row in under.get("", ()))


def _waiting(store: Store, rows: Sequence[RunRow], trace_id: str) -> Iterator[TraceMessage]:
    """In the queues that the runs name."""
    topics = {sent.topic for row in rows for sent in row.run.enqueued}
    topics |= {row.run.topic for row in rows if row.run.topic}
    if any(row.run.outcome == "dead" for row in rows):
        topics |= {lane.topic for lane in store.stats() if lane.step == ARCHIVE}
    for topic in sorted(topics):
        for message in store.waiting(topic, limit=WAITING_MAX):
            parts = message.headers.get("traceparent", "").split("-")
            if len(parts) > 2 and parts[1] == trace_id:
                yield _shown(message, store.message_id(message.id), parts[2])


def _shown(message: Waiting, id: str, parent_id: str) -> TraceMessage:
    is_dead = message.step == ARCHIVE and message.dead is not None
    return TraceMessage(
        id=id,
        topic=message.topic,
        step=message.dead.step if is_dead and message.dead else message.step,
        state="dead" if is_dead else message.state,
        attempts=message.attempts,
        error=message.error or "",
        parent_id=parent_id,
    )
