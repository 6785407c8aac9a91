"""`next` of a middleware: what stands behind it, run once, on the engine's loop, for whoever awaits it.

A middleware that awaits it in a loop of its own holds a thread meanwhile. What stands behind it then gets
threads of its own: if it waited for one of the same pool, as many requests as that has would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeAlias

from iii.errors import StepError
from iii.handling.context import Context
from iii.handling.loops import awaited, send
from iii.running.invoke import thread_waits
from iii.step import Response
from iii.web.response import open_headers

__all__ = ["Next"]

_Outcome: TypeAlias = tuple[Response, None] | tuple[None, BaseException]


class Next:
    """`run` begins what stands behind `middleware`."""

    def __init__(
        self, middleware: object, ctx: Context, run: Callable[[], Coroutine[Any, Any, Response]]
    ) -> None:
        self._middleware, self._ctx, self._run = middleware, ctx, run
        self._called = self._is_over = False
        self._job: Future[_Outcome] | None = None

    def __str__(self) -> str:
        return f"middleware {getattr(self._middleware, '__name__', repr(self._middleware))}"

    async def __call__(self) -> Response:
        if self._called:
            raise StepError(f"{self} called next() twice")
        self._called = True
        if asyncio.get_running_loop() is self._ctx.loop:
            return open_headers(await self._run())
        work = self._elsewhere()
        self._job = job = send(self._ctx, work)
        if self._is_over:  # before this thread could say what to cancel
            job.cancel()
        try:
            response, error = await awaited(self._ctx, job, work)
        finally:
            job.cancel()
        if response is None:
            assert error is not None
            raise error
        return open_headers(response)

    def end(self) -> None:
        """The middleware is over: nobody takes an answer that is still under way in another loop."""
        self._is_over = True
        if self._job is not None:
            self._job.cancel()

    async def _elsewhere(self) -> _Outcome:
        """The error is a value: SystemExit, raised in a task of its own, would end the engine's loop."""
        thread_waits.set(True)
        try:
            return await self._run(), None
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return None, error
