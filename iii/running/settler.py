"""Commits what follows from an attempt: its effects, its settlement and its run record, in one Txn.

Owns the table of refusals in model.py for message steps: a second Txn with the settlement alone, silence for
a lost lease, patience for a full store. What settles an outcome is retry.py's decision.
"""

from __future__ import annotations

import asyncio
import logging
import time

from iii.errors import IIIError, InputError, LeaseLost, Refusal, StoreClosed, StoreFull
from iii.handling.context import Context
from iii.model import Enqueue, Message, Op, Release, Retry, Txn
from iii.observe.runs import Run, RunOutcome, record
from iii.running.bindings import Binding
from iii.running.retry import DONE, ERROR_CHARS_MAX, Cancelled, Done, Failed, Outcome, Snoozed, settle
from iii.running.timers import Timers
from iii.step import Step
from iii.store.contract import Store
from iii.store.patience import patiently

__all__ = ["Settler", "describe"]

log = logging.getLogger("iii.running.runner")


class Settler:
    """`keeps_runs`: whether failed attempts leave a run record."""

    def __init__(self, store: Store, timers: Timers, keeps_runs: bool) -> None:
        self._store, self._clock, self._timers = store, store.clock, timers
        self._keeps_runs = keeps_runs

    def txn(self, ctx: Context, binding: Binding, outcome: Outcome, began: float) -> Txn:
        """End the context; the Txn that commits what it leaves. `began`: perf_counter() at its start."""
        draft = ctx.draft
        draft.ended = True
        if outcome is DONE and not draft.buffered:
            return Txn(self._settlement(ctx, binding, outcome, began))
        ops = self._kept(ctx, binding.step, outcome)
        headers = ctx.trace_headers if ops else {}
        return Txn([*ops, *self._settlement(ctx, binding, outcome, began)], headers)

    async def land(self, txn: Txn, ctx: Context, binding: Binding, began: float, error: IIIError) -> None:
        """What follows where the store did not take `txn` at once, but raised `error`."""
        try:
            await self._persist(txn, error)
            self.report(txn, ctx)
        except LeaseLost:
            self._lost(ctx)
        except (Refusal, InputError) as refusal:
            ctx.logger.warning("Effects refused: the attempt failed", error=describe(refusal))
            await self._settle_alone(ctx, binding, Failed(describe(refusal)), began)

    def report(self, txn: Txn, ctx: Context) -> None:
        """Log a dead letter, once the Txn that holds it has landed."""
        for op in txn.ops:
            if isinstance(op, Enqueue) and op.dead is not None:
                dead = op.dead
                ctx.logger.error("Given up: now a dead letter", error=dead.error, attempts=dead.attempts)

    def _kept(self, ctx: Context, step: Step, outcome: Outcome) -> list[Op]:
        """The effects that commit with this outcome."""
        draft = ctx.draft
        if not isinstance(outcome, Failed) or step.on_error == "keep_all":
            return draft.take()
        if step.on_error == "discard":
            draft.take()
            return []
        if draft.enqueued:
            ctx.logger.info("Enqueues of the failed attempt dropped", count=draft.enqueued)
        return draft.take(enqueues=False)

    def _settlement(self, ctx: Context, binding: Binding, outcome: Outcome, began: float) -> tuple[Op, ...]:
        message = ctx.message
        assert message is not None
        ops = settle(outcome, message, binding.rules, wall_ms=self._clock.wall_ms)
        if outcome is DONE:
            return ops
        dead = isinstance(outcome, Failed) and not isinstance(ops[0], Retry)
        run = self._run_record(ctx, binding, outcome, began, dead=dead)
        return ops if run is None else (*ops, run)

    async def _settle_alone(self, ctx: Context, binding: Binding, outcome: Failed, began: float) -> None:
        """A second Txn without effects; where even that is refused, the message comes back later."""
        message = ctx.message
        assert message is not None
        txn = Txn(self._settlement(ctx, binding, outcome, began))
        try:
            await self._persist(txn)
            self.report(txn, ctx)
        except LeaseLost:
            self._lost(ctx)
        except (Refusal, InputError) as refusal:
            ctx.logger.error("Settlement refused: the message is tried again", error=describe(refusal))
            delay_ms = binding.rules.retry_delay_max_ms
            await self._persist(Txn((Retry(message.lease, delay_ms, outcome.error),)))

    async def _persist(self, txn: Txn, error: IIIError | None = None) -> None:
        """Commit, and while the store cannot (it is full) wait: the handler is not run again for that."""

        def passes(error: IIIError) -> bool:
            if not _may_land(error):
                return False
            log.warning("a settlement waits for the store: %s", error)
            return True

        await patiently(lambda: self._store.commit(txn), self._timers.sleep, passes, error)

    async def give_back(self, message: Message, delay_ms: int = 0) -> None:
        """Release the lease, if the store lets us: the attempt does not count."""
        try:
            await asyncio.shield(self._store.submit(Txn((Release(message.lease, delay_ms),))))
        except Exception as error:
            log.debug("message %d not given back: %s", message.lease.id, error)

    def _lost(self, ctx: Context) -> None:
        log.debug("lease of message %s lost: another attempt owns it", ctx.message_id)

    def _run_record(
        self, ctx: Context, binding: Binding, outcome: Outcome, began: float, *, dead: bool
    ) -> Op | None:
        if not self._keeps_runs or isinstance(outcome, Done | Snoozed):
            return None
        name, error = _told(outcome, dead)
        duration_ms = round((time.perf_counter() - began) * 1000)
        return record(
            Run(
                step=binding.step.name,
                trigger=ctx.trigger.type,
                message_id=ctx.message_id,
                attempt=ctx.attempt,
                started_ms=self._clock.wall_ms() - duration_ms,
                duration_ms=duration_ms,
                outcome=name,
                trace_id=ctx.trace_id,
                topic=binding.lane.topic,
                error=error,
            )
        )


def _may_land(error: IIIError) -> bool:
    """Whether the same Txn may land later: a full store, a commit that failed as a whole."""
    return isinstance(error, StoreFull) or not isinstance(error, Refusal | StoreClosed | InputError)


def describe(error: BaseException) -> str:
    """One line for a message's `error`, whatever the error's own `__str__` does."""
    try:
        said = str(error)
    except Exception:
        said = "(its text cannot be had)"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text[:ERROR_CHARS_MAX].encode(errors="replace").decode()


def _told(outcome: Outcome, dead: bool) -> tuple[RunOutcome, str]:
    if isinstance(outcome, Cancelled):
        return "cancelled", outcome.reason
    assert isinstance(outcome, Failed)
    return ("dead" if dead else "failed"), outcome.error
