"""/api/runs: the runs that were recorded, the newest first; and how a run is shown everywhere.

Records are read in pages, and the loop goes on in between: a search looks at SCAN_MAX of them, then says
where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from msgspec import Struct

from iii.console.asks import Ask
from iii.observe.runs import OUTCOMES, Run, RunRow, decode, names_of
from iii.store.contract import Store

__all__ = ["ROUTES", "RunView", "Trigger", "find_runs", "of_message", "run_view"]

PAGE = 100
SCAN_MAX = 10_000
OF_MESSAGE_MAX = 100


class Trigger(Struct, frozen=True):
    """text: "POST /messages", a topic, a cron expression, or the namespace and key that changed."""

    type: str
    text: str


class RunView(Struct, frozen=True):
    """id: of the record. changes, enqueued, logs: how many, in lists."""

    id: str
    step: str
    trigger: Trigger
    topic: str
    message_id: str
    attempt: int
    started_ms: int
    wait_ms: int
    duration_ms: float
    outcome: str
    error: str | None
    traceback: str | None
    trace_id: str
    span_id: str
    status: int | None
    changes: Any
    enqueued: Any
    logs: Any


def run_view(row: RunRow, *, whole: bool = False) -> RunView:
    run = row.run
    left = run.left_out
    return RunView(
        id=str(row.id),
        step=run.step,
        trigger=trigger_of(run),
        topic=run.topic,
        message_id=run.message_id,
        attempt=run.attempt,
        started_ms=run.started_ms,
        wait_ms=run.wait_ms,
        duration_ms=run.duration_ms,
        outcome=run.outcome,
        error=run.error or None,
        traceback=(run.traceback or None) if whole else None,
        trace_id=run.trace_id,
        span_id=run.span_id,
        status=run.status or None,
        changes=run.changes if whole else len(run.changes) + left.changes,
        enqueued=run.enqueued if whole else len(run.enqueued) + left.enqueued,
        logs=run.logs if whole else len(run.logs) + left.logs,
    )


def trigger_of(run: Run) -> Trigger:
    text = f"{run.source}/{run.key}" if run.trigger == "state" and run.key else run.source
    return Trigger(run.trigger, text)


async def rows(store: Store, before: int | None = None) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Every record as it is stored, the newest first, a page at a time."""
    while page := store.records("run", limit=PAGE, before=before):
        yield page
        before = page[-1][0]
        await asyncio.sleep(0)


async def find_runs(
    store: Store,
    texts: tuple[str, ...],
    fits: Callable[[Run], bool],
    *,
    limit: int,
    before: int | None = None,
    scan_max: int = SCAN_MAX,
) -> tuple[list[RunRow], int | None]:
    """Up to `limit` runs that fit, and where to go on (None: these are all). `texts`: stand in its record,
    in lower case; to look for these is 20 times quicker than to decode it."""
    wanted = [text.lower().encode() for text in texts if text]
    found: list[RunRow] = []
    looked_at = 0
    async for page in rows(store, before):
        for id, content in page:
            looked_at += 1
            lowered = content.lower() if wanted else content
            if all(text in lowered for text in wanted) and fits(run := decode(content)):
                found.append(RunRow(id, run))
            if len(found) == limit or looked_at == scan_max:
                return found, id
    return found, None


async def of_message(store: Store, number: int) -> list[RunView]:
    """The attempts at a message that are kept, the newest first."""
    called = names_of(store, store.message_id(number))
    found, _ = await find_runs(
        store, (f'{number}"',), lambda run: run.message_id in called, limit=OF_MESSAGE_MAX
    )
    return [run_view(row, whole=True) for row in found]


async def runs(ask: Ask) -> dict[str, Any]:
    step, trace, q = ask.text("step"), ask.text("trace"), ask.text("q")
    outcome = ask.choice("outcome", OUTCOMES)

    def fits(run: Run) -> bool:
        return (
            (not step or run.step == step)
            and (not trace or run.trace_id == trace)
            and (outcome is None or run.outcome == outcome)
        )

    found, more = await find_runs(
        ask.means.store,
        (q, trace, _quoted(step), _quoted(outcome or "")),
        fits,
        limit=ask.whole("limit", 50, 1, 500),
        before=ask.before(),
    )
    held = ask.means.store.held()
    return {
        "runs": [run_view(row) for row in found],
        "next": None if more is None else str(more),
        "kept": {"failed": held.failed, "others": held.runs},
    }


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode() if text else ""


ROUTES = (("GET", "/api/runs", runs),)
