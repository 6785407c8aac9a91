"""Runs one message: build its context, call the handler, settle, commit. All in one Txn.

Owns an attempt from its start to its outcome; settler.py commits what follows. Knows no queue and no slot:
whoever claimed the message waits here until it is settled and its thread has ended. Requests use `open` and
`call` alone; who answers them settles their context.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from iii.errors import InputError, StoreError, ValidationError
from iii.formats.units import duration_text
from iii.handling.context import Context, Runtime, StartedBy
from iii.model import Message
from iii.running.bindings import Binding, Start
from iii.running.invoke import Invoker, Late, StillRunning, Waiting
from iii.running.retry import DONE, Cancelled, Failed, Outcome, Snoozed, doom
from iii.running.settler import Settler, describe
from iii.running.timers import Timers
from iii.schema.validator import parse_json
from iii.step import Cancel, Snooze, Step
from iii.trace import Trace

__all__ = ["Runner"]

_OUR_MODULES = frozenset({"iii.running.runner", "iii.running.invoke"})


class Runner:
    """`keeps_runs`: whether failed attempts leave a run record."""

    def __init__(
        self, runtime: Runtime, timers: Timers, invoker: Invoker, *, keeps_runs: bool = True
    ) -> None:
        self._runtime, self._store, self._invoker = runtime, runtime.store, invoker
        self._settler = Settler(runtime.store, timers, keeps_runs)
        self._sleep = timers.sleep
        self._draining = False

    # ------------------------------------------------------------------------------------- requests

    def open(self, step: Step, trigger: StartedBy, trace: Trace | None) -> Context:
        """The context of a request; whoever opens it settles or drops it."""
        return Context(self._runtime, step, trigger, trace=trace)

    async def call(
        self,
        target: Step | Callable[..., Any],
        ctx: Context,
        args: tuple[Any, ...],
        *,
        timeout_ms: int | None = None,
    ) -> Any:
        """What a step's handler, a condition or a middleware returns; it gets as many of `args` as it takes.

        A plain `def` runs in a thread, given ctx's blocking twin. After `timeout_ms`: Late, a TimeoutError.
        """
        if isinstance(target, Step):
            args = args[: target.arity]
            return await self._invoker.invoke(target.handler, target.is_async, args, ctx, timeout_ms)
        return await self._invoker.call(target, ctx, args, timeout_ms)

    # ------------------------------------------------------------------------------------- messages

    def drain(self) -> None:
        """From now on a slot that is cancelled gives its message back; before, only handlers cancel."""
        self._draining = True

    async def give_back(self, message: Message, delay_ms: int = 0) -> None:
        """Release a message that is not settled; the attempt does not count."""
        await self._settler.give_back(message, delay_ms)

    async def run(self, message: Message, binding: Binding) -> None:
        """One attempt, from start to settlement."""
        began = time.perf_counter()
        start = binding.first if binding.single else binding.start(message.headers)
        ctx = Context(self._runtime, binding.step, start.started_by, message=message, sleep=self._sleep)
        thread: asyncio.Future[Any] | None = None
        outcome: Outcome | None = doom(message, binding.rules)
        if outcome is None:
            self._store.start(message.lease)
            try:
                outcome = await self._attempt(message, ctx, binding, start)
            except StillRunning as late:
                outcome, thread = Failed(_timed_out(binding)), late.thread
            except asyncio.CancelledError:
                ctx.drop()
                await self._settler.give_back(message)
                raise
            if ctx.flying:
                ctx.draft.ended = True  # or a task the handler left behind could flush on and on
                await ctx.landed()
        txn = self._settler.txn(ctx, binding, outcome, began)
        try:
            await self._store.submit(txn)
        except (StoreError, InputError) as error:
            await self._settler.land(txn, ctx, binding, began, error)
        else:
            if outcome is not DONE:
                self._settler.report(txn, ctx)
        if thread is not None:
            ctx.logger.warning("Settled as timed out, but its thread still runs and keeps its slot")
            await asyncio.shield(thread)

    async def _attempt(self, message: Message, ctx: Context, binding: Binding, start: Start) -> Outcome:
        """Call the handler. CancelledError leaves only where the slot itself is cancelled."""
        step, timeout_ms = binding.step, binding.rules.timeout_ms
        read = parse_json if start.validator is None else start.validator.validate_json
        try:
            content = read(message.payload)
        except ValidationError as error:
            return Failed(describe(error), final=True)
        try:
            if start.condition is not None:
                wanted = await self._invoker.call(start.condition, ctx, (content, ctx), timeout_ms)
                if not wanted:
                    return DONE
            args = (content, ctx)[: step.arity]
            if step.is_async:
                value = self._invoker.begin(step.handler, args, ctx)
                if isinstance(value, Waiting):
                    value = await self._invoker.finish(value, timeout_ms)
            else:
                value = await self._invoker.invoke(step.handler, False, args, ctx, timeout_ms)
        except (StillRunning, GeneratorExit):
            raise
        except BaseException as error:
            return self._failure(error, ctx, binding)
        return DONE if value is None else _outcome(value)

    def _failure(self, error: BaseException, ctx: Context, binding: Binding) -> Failed:
        """What a handler raised, whatever it is: SystemExit too fails the attempt, not the engine."""
        if isinstance(error, asyncio.CancelledError):
            if self._draining:
                raise error
            _forget_cancellation()
        if isinstance(error, Late):
            ctx.logger.warning("Timed out", after=duration_text(binding.rules.timeout_ms))
            return Failed(_timed_out(binding))
        ctx.logger.warning("Attempt failed", exc_info=_without_our_frames(error))
        return Failed(describe(error))


def _forget_cancellation() -> None:
    """A handler cancelled its own task, which is the slot's."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _without_our_frames(error: BaseException) -> BaseException:
    """The traceback as the step's author reads it: from the handler on."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OUR_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback) if traceback is not None else error


def _outcome(value: object) -> Outcome:
    if isinstance(value, Snooze):
        return Snoozed(value.ms)
    if isinstance(value, Cancel):
        return Cancelled(value.reason)
    return DONE


def _timed_out(binding: Binding) -> str:
    return f"timeout: not done within {duration_text(binding.rules.timeout_ms)}"
