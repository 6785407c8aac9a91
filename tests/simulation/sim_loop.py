"""An event loop without a machine: time is a number, and a seed decides which thread runs next.

Every callback belongs to an Actor, a thread of a simulated process, by the context it was made in. Within an
actor callbacks run in the order asyncio promises; between actors the seed chooses, one callback at a time.
An actor that stands still runs nothing until it is woken; one that is dead never again. When nobody has
anything to do, time goes to the next timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType, GeneratorType
from typing import Any, TypeVar

T = TypeVar("T")
CALLBACK_US_MAX = 60
UNWIND_MAX = 100
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class Stuck(AssertionError):
    """Nobody has anything to do, ever."""


class Actor:
    """One thread: what it has to run, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.frozen = self.dead = False
        self.blocked_until_us = 0


current: ContextVar[Actor] = ContextVar("current")
"""The actor that runs; what is scheduled in its context is its own."""


def inside(actor: Actor) -> Context:
    """A context whose callbacks belong to `actor`."""
    context = copy_context()
    context.run(current.set, actor)
    return context


class SimClock:
    """The engine's clock, read from the loop. `turned_ms`: by how much somebody set the calendar."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.turned_ms = 0

    def delay_ms(self) -> int:
        return self._loop.now_us // 1_000

    def wall_ms(self) -> int:
        return START_MS + self.turned_ms + self._loop.now_us // 1_000

    def on_jump(self, call: Callable[[], None]) -> Callable[[], None]:
        """A real clock tells nobody that it was set."""
        return lambda: None


class _Numbered:
    """Hashed by its number and not by its address, so that sets have the same order in every run."""

    _loop: SimLoop

    def __hash__(self) -> int:
        return self.number


class SimTask(_Numbered, asyncio.Task):  # type: ignore[type-arg]
    def __init__(self, number: int, *args: Any, **options: Any) -> None:
        self.number = number
        super().__init__(*args, **options)


class SimFuture(_Numbered, asyncio.Future):  # type: ignore[type-arg]
    def __init__(self, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(**options)


class SimLoop(asyncio.AbstractEventLoop):
    """`random` is the one source of chance; whoever simulates draws from it too."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = 1_000_000_000
        self.outside = Actor("outside")  # whoever watches: never dies
        self._actors = [self.outside]
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Actor]] = []
        self._tasks: list[SimTask] = []
        self._count = 0
        self._is_closed = self._is_running = False
        self._thread = threading.get_ident()
        self.mishaps: list[dict[str, Any]] = []  # what would have gone to the log as "exception in callback"

    # -- actors

    def actor(self, name: str) -> Actor:
        actor = Actor(name)
        self._actors.append(actor)
        return actor

    def spawn(self, actor: Actor, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.create_task(work, context=inside(actor))

    def kill(self, actor: Actor) -> None:
        """Nothing of it runs again, not even what would tidy up."""
        actor.dead = True
        actor.ready.clear()
        if actor in self._actors:
            self._actors.remove(actor)

    # -- running

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.spawn(self.outside, work)
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            while not task.done():
                self._turn()
        finally:
            self._is_running = False
            asyncio._set_running_loop(before)
        return task.result()

    def _turn(self) -> None:
        """Run one callback of one actor, or let time pass until there is one."""
        self._expire()
        now_us = self.now_us
        able = [a for a in self._actors if a.ready and not a.frozen and a.blocked_until_us <= now_us]
        if not able:
            self._wait()
            return
        actor = able[0] if len(able) == 1 else able[int(self.random.random() * len(able))]
        handle = actor.ready.popleft()
        if not handle.cancelled():
            self.now_us += 1 + int(self.random.random() * CALLBACK_US_MAX)
            handle._run()

    def _expire(self) -> None:
        timers = self._timers
        now_s = self.now_us / 1e6
        while timers and timers[0][0] <= now_s:
            _, _, handle, actor = heapq.heappop(timers)
            if not actor.dead and not handle.cancelled():
                actor.ready.append(handle)

    def _wait(self) -> None:
        while self._timers and (self._timers[0][2].cancelled() or self._timers[0][3].dead):
            heapq.heappop(self._timers)
        times = [int(self._timers[0][0] * 1e6) + 1] if self._timers else []
        times += [a.blocked_until_us for a in self._actors if a.ready and not a.frozen]
        if not times:
            raise Stuck("nobody has anything to do, and no timer runs")
        self.now_us = max(self.now_us, min(times))

    def close(self) -> None:
        """Unwind what the dead left, without letting it do anything."""
        self._is_closed = True
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _unwind(task.get_coro())
            elif not task.cancelled() and task._log_traceback:  # type: ignore[attr-defined]
                self.mishaps.append({"message": "a task died", "exception": task.exception()})
        asyncio._set_running_loop(before)
        self._tasks.clear()
        self._timers.clear()

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now_us / 1e6

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        actor = context.get(current, self.outside)
        if not actor.dead and not self._is_closed:
            actor.ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> asyncio.Handle:
        """A thread of the real machine finds this loop closed: what it did would be another run each time."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a simulated loop is closed to threads")
        return self.call_soon(callback, *args, **options)

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context = copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._number(), handle, context.get(current, self.outside)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(self._number(), loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = SimTask(self._number(), coro, loop=self, **options)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.mishaps.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def _number(self) -> int:
        self._count += 1
        return self._count


def _unwind(work: Any) -> None:
    """Close a coroutine from its innermost await on, whatever each still wants to wait for on its way out."""
    for _ in range(UNWIND_MAX):
        if inspect.getcoroutinestate(work) == inspect.CORO_CLOSED:
            return
        inner = work
        while (awaited := _awaited(inner)) is not None:
            inner = awaited
        with contextlib.suppress(BaseException):  # it is dead: nobody hears what it says to that
            inner.close()
    raise AssertionError(f"{work} cannot be unwound")


def _awaited(work: Any) -> Any:
    """The coroutine or generator that `work` waits in, unless that has ended."""
    if isinstance(work, CoroutineType):
        awaited = work.cr_await
    else:
        awaited = work.gi_yieldfrom
    if isinstance(awaited, CoroutineType):
        return awaited if awaited.cr_frame is not None else None
    return awaited if isinstance(awaited, GeneratorType) and awaited.gi_frame is not None else None
