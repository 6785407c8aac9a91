"""A call of `ctx` from another thread than the engine's: run on its loop, answered where it was made.

    in a thread without a running loop    `result`: the thread waits
    on a loop that is not the engine's    `PendingCall`: that loop awaits it, and is never held up

Either way the call is on its way once it was made. To cancel an await takes nothing back. Knows no call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from iii.errors import HandlerEnded

if TYPE_CHECKING:
    from iii.handling.context import Context

__all__ = ["PendingCall", "awaited", "done", "result", "send"]

LOOK_S = 1.0
"""How often what waits looks whether the engine's loop is there to answer."""

T = TypeVar("T")

log = logging.getLogger("iii.handling")


def send(ctx: Context, work: Coroutine[Any, Any, T]) -> Future[T]:
    """Have the engine's loop run `work`, after all that was sent before. HandlerEnded where it is closed."""
    try:
        return asyncio.run_coroutine_threadsafe(work, ctx.loop)
    except RuntimeError:
        work.close()
        job: Future[T] = Future()
        job.set_exception(_stopped())
        return job


def result(ctx: Context, job: Future[T], work: Coroutine[Any, Any, T]) -> T:
    """What `work` returned; this thread waits."""
    while True:
        try:
            return job.result(LOOK_S)
        except TimeoutError:
            if job.done():  # else it is the error of `work`
                return job.result()
            if _is_gone(ctx):
                job.cancel()
                work.close()
                raise _stopped() from None


async def awaited(ctx: Context, job: Future[T], work: Coroutine[Any, Any, T]) -> T:
    """As `result`; the running loop waits."""
    ready = done(job)
    while not ready.done():
        await asyncio.wait((ready,), timeout=LOOK_S)
        if not ready.done() and _is_gone(ctx):
            work.close()
            raise _stopped()
    if job.cancelled():
        raise asyncio.CancelledError
    return job.result()


def done(job: Future[Any]) -> asyncio.Future[None]:
    """A future of the running loop that is done when `job` is. It never holds its error; to cancel it
    leaves the job alone."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    if job.done():
        ready.set_result(None)
    else:
        job.add_done_callback(partial(_wake, loop, ready))
    return ready


class PendingCall(Coroutine[Any, Any, T]):
    """A call that was sent, for the caller's loop to await. It runs whether awaited or not; an error that
    nobody awaits is logged. A coroutine, as on the engine's loop: `create_task` takes nothing else.
    """

    __slots__ = ("_ctx", "_is_taken", "_job", "_steps", "_work")

    def __init__(self, ctx: Context, job: Future[T], work: Coroutine[Any, Any, T]) -> None:
        self._ctx, self._job, self._work = ctx, job, work
        self._is_taken = False
        self._steps: Coroutine[Any, Any, T] | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._taken().__await__()

    def send(self, value: Any, /) -> Any:
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        return self._begun().throw(*error)

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()

    def __del__(self) -> None:
        if not self._is_taken:
            self._job.add_done_callback(partial(_tell, self._ctx.step.name))

    def _begun(self) -> Coroutine[Any, Any, T]:
        if self._steps is None:
            self._steps = self._taken()
        return self._steps

    async def _taken(self) -> T:
        try:
            return await awaited(self._ctx, self._job, self._work)
        finally:
            self._is_taken = self._job.done()


def _wake(loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None], _: Future[Any]) -> None:
    with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits
        loop.call_soon_threadsafe(_resolve, ready)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _tell(step: str, job: Future[Any]) -> None:
    if not job.cancelled() and (error := job.exception()) is not None:
        log.warning("%s: a call of ctx that was not awaited has failed", step, exc_info=error)


def _is_gone(ctx: Context) -> bool:
    return ctx.loop.is_closed() or (ctx.ended and not ctx.loop.is_running())


def _stopped() -> HandlerEnded:
    return HandlerEnded("the engine has stopped, nothing was written: this context's attempt is over")
