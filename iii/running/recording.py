"""What a run leaves behind: makes its record from an attempt or a request, and keeps the engine's figures.

Owns when a record is made and how one is kept that has no commit to go with: a request without effects
commits nothing, so such records are gathered and committed together, LATER_MS after the first.
observe/runs.py says what they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from iii.errors import IIIError
from iii.handling.context import Context, StartedBy
from iii.model import Committed, Op, Record, Txn
from iii.observe.capture import NamedEffects
from iii.observe.meters import Figures
from iii.observe.redaction import NOTHING_HIDDEN, Redaction
from iii.observe.runs import LeftOut, Run, RunOutcome, record
from iii.running.attempt import Attempt
from iii.running.retry import Cancelled, Failed, Snoozed
from iii.running.timers import Timers
from iii.store.contract import Limits, Store
from iii.store.quotas import FAILURES
from iii.trace import is_sampled

if TYPE_CHECKING:
    from iii.observe.otlp import Spans
    from iii.observe.spans import RunSpan

__all__ = ["Recorder"]

LATER_MS = 1_000
PENDING_MAX = 200
_ALWAYS = (Failed, Cancelled)

log = logging.getLogger("iii.running.recording")


class Recorder:
    """`limits`: whether the history has a place for runs that did not fail, and for those that did (None:
    neither); the figures are counted in any case. `spans`: what exports them besides, whatever is kept.
    """

    def __init__(
        self,
        store: Store,
        timers: Timers,
        *,
        limits: Limits | None = None,
        redaction: Redaction = NOTHING_HIDDEN,
        figures: Figures | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._store, self._timers = store, timers
        self._redaction = redaction
        self._pending: list[Record] = []
        self._timer: int | None = None
        self._spans = spans
        self._keeps = limits is not None and limits.runs_max > 0
        self._keeps_failed = limits is not None and limits.runs_failed_max > 0
        self.keeps = self._keeps or self._keeps_failed or spans is not None
        self.figures = figures if figures is not None else Figures()

    # ------------------------------------------------------------------------------------- messages

    def wants(self, attempt: Attempt) -> bool:
        """Failures and what was cancelled always, the rest where its trace is kept."""
        if not self.keeps:
            return False
        return type(attempt.outcome) in _ALWAYS or is_sampled(attempt.message.headers)

    def of_attempt(self, attempt: Attempt, ops: Iterable[Op], *, dead: bool) -> tuple[Record, ...]:
        """What to commit besides; `ops`: what commits with the outcome, whose text has no secrets left."""
        ctx, message, outcome = attempt.ctx, attempt.message, attempt.outcome
        name, error = _told(outcome, dead=dead)
        source, key = _source(ctx.trigger, message.payload)
        return self._record(
            ctx,
            ops,
            Run(
                step=attempt.binding.step.name,
                trigger=ctx.trigger.type,
                source=source,
                key=key,
                topic=attempt.binding.lane.topic,
                message_id=ctx.message_id,
                attempt=ctx.attempt,
                started_ms=ctx.started_ms,
                wait_ms=attempt.wait_ms,
                duration_ms=round(attempt.seconds * 1000, 3),
                outcome=name,
                error=error,
                traceback=attempt.traceback,
                session=message.lease.session,
                trace_id=ctx.trace_id,
            ),
            dropped=attempt.dropped,
        )

    # ------------------------------------------------------------------------------------- requests

    def of_request(
        self,
        ctx: Context,
        ops: Iterable[Op],
        *,
        seconds: float,
        status: int,
        failed: bool = False,
        error: str = "",
        traceback: str = "",
    ) -> tuple[Record, ...]:
        """What to commit besides; `ops`: what commits with the response."""
        trigger = ctx.trigger
        return self._record(
            ctx,
            ops,
            Run(
                step=ctx.step.name,
                trigger=trigger.type,
                source=f"{trigger.method} {trigger.path}",
                message_id=ctx.message_id,
                attempt=1,
                started_ms=ctx.started_ms,
                duration_ms=round(seconds * 1000, 3),
                outcome="failed" if failed or status >= 500 else "done",
                status=status,
                error=self._redaction.text(error) if error else "",
                traceback=traceback,
                session=self._store.session,
                trace_id=ctx.trace_id,
            ),
        )

    def later(self, *records: Record) -> None:
        """Keep what nothing is committed with."""
        self._pending += records
        if len(self._pending) >= PENDING_MAX:
            self._commit_pending()
        elif self._timer is None and self._pending:
            self._timer = self._timers.after(LATER_MS, self._commit_pending)

    async def close(self) -> None:
        """Commit what is gathered."""
        if txn := self._take():
            try:
                await self._store.commit(txn)
            except IIIError as error:
                log.debug("%d run records were not kept: %s", len(txn.ops), error)

    def _commit_pending(self) -> None:
        if txn := self._take():
            try:
                self._store.post(txn, _UNHEARD)
            except IIIError as error:
                log.debug("%d run records were not kept: %s", len(txn.ops), error)

    def _take(self) -> Txn | None:
        if self._timer is not None:
            self._timers.cancel(self._timer)
            self._timer = None
        pending, self._pending = self._pending, []
        return Txn(tuple(pending)) if pending else None

    # ----------------------------------------------------------------------------------------- both

    def export(self, span: RunSpan) -> None:
        """What was recorded of a run is durable: out with its span."""
        if self._spans is not None:
            self._spans.export(span)

    def _record(self, ctx: Context, ops: Iterable[Op], run: Run, *, dropped: int = 0) -> tuple[Record, ...]:
        """With what all runs have: spans, effects, log lines."""
        effects = ctx.flushed or NamedEffects()
        effects.note(ops)
        captured = ctx.captured
        lines = captured.entries(self._redaction) if captured is not None else ()
        left_out = LeftOut(
            effects.changes_left_out,
            effects.sent_left_out,
            captured.count - len(lines) if captured is not None else 0,
            dropped,
        )
        run = msgspec.structs.replace(
            run,
            traceback=self._redaction.traceback(run.traceback) if run.traceback else "",
            span_id=ctx.trace.span_id,
            parent_id=ctx.trace.parent_id,
            changes=effects.changes,
            enqueued=effects.sent,
            logs=lines,
            left_out=left_out,
        )
        if self._spans is not None:
            if ctx.span is None:  # its handler was never called
                ctx.span = self._spans.begin(ctx.headers, ctx.trace)
            ctx.span.run = run
        is_kept = self._keeps_failed if run.outcome in FAILURES else self._keeps
        return (record(run),) if is_kept else ()


class _Unheard:
    """Nobody waits for these commits."""

    def done(self) -> bool:
        return True

    def set_result(self, committed: Committed) -> None: ...

    def set_exception(self, error: Exception) -> None: ...


_UNHEARD = _Unheard()


class _ChangedKey(Struct):
    namespace: str = ""
    key: str = ""


_decode_change = msgspec.json.Decoder(_ChangedKey).decode


def _source(trigger: StartedBy, payload: bytes) -> tuple[str, str]:
    """What of its trigger started a run; the key, where a change of state did."""
    if trigger.type == "state":
        try:
            change = _decode_change(payload)
        except msgspec.DecodeError:  # a message somebody else put there
            return trigger.namespace or "", ""
        return change.namespace, change.key
    return trigger.topic or trigger.expression or "", ""


def _told(outcome: object, *, dead: bool) -> tuple[RunOutcome, str]:
    match outcome:
        case Failed(error):
            return ("dead" if dead else "failed"), error
        case Cancelled(reason):
            return "cancelled", reason
        case Snoozed():
            return "snoozed", ""
        case _:
            return "done", ""
