"""/api/traces: what one request, tick or message led to, as spans: each run of it, and each message that
still waits.

A list row is made of the runs of a trace that were looked at; one trace's spans of all that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from iii.console.asks import Ask, BadField
from iii.console.runs import PAGE, find_runs, rows, trigger_of
from iii.model import ARCHIVE, Waiting
from iii.observe.runs import Run, RunRow, decode
from iii.store import kept
from iii.store.contract import Store
from iii.store.quotas import FAILURES
from iii.store.search import Place, places
from iii.store.search import messages as pages_of_messages

__all__ = ["ROUTES"]

LIST_SCAN_MAX = 4_000
RUNS_MAX = 2_000
SCAN_MAX = 200_000
WAITING_SCAN_MAX = 5_000
MARK, MARKS_MAX = 8, 1_000  # of a trace id, to know it again by; of the traces before
TRACE_OUTCOMES = ("done", "failed", "dead", "running")


class TraceView(Struct):
    """root: what started it, as far as it is kept. steps: in order of their first run."""

    trace_id: str
    root: str
    step: str
    started_ms: int
    duration_ms: float
    runs: int
    failed: int
    outcome: str
    steps: list[str]


class Span(Struct, frozen=True, kw_only=True):
    """It waited from started_ms - wait_ms, and ran from started_ms. duration_ms None: it has not ended."""

    id: str
    parent: str | None
    kind: str
    label: str
    step: str
    topic: str
    message_id: str
    attempt: int
    started_ms: int
    wait_ms: int
    duration_ms: float | None
    outcome: str
    live: bool = False
    error: str | None = None
    traceback: str | None = None
    status: int | None = None
    logs: Any = ()
    changes: Any = ()
    enqueued: Any = ()


# ------------------------------------------------------------------------------------------ the list


async def traces(ask: Ask) -> dict[str, Any]:
    limit, outcome = ask.whole("limit", 50, 1, 200), ask.choice("outcome", TRACE_OUTCOMES)
    step, q = ask.text("step"), ask.text("q").lower()
    before, seen = _cursor(ask)
    groups: dict[str, list[Run]] = {}
    newest: dict[str, int] = {}
    last, looked_at, complete = 0, 0, True
    async for page in rows(ask.means.store, before):
        for last, content in page:
            run = decode(content)
            if run.trace_id[:MARK] not in seen:
                groups.setdefault(run.trace_id, []).append(run)
                newest.setdefault(run.trace_id, last)
        looked_at += len(page)
        is_full = len(groups) > limit and looked_at >= 4 * PAGE
        if looked_at >= LIST_SCAN_MAX or (is_full and not (outcome or step or q)):
            complete = False
            break
    fitting = [view for view in map(_view, groups.values()) if _fits(view, outcome, step, q, groups)]
    shown = fitting[:limit]
    more = newest[shown[-1].trace_id] if len(fitting) > limit else None if complete else last
    marks = [*seen, *(view.trace_id[:MARK] for view in shown)][-MARKS_MAX:]
    return {"traces": shown, "next": None if more is None else "-".join([str(more), *marks])}


def _cursor(ask: Ask) -> tuple[int | None, dict[str, None]]:
    """Where to go on, and the traces of the pages before: older runs of theirs make no second row."""
    given = ask.given("before")
    if given is None:
        return None, {}
    id, *marks = given.split("-")
    if not (id.isascii() and id.isdecimal()) or len(id) > 18:
        raise BadField("before", "expected what an earlier answer has as `next`")
    return int(id), dict.fromkeys(marks)


def _fits(view: TraceView, outcome: str | None, step: str, q: str, groups: dict[str, list[Run]]) -> bool:
    steps = {run.step for run in groups[view.trace_id]}
    if (outcome is not None and view.outcome != outcome) or (step and step not in steps):
        return False
    return not q or any(q in text.lower() for text in (view.trace_id, view.root, *steps))


def _view(found: list[Run]) -> TraceView:
    """`found`: the newest first."""
    spans = {run.span_id for run in found}
    first = min(found, key=lambda run: (run.parent_id in spans, run.started_ms))
    return TraceView(
        trace_id=first.trace_id,
        root=trigger_of(first).text or first.step,
        step=first.step,
        started_ms=first.started_ms,
        duration_ms=max(run.started_ms - first.started_ms + run.duration_ms for run in found),
        runs=len(found),
        failed=sum(run.outcome in FAILURES for run in found),
        outcome=_outcome(found),
        steps=list(dict.fromkeys(run.step for run in sorted(found, key=lambda run: run.started_ms))),
    )


def _outcome(found: list[Run]) -> str:
    """Of the last attempt at each message, the worst."""
    last: dict[tuple[str, str], str] = {}
    for run in found:
        last.setdefault((run.step, run.message_id), run.outcome)
    outcomes = set(last.values())
    return next((name for name in FAILURES if name in outcomes), "done")


# ------------------------------------------------------------------------------------------ one trace


async def trace(ask: Ask) -> dict[str, Any]:
    store, trace_id = ask.means.store, ask.path["id"]
    found, _ = await find_runs(
        store, (trace_id,), lambda run: run.trace_id == trace_id, limit=RUNS_MAX, scan_max=SCAN_MAX
    )
    now_ms = store.clock.wall_ms()
    found.sort(key=lambda row: (row.run.started_ms, row.id))
    spans = _spans(found)
    waiting = await _waiting(store, trace_id, found)
    spans += [_waiting_span(each, found, now_ms, store) for each in waiting]
    started_ms = min((span.started_ms for span in spans), default=now_ms)
    ends = [now_ms if span.duration_ms is None else span.started_ms + span.duration_ms for span in spans]
    return {
        "trace_id": trace_id,
        "started_ms": started_ms,
        "duration_ms": max(ends, default=started_ms) - started_ms,
        "spans": spans,
    }


def _spans(found: list[RunRow]) -> list[Span]:
    known = {row.run.span_id for row in found}
    spans = []
    for row in found:
        run = row.run
        spans.append(
            Span(
                id=run.span_id or f"run-{row.id}",
                parent=run.parent_id if run.parent_id in known and run.parent_id != run.span_id else None,
                kind=run.trigger,
                label=trigger_of(run).text or run.step,
                step=run.step,
                topic=run.topic,
                message_id=run.message_id,
                attempt=run.attempt,
                started_ms=run.started_ms,
                wait_ms=run.wait_ms,
                duration_ms=run.duration_ms,
                outcome=run.outcome,
                error=run.error or None,
                traceback=run.traceback or None,
                status=run.status or None,
                logs=run.logs,
                changes=run.changes,
                enqueued=run.enqueued,
            )
        )
    return spans


async def _waiting(store: Store, trace_id: str, found: list[RunRow]) -> list[Waiting]:
    """Its messages that rest: in the queues that its runs name, or, while nothing ran, in any."""
    topics = {sent.topic for row in found for sent in row.run.enqueued} | {row.run.topic for row in found}
    lanes = {
        lane.topic
        for lane in store.stats()
        if not lane.topic.startswith(kept.TOPICS) and lane.step != ARCHIVE
    }
    triggered = {topic for topic in lanes if topic.startswith("$state/")}
    where: list[Place] = []
    for topic in sorted((topics | triggered) & lanes if found else lanes):
        where += [place for place in places(store, topic) if place.step != ARCHIVE]
    mark = f"-{trace_id}-"
    waiting: list[Waiting] = []
    async for page in pages_of_messages(store, where, scan_max=WAITING_SCAN_MAX):
        waiting += [message for message in page if mark in message.headers.get("traceparent", "")]
    return waiting


def _waiting_span(message: Waiting, found: Iterable[RunRow], now_ms: int, store: Store) -> Span:
    id = store.message_id(message.id)
    ends = [row.run.started_ms + round(row.run.duration_ms) for row in found if row.run.message_id == id]
    since_ms = max([message.enqueued_ms, *ends])
    runs = message.state == "leased"
    parts = message.headers["traceparent"].split("-")
    known = {row.run.span_id for row in found}
    kind, _, rest = message.topic.removeprefix("$").partition("/")
    is_own = message.topic.startswith("$")
    return Span(
        id=f"message-{id}",
        parent=parts[2] if parts[2] in known else None,
        kind=kind if is_own else "queue",
        label=rest if is_own else message.topic,
        step=message.step,
        topic=message.topic,
        message_id=id,
        attempt=message.attempts + 1,
        started_ms=since_ms if runs else now_ms,
        wait_ms=0 if runs else max(0, now_ms - since_ms),
        duration_ms=None,
        outcome="running" if runs else "waiting",
        live=True,
        error=message.error,
    )


ROUTES = (
    ("GET", "/api/traces", traces),
    ("GET", "/api/traces/{id}", trace),
)
