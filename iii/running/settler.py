"""Commits what follows from an attempt: its effects, its settlement and its run record, in one Txn.

Owns the table of refusals in model.py for message steps: a second Txn with the settlement alone, silence for
a lost lease, patience for a full store. What settles an outcome is retry.py's decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from iii.errors import (
    IIIError,
    InputError,
    LeaseLost,
    Refusal,
    StoreClosed,
    StoreDamaged,
    StoreFull,
)
from iii.model import NO_EFFECTS, Ack, Committed, Enqueue, Op, Record, Release, Retry, Txn
from iii.observe.redaction import Redaction
from iii.running.attempt import Attempt
from iii.running.recording import Recorder
from iii.running.retry import DONE, ERROR_CHARS_MAX, Cancelled, Done, Failed, Outcome, Snoozed, settle
from iii.running.timers import Timers
from iii.store.contract import Store
from iii.store.patience import may_land, patiently
from iii.trace import is_sampled

__all__ = ["Settler", "describe"]

log = logging.getLogger("iii.running.runner")


class Settler:
    def __init__(self, store: Store, timers: Timers, recorder: Recorder, redaction: Redaction) -> None:
        self._store, self._clock, self._timers = store, store.clock, timers
        self._recorder, self._redaction = recorder, redaction
        self._struggles: set[asyncio.Task[None]] = set()
        self._stopping = False

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """End the context and hand over what is left of it; the attempt hears from the store."""
        attempt.outcome = outcome
        attempt.seconds = seconds = perf_counter() - attempt.began
        meter = attempt.binding.meter
        meter.run.add(seconds)
        meter.wait.add(attempt.wait_ms / 1000)
        if attempt.ctx.clears_ahead and not isinstance(outcome, Failed):
            attempt.ctx.draft.ended = True
            self._begin(partial(self._cleared, attempt), attempt)
            return
        attempt.txn = self._txn(attempt)
        try:
            self._store.post(attempt.txn, attempt)
        except Exception as error:
            self.refused(attempt, error)

    def _txn(self, attempt: Attempt) -> Txn:
        """What is left of its context and what settles it; the context has ended then."""
        outcome, message = attempt.outcome, attempt.message
        effects = attempt.ctx.end() if outcome is DONE else self._kept(attempt)
        if outcome is DONE and not (self._recorder.keeps and is_sampled(message.headers)):
            settlement: tuple[Op, ...] = (Ack(message.lease),)
        else:
            settlement = self._settlement(attempt, effects.ops)
        if not effects.ops:
            return Txn(settlement)
        return Txn((*effects.ops, *settlement), attempt.ctx.trace_headers, effects.checked)

    def landed(self, attempt: Attempt) -> None:
        """Its Txn is durable: count it, and log a dead letter, now that there is one."""
        try:
            self._count(attempt)
            if (span := attempt.ctx.span) is not None:
                self._recorder.export(span)
            for op in attempt.txn.ops:
                if not isinstance(op, Enqueue):
                    continue
                if (dead := op.dead) is None:
                    self._recorder.figures.sent(op.topic)
                    continue
                attempt.binding.meter.dead += 1
                told = {"error": dead.error, "attempts": dead.attempts}
                attempt.ctx.logger.tell(logging.ERROR, "Given up: now a dead letter", told)
        finally:
            attempt.end()

    def _count(self, attempt: Attempt) -> None:
        meter = attempt.binding.meter
        match attempt.outcome:
            case Done():
                meter.done += 1
            case Failed():
                meter.failed += 1
                meter.retried += any(isinstance(op, Retry) for op in attempt.txn.ops)
            case Snoozed():
                meter.snoozed += 1
            case Cancelled():
                meter.cancelled += 1

    def refused(self, attempt: Attempt, error: Exception) -> None:
        """The store did not take its Txn at once."""
        if isinstance(error, LeaseLost):
            self._lost(attempt)
            return
        self._begin(partial(self._land, attempt, error), attempt)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], attempt: Attempt) -> None:
        """`work` may begin anew wherever it was cancelled."""
        struggle = asyncio.get_running_loop().create_task(self._struggle(work, attempt))
        self._struggles.add(struggle)
        struggle.add_done_callback(partial(self._ended, work, attempt))

    def _ended(
        self, work: Callable[[], Coroutine[Any, Any, None]], attempt: Attempt, struggle: asyncio.Task[None]
    ) -> None:
        self._struggles.discard(struggle)
        by_a_handler = struggle.cancelled() and struggle.cancelling()  # one that cancels all tasks
        if by_a_handler and not self._stopping:
            self._begin(work, attempt)
        else:
            attempt.end()

    def stop(self) -> set[asyncio.Task[None]]:
        """Give up what still waits for the store; the tasks to wait for."""
        self._stopping = True
        for struggle in self._struggles:
            struggle.cancel()
        return set(self._struggles)

    async def _struggle(self, work: Callable[[], Coroutine[Any, Any, None]], attempt: Attempt) -> None:
        """Whatever it takes to settle it; where nothing helps, the message is given back."""
        try:
            await work()
        except (StoreClosed, StoreDamaged) as gone:
            log.debug("message %s not settled: %s", attempt.ctx.message_id, gone)
        except Exception:
            self.abandon(attempt)

    async def _cleared(self, attempt: Attempt) -> None:
        """What is cleared beyond one Txn goes ahead, now that the handler has not failed."""
        if attempt.txn is NO_EFFECTS:
            try:
                await attempt.ctx.clear_ahead()
            except LeaseLost:
                attempt.ctx.drop()
                self._lost(attempt)
                return
            attempt.txn = self._txn(attempt)
        await self._land(attempt)

    async def _land(self, attempt: Attempt, error: Exception | None = None) -> None:
        if error is not None and not isinstance(error, IIIError):
            raise error
        if isinstance(error, StoreFull):
            attempt.txn = _without_record(attempt.txn)
        try:
            await self._persist(attempt.txn, error)
            self.landed(attempt)
        except LeaseLost:
            self._lost(attempt)
        except (Refusal, InputError) as refusal:
            why = self._redaction.text(describe(refusal))
            attempt.ctx.logger.tell(logging.WARNING, "Effects refused: the attempt failed", {"error": why})
            attempt.outcome, attempt.dropped = Failed(why), _enqueues(attempt.txn)
            await self._settle_alone(attempt, attempt.outcome)

    async def _settle_alone(self, attempt: Attempt, outcome: Failed) -> None:
        """A second Txn without effects; where even that is refused, the message comes back later."""
        attempt.txn = Txn(self._settlement(attempt, ()))
        try:
            await self._persist(attempt.txn)
            self.landed(attempt)
        except LeaseLost:
            self._lost(attempt)
        except (Refusal, InputError) as refusal:
            told = {"error": describe(refusal)}
            attempt.ctx.logger.tell(logging.ERROR, "Settlement refused: the message is tried again", told)
            delay_ms = attempt.binding.rules.retry_delay_max_ms
            await self._persist(Txn((Retry(attempt.message.lease, delay_ms, outcome.error),)))

    async def _persist(self, txn: Txn, error: IIIError | None = None) -> None:
        """Commit, and while the store cannot (it is full) wait: the handler is not run again for that."""

        told = False

        def passes(error: IIIError) -> bool:
            nonlocal told
            if not may_land(error):
                return False
            log.log(logging.DEBUG if told else logging.WARNING, "a settlement waits for the store: %s", error)
            told = True
            return True

        await patiently(lambda: self._store.commit(txn), self._timers.sleep, passes, error)

    def abandon(self, attempt: Attempt) -> None:
        """An error of ours, in an exception handler: the message is given back and tried again later."""
        log.exception("message %s could not be settled: given back", attempt.ctx.message_id)
        self._begin(partial(self._released, attempt), attempt)

    async def _released(self, attempt: Attempt) -> None:
        """A lease that stayed would take credit from its lane as long as the session lasts."""
        delay_ms = attempt.binding.rules.retry_delay_max_ms
        try:
            await self._persist(Txn((Release(attempt.message.lease, delay_ms),)))
        except Exception as error:
            log.debug("message %s not given back: %s", attempt.ctx.message_id, error)

    def give_back(self, attempt: Attempt) -> None:
        """Hand its release to the store, as this engine ends: the attempt is over and does not count."""
        message_id = attempt.ctx.message_id

        def told(released: asyncio.Future[Committed]) -> None:
            if not released.cancelled() and (error := released.exception()) is not None:
                log.debug("message %s not given back: %s", message_id, error)

        try:
            self._store.submit(Txn((Release(attempt.message.lease),))).add_done_callback(told)
        except IIIError as error:
            log.debug("message %s not given back: %s", message_id, error)
        attempt.end()

    def _lost(self, attempt: Attempt) -> None:
        log.debug("lease of message %s lost: another attempt owns it", attempt.ctx.message_id)
        attempt.end()

    # --------------------------------------------------------------------------- what is committed

    def _kept(self, attempt: Attempt) -> Txn:
        """The effects that commit although the handler did not just return."""
        ctx, outcome, on_error = attempt.ctx, attempt.outcome, attempt.binding.step.on_error
        if not isinstance(outcome, Failed):
            return ctx.end()
        if ctx.clears:
            ctx.logger.tell(logging.INFO, "Nothing is cleared: the attempt failed")
        if on_error == "keep_all":
            return ctx.end(clears=False)
        attempt.dropped = ctx.enqueued
        if on_error == "discard":
            ctx.end()
            return NO_EFFECTS
        if dropped := attempt.dropped:
            ctx.logger.tell(logging.INFO, "Enqueues of the failed attempt dropped", {"count": dropped})
        return ctx.end(enqueues=False, clears=False)

    def _settlement(self, attempt: Attempt, effects: Sequence[Op]) -> tuple[Op, ...]:
        """What settles it and, where it is kept, the record of the run; `effects` commit with them."""
        outcome = attempt.outcome
        ops = settle(outcome, attempt.message, attempt.binding.rules, wall_ms=self._clock.wall_ms)
        if not self._recorder.wants(attempt):
            return ops
        dead = isinstance(outcome, Failed) and not isinstance(ops[0], Retry)
        return (*ops, *self._recorder.of_attempt(attempt, effects, dead=dead))


def _without_record(txn: Txn) -> Txn:
    """What a store without room for records may still take."""
    return Txn([op for op in txn.ops if not isinstance(op, Record)], txn.headers)


def _enqueues(txn: Txn) -> int:
    return sum(isinstance(op, Enqueue) and op.dead is None for op in txn.ops)


def describe(error: BaseException) -> str:
    """One line for a message's `error`, whatever the error's own `__str__` does."""
    try:
        said = str(error)
    except Exception:
        said = "(its text cannot be had)"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text[:ERROR_CHARS_MAX].encode(errors="replace").decode()
