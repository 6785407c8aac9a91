"""Calls a user's function: awaited or in a thread, with its own context variables and a deadline.

Owns the use of the thread pools and the ambient context. An `async def` runs inside the caller's task, but
each call in a copy of the caller's context variables, so that none leaks into the next message of a slot.
What is not seen to be async runs in a thread; what it returns to be awaited (it may be a wrapper) then runs
as an `async def` does, in the variables as the thread left them and in the time that the thread left.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import Any, NamedTuple

from msgspec import Struct

from iii.clock import Clock, SystemClock
from iii.definitions.handler import Call
from iii.handling.ambient import running
from iii.handling.blocking import BlockingContext
from iii.handling.context import Context
from iii.running.forks import Forks, keep_out
from iii.running.returned import awaiting, discard, explain, unfinished
from iii.running.timers import Timers
from iii.threads import started
from iii_core.coroutines import first_step

__all__ = ["GRACE_MS", "Invoker", "Late", "StillRunning", "Waiting", "thread_waits"]

GRACE_MS = 60_000
"""What a handler has for cleaning up after its timeout."""

thread_waits: ContextVar[bool] = ContextVar("iii.thread_waits", default=False)
"""Whether a thread of the requests' pool waits for what is called here: this must not wait for another."""

log = logging.getLogger("iii.running")


class Late(TimeoutError):
    """The deadline of the call passed; what it did was cancelled."""


class StillRunning(Late):
    """The deadline passed, but a thread cannot be stopped: `thread` is done when it has ended."""

    def __init__(self, thread: asyncio.Future[Any]) -> None:
        super().__init__("the handler's thread still runs")
        self.thread = thread


class Invoker:
    """Where plain `def` functions run: `messages` has a thread for each slot that may need one, `requests`
    (if not given: the same) as many as the engine grants HTTP. `clock`: that of `timers`.
    """

    def __init__(
        self,
        timers: Timers,
        messages: Executor,
        requests: Executor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._timers, self._clock = timers, clock or SystemClock()
        self._messages, self._requests = messages, requests or messages
        self._loop = asyncio.get_running_loop()
        keep_out(self._loop)

    async def call(
        self,
        function: Call | Callable[..., Any],
        ctx: Context,
        args: tuple[Any, ...],
        timeout_ms: int | None = None,
    ) -> Any:
        """The function's result; of `args` it gets as many as it takes. Late after `timeout_ms`."""
        call = function if isinstance(function, Call) else Call.of(function)
        return await self.invoke(call.function, call.is_async, args[: call.arity], ctx, timeout_ms)

    async def invoke(
        self,
        function: Callable[..., Any],
        is_async: bool,
        args: tuple[Any, ...],
        ctx: Context,
        timeout_ms: int | None,
    ) -> Any:
        """As `call`, for a function whose shape is known."""
        if not is_async:
            return await self._in_thread(function, args, ctx, timeout_ms)
        begun = self.begin(function, args, ctx)
        return await self.finish(begun, timeout_ms) if isinstance(begun, Waiting) else begun

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], ctx: Context) -> Any:
        """Run an `async def` up to where it first waits: a Waiting for `finish`, or its result.

        So a handler that never waits costs neither a task nor a timer nor a coroutine of ours.
        """
        variables = contextvars.copy_context()
        return variables.run(_first_part, function, args, ctx, variables)

    async def finish(self, waiting: Waiting, timeout_ms: int | None) -> Any:
        """See a function that waits through to its end. Late after `timeout_ms`."""
        if timeout_ms is None:
            return await _drive(waiting)
        deadline = _Deadline(self._timers, timeout_ms, waiting, self._loop)
        try:
            value = await _drive(waiting)
        except BaseException as error:
            if deadline.passed():
                raise Late from error
            raise
        if deadline.passed():  # it caught the cancellation and returned all the same
            raise Late
        return value

    async def _in_thread(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        ctx: Context,
        timeout_ms: int | None,
    ) -> Any:
        """A call that is cancelled before a thread took it never begins."""
        variables = contextvars.copy_context()
        variables.run(running.set, ctx)
        twin = BlockingContext(ctx)
        own = tuple(twin if arg is ctx else arg for arg in args)
        work = _Work(function, own, self._clock)
        job = self._submit(functools.partial(variables.run, work), ctx)
        thread = asyncio.wrap_future(job, loop=self._loop)
        try:
            if timeout_ms is None:
                result = await asyncio.shield(thread)
            else:
                result = await self._unless_late(work, thread, timeout_ms)
        except BaseException:  # nobody takes what it returns
            if not job.cancel():
                job.add_done_callback(_abandoned)
            raise
        if isinstance(result.error, GeneratorExit):  # to raise it would close the caller
            raise RuntimeError("the handler raised GeneratorExit") from result.error
        if result.error is not None:
            explain(result.error)
            raise result.error
        if not unfinished(result.value):
            return result.value
        if timeout_ms is not None:
            timeout_ms -= work.spent_ms()
            if timeout_ms <= 0:
                discard(result.value)
                raise Late
        begun = variables.run(_first_part, awaiting, (result.value,), ctx, variables)
        return await self.finish(begun, timeout_ms) if isinstance(begun, Waiting) else begun

    def _submit(self, work: Callable[[], _Result], ctx: Context) -> Future[_Result]:
        if ctx.trigger.type != "http":
            return self._messages.submit(work)
        return started(work, "iii-http-behind") if thread_waits.get() else self._requests.submit(work)

    async def _unless_late(self, work: _Work, thread: asyncio.Future[_Result], timeout_ms: int) -> _Result:
        """The time counts from when the thread began: what waits for a thread is not late."""
        left_ms = timeout_ms
        while left_ms > 0:
            late: asyncio.Future[None] = self._loop.create_future()
            handle = self._timers.after(left_ms, functools.partial(_resolve, late))
            try:
                await asyncio.wait((thread, late), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._timers.cancel(handle)
            if thread.done():
                return thread.result()
            left_ms = timeout_ms - work.spent_ms()
        raise StillRunning(thread)


class Waiting(Struct):
    """An `async def` that waits: its coroutine, what it waits for, and the variables it runs in.

    is_last: what it returns is not awaited in its turn."""

    work: Coroutine[Any, Any, Any]
    awaited: Any
    variables: contextvars.Context
    is_last: bool = False


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _abandoned(job: Future[_Result]) -> None:
    """The thread of a call that is over already has ended."""
    if not job.cancelled():
        discard(job.result().value)


class _Result(NamedTuple):
    value: Any
    error: BaseException | None


class _Work:
    """What runs in the thread. The exception is a value, since a Future refuses some (StopIteration)."""

    __slots__ = ("_args", "_began_ms", "_clock", "_function")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], clock: Clock) -> None:
        self._function, self._args, self._clock = function, args, clock
        self._began_ms: int | None = None

    def __call__(self) -> _Result:
        self._began_ms = self._clock.delay_ms()
        forks = Forks.count
        try:
            return _Result(self._function(*self._args), None)
        except BaseException as error:
            return _Result(None, error)
        finally:
            if Forks.count != forks:
                Forks.end()

    def spent_ms(self) -> int:
        """Since it began in its thread."""
        return 0 if self._began_ms is None else self._clock.delay_ms() - self._began_ms


class _Deadline:
    """Cancels the current task when it passes. Who ignores that is ended where it waits, GRACE_MS later."""

    __slots__ = ("_cancels", "_handle", "_task", "_timers", "_waiting")

    def __init__(
        self, timers: Timers, timeout_ms: int, waiting: Waiting, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._timers, self._waiting, self._cancels = timers, waiting, 0
        self._task = asyncio.current_task(loop)  # to ask for the running loop is a system call
        self._handle = timers.after(timeout_ms, self._cancel)

    def passed(self) -> bool:
        """Stop it. Whether it was this deadline alone that ended the work; takes its cancellations back."""
        self._timers.cancel(self._handle)
        cancels, self._cancels = self._cancels, 0
        if not cancels or self._task is None:
            return False
        return min(self._task.uncancel() for _ in range(cancels)) == 0

    def _cancel(self) -> None:
        assert self._task is not None
        if self._cancels:
            self._end()
        self._cancels += 1
        self._task.cancel()
        self._handle = self._timers.after(GRACE_MS, self._cancel)

    def _end(self) -> None:
        """GeneratorExit is caught by few, and what catches it cannot go on waiting."""
        log.warning("%r ignores its cancellation: it is ended where it waits", self._waiting.work)
        with contextlib.suppress(RuntimeError):  # it ignores that too
            self._waiting.variables.run(self._waiting.work.close)


def _first_part(
    function: Callable[..., Any], args: tuple[Any, ...], ctx: Context, variables: contextvars.Context
) -> Any:
    """See Invoker.begin. To be run in `variables`."""
    running.set(ctx)
    forks = Forks.count
    try:
        work = function(*args)
        returned, value = first_step(work)
        if returned and (value is None or type(value) is dict):  # most
            return value
        is_last = function is awaiting
        if returned and not is_last and unfinished(value):
            work, is_last = awaiting(value), True
            returned, value = first_step(work)
        return value if returned else Waiting(work, value, variables, is_last)
    except GeneratorExit as error:
        raise RuntimeError("the handler raised GeneratorExit") from error
    finally:
        if Forks.count != forks:
            Forks.end()


@types.coroutine
def _drive(waiting: Waiting) -> Generator[Any, Any, Any]:
    """Run the rest of a coroutine in the caller's task, but inside its own variables."""
    work, awaited, variables = waiting.work, waiting.awaited, waiting.variables
    forks = Forks.count
    while True:
        try:
            value = yield awaited
            resume: Callable[[Any], Any] = work.send
        except GeneratorExit:
            variables.run(work.close)
            raise
        except BaseException as error:
            resume, value = work.throw, error
        try:
            awaited = variables.run(resume, value)
        except StopIteration as stop:
            value = stop.value
            break
        except GeneratorExit as error:  # the handler's own: nobody closes this generator
            raise RuntimeError("the handler raised GeneratorExit") from error
        finally:
            if Forks.count != forks:
                Forks.end()
    if value is None or waiting.is_last or not unfinished(value):
        return value
    return (yield from _drive_on(waiting, value))


@types.coroutine
def _drive_on(waiting: Waiting, value: Any) -> Generator[Any, Any, Any]:
    """See through what a coroutine returned to be awaited. A deadline then ends that."""
    variables = waiting.variables
    begun = variables.run(_first_part, awaiting, (value,), variables[running], variables)
    if not isinstance(begun, Waiting):
        return begun
    waiting.work, waiting.awaited, waiting.is_last = begun.work, begun.awaited, True
    return (yield from _drive(waiting))
