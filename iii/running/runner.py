"""Runs one message: build its context, call the handler, settle, commit. All in one Txn.

Owns an attempt from its start to its outcome; settler.py commits what follows. Knows no queue and no slot.
Requests use `open` and `call` alone; who answers them settles their context.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias, cast

from iii.definitions.handler import Call
from iii.errors import ValidationError
from iii.formats.units import duration_text
from iii.handling.context import Context, Runtime, StartedBy
from iii.model import Message
from iii.observe.capture import told_traceback
from iii.observe.redaction import NOTHING_HIDDEN, Redaction
from iii.running.attempt import Attempt, Slot
from iii.running.bindings import Binding, Start
from iii.running.invoke import Invoker, Late, StillRunning, Waiting
from iii.running.recording import Recorder
from iii.running.retry import DONE, Cancelled, Failed, Outcome, Snoozed, doom
from iii.running.returned import nothing_ran, unrun, yes
from iii.running.settler import Settler, describe
from iii.running.timers import Timers
from iii.schema.validator import parse_json
from iii.step import Cancel, Snooze, Step
from iii.trace import Trace

__all__ = ["Runner"]

_Rest: TypeAlias = "CoroutineType[Any, Any, Any]"
"""What returns what the handler does."""
_OUR_MODULES = frozenset(
    {
        *("iii.running.runner", "iii.running.invoke", "iii.running.tracing"),
        *("iii.running.returned", "iii_core.coroutines"),
    }
)


class Runner:
    """`recorder`: what keeps runs and counts them; None: one that only counts. `redaction`: what is
    hidden in the text of an outcome, which becomes a row of the store, for people to read."""

    def __init__(
        self,
        runtime: Runtime,
        timers: Timers,
        invoker: Invoker,
        *,
        recorder: Recorder | None = None,
        redaction: Redaction = NOTHING_HIDDEN,
    ) -> None:
        self._runtime, self._store, self._invoker = runtime, runtime.store, invoker
        self.recorder = recorder if recorder is not None else Recorder(runtime.store, timers)
        self.sampler = runtime.sampler
        self._settler = Settler(runtime.store, timers, self.recorder, redaction)
        self._without_secrets = redaction.text
        self._sleep = timers.sleep
        self._draining = False
        self.begin, self.finish, self.count = invoker.begin, invoker.finish, runtime.count
        self._wall_ms = runtime.store.clock.wall_ms

    # ------------------------------------------------------------------------------------- requests

    def open(self, step: Step, trigger: StartedBy, trace: Trace | None) -> Context:
        """The context of a request; whoever opens it settles or drops it."""
        return Context(self._runtime, step, trigger, self._wall_ms(), trace)

    async def call(
        self,
        target: Step | Call | Callable[..., Any],
        ctx: Context,
        args: tuple[Any, ...],
        *,
        timeout_ms: int | None = None,
    ) -> Any:
        """What a step's handler, a condition or a middleware returns; it gets as many of `args` as it takes.

        What is not seen to be async runs in a thread, given ctx's blocking twin. After `timeout_ms`: Late, a
        TimeoutError.
        """
        if isinstance(target, Step):
            args = args[: target.arity]
            return await self._invoker.invoke(target.handler, target.is_async, args, ctx, timeout_ms)
        return await self._invoker.call(target, ctx, args, timeout_ms)

    # ------------------------------------------------------------------------------------- messages

    def start(self, message: Message, binding: Binding, slot: Slot) -> Coroutine[Any, Any, None] | None:
        """One attempt, up to where its handler first waits: the rest of it, or None where that has ended.

        To be called, and the rest awaited, inside a task: the handler sees it as its own. `slot.over()` is
        called once, when what follows is committed: later, or from the rest.
        """
        began = time.perf_counter()
        start = binding.first if binding.single else binding.start(message.headers)
        ctx = Context(
            self._runtime, binding.step, start.started_by, self._wall_ms(), None, message, self._sleep,
            message.attempt, message.headers,
        )  # fmt: skip
        attempt = Attempt(message, binding, ctx, began, self._settler, slot)
        outcome: Outcome | None = doom(message, binding.rules)
        binding.meter.started += 1
        if outcome is None:
            self._store.start(message.lease)
            try:
                begun = self._begin(attempt, start)
            except Exception:
                self._settler.abandon(attempt)
                return None
            if type(begun) is CoroutineType:
                return self._rest(attempt, begun, slot)
            outcome = begun
            self._store.end(message.lease)
        self._settler.settle(attempt, outcome)
        return None

    def _begin(self, attempt: Attempt, start: Start) -> Outcome | _Rest:
        """The outcome of a handler that never waits, or the rest of one that does."""
        step, ctx = attempt.binding.step, attempt.ctx
        read = parse_json if start.validator is None else start.validator.validate_json
        try:
            content = read(attempt.message.payload)
        except ValidationError as error:
            return Failed(self._without_secrets(describe(error)), final=True)
        if start.condition is not None or not step.is_async:
            return cast(_Rest, self._called(attempt, start, content))
        try:
            value = self._invoker.begin(step.handler, (content, ctx)[: step.arity], ctx)
        except BaseException as error:
            return self._failure(error, attempt)
        if type(value) is Waiting:
            return cast(_Rest, self._invoker.finish(value, attempt.binding.rules.timeout_ms))
        return DONE if value is None else self._outcome(value)

    async def _called(self, attempt: Attempt, start: Start, content: Any) -> Any:
        """What a handler behind a condition, or in a thread, returns."""
        step, ctx, timeout_ms = attempt.binding.step, attempt.ctx, attempt.binding.rules.timeout_ms
        if start.condition is not None:
            wanted = await self._invoker.call(start.condition, ctx, (content, ctx), timeout_ms)
            if not yes(wanted):
                return None
        args = (content, ctx)[: step.arity]
        return await self._invoker.invoke(step.handler, step.is_async, args, ctx, timeout_ms)

    async def _rest(self, attempt: Attempt, handler: _Rest, slot: Slot) -> None:
        """See an attempt through whose handler waits. CancelledError: the slot itself was cancelled."""
        ctx, thread = attempt.ctx, None
        try:
            try:
                outcome = self._outcome(await handler)
            except StillRunning as late:
                outcome, thread = Failed(_timed_out(attempt.binding)), late.thread
            except GeneratorExit:
                raise
            except BaseException as error:
                outcome = self._failure(error, attempt)
            finally:
                self._store.end(attempt.message.lease)
            if ctx.calls and thread is None:
                await ctx.arrived()
            if ctx.flight is not None:
                ctx.draft.ended = True  # or a task the handler left behind could flush on and on
                await ctx.landed()
        except asyncio.CancelledError:
            ctx.drop()
            self._settler.give_back(attempt)
            raise
        except Exception:
            self._settler.abandon(attempt)
            return
        if thread is None:
            self._settler.settle(attempt, outcome)
            return
        slot.detach()
        self._settler.settle(attempt, outcome)
        told = "Settled as timed out, but its thread still runs and keeps its slot"
        ctx.logger.tell(logging.WARNING, told)
        try:
            await asyncio.shield(thread)
        finally:
            slot.attach()

    def drain(self) -> set[asyncio.Task[None]]:
        """From now on a slot that is cancelled gives its message back; before, only handlers cancel.

        Settlements that still wait for the store are given up; the tasks to wait for.
        """
        self._draining = True
        return self._settler.stop()

    def forget_cancellation(self, task: asyncio.Task[Any]) -> bool:
        """A handler cancelled its own task, which is the slot's; False where the slot is to end."""
        if self._draining:
            return False
        while task.cancelling():
            task.uncancel()
        return True

    def _outcome(self, value: object) -> Outcome:
        if isinstance(value, Snooze):
            return Snoozed(value.ms)
        if isinstance(value, Cancel):
            return Cancelled(self._without_secrets(str(value.reason)))
        if (what := unrun(value)) is not None:
            return Failed(nothing_ran(what))
        return DONE

    def _failure(self, error: BaseException, attempt: Attempt) -> Failed:
        """What a handler raised, whatever it is: SystemExit too fails the attempt, not the engine."""
        ctx, rules = attempt.ctx, attempt.binding.rules
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and not self.forget_cancellation(task):
                raise error
        if isinstance(error, Late):
            ctx.logger.tell(logging.WARNING, "Timed out", {"after": duration_text(rules.timeout_ms)})
            return Failed(_timed_out(attempt.binding))
        trimmed = _without_our_frames(error)
        ctx.logger.tell(logging.WARNING, "Attempt failed", exc_info=trimmed)
        if self.recorder.keeps:
            attempt.traceback = told_traceback(trimmed)
        return Failed(self._without_secrets(describe(error)))


def _without_our_frames(error: BaseException) -> BaseException:
    """The traceback as the step's author reads it: from the handler on."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OUR_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback) if traceback is not None else error


def _timed_out(binding: Binding) -> str:
    return f"timeout: not done within {duration_text(binding.rules.timeout_ms)}"
