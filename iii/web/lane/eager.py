"""Runs coroutines at once, up to their first wait; one that waits goes on in a task. Knows no HTTP.

Most requests are answered without waiting for anything: those cost no task. The first part of a coroutine
runs as the task that will take over the rest, if there is one: `asyncio.current_task()` and what builds on it
(`asyncio.timeout`, a TaskGroup) see one task from beginning to end. Python 3.12 has this as eager tasks;
`_enter_task` and `_leave_task` are asyncio's documented interface for it since 3.7 ("Extending").
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Generic, TypeVar, cast

from iii_core.coroutines import first_step

__all__ = ["Eager"]

T = TypeVar("T")


class Eager(Generic[T]):
    """For one event loop; made on it. Begin nothing from inside a task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spare: _Spare[T] = _Spare(self._loop)

    def begin(self, call: Callable[..., T | Coroutine[Any, Any, T]], *args: Any) -> T | asyncio.Task[T]:
        """What `call(*args)` returns; where that is a coroutine, what that returns, or the task in which it
        goes on. It raises what they raise at once."""
        spare, loop = self._spare, self._loop
        task = spare.task
        if task.done():  # a handler cancelled all tasks
            spare = self._spare = _Spare(loop)
            task = spare.task
        _enter_task(loop, task)
        try:
            work = call(*args)
            if type(work) is not CoroutineType:
                done: T = work  # type: ignore[assignment]
                return done
            returned, value = first_step(work)
        finally:
            _leave_task(loop, task)
            if task.cancelling():  # by the work itself, which may have ended all the same
                self._spare = _Spare(loop)
        if returned:
            done = value
            return done
        spare.take_over(work, value)
        self._spare = _Spare(loop)
        return task

    async def aclose(self) -> None:
        """Begin nothing afterwards. What runs goes on."""
        self._spare.task.cancel()
        await asyncio.wait((self._spare.task,))


class _Spare(Generic[T]):
    """A task that waits for work that has begun."""

    __slots__ = ("_awaited", "_wake", "_work", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._work: Coroutine[Any, Any, T] | None = None
        self._awaited: Any = None
        self._wake: asyncio.Future[None] = loop.create_future()
        run = self._run()
        run.send(None)  # up to `_begun`: a task that is cancelled before its first step never begins its work
        self.task: asyncio.Task[T] = loop.create_task(run)

    def take_over(self, work: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._work, self._awaited = work, awaited
        if not self._wake.done():  # cancelled: it wakes by that
            self._wake.set_result(None)

    async def _run(self) -> T:
        error: BaseException | None = None
        try:
            await _begun()
            if self._work is None:
                await self._wake
        except asyncio.CancelledError as cancelled:
            error = cancelled
        work, awaited = self._work, self._awaited
        self._work = self._awaited = None
        if work is None:
            assert error is not None
            raise error
        if error is not None and awaited is not None and awaited.cancel():
            error = None  # as Task.cancel does: what it waits for is cancelled, and tells it
        return await _rest(work, awaited, error)


@types.coroutine
def _begun() -> Generator[None, None, None]:
    yield


@types.coroutine
def _rest(work: Coroutine[Any, Any, T], awaited: Any, error: BaseException | None) -> Generator[Any, Any, T]:
    """The rest of a coroutine that waits for `awaited`; `error` is thrown into it instead."""
    while True:
        resume, value = cast(Any, work.send), cast(Any, None)
        try:
            if error is not None:
                raise error
            value = yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as thrown:
            resume, value, error = work.throw, thrown, None
        try:
            awaited = resume(value)
        except StopIteration as stop:
            return cast(T, stop.value)
