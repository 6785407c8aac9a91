"""What people wrap handlers in: each makes of an `async def` (data, ctx) something that does the same."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import types
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import uvloop

AsyncHandler = Callable[..., Any]


def plain(inner: AsyncHandler) -> Any:
    def wrapper(*args: Any, **named: Any) -> Any:
        return inner(*args, **named)

    return wrapper


def wraps(inner: AsyncHandler) -> Any:
    @functools.wraps(inner)
    def wrapper(*args: Any, **named: Any) -> Any:
        return inner(*args, **named)

    return wrapper


def forgets_to_await(inner: AsyncHandler) -> Any:
    async def wrapper(data: Any, ctx: Any) -> Any:
        return inner(data, ctx)

    return wrapper


def waits_and_forgets_to_await(inner: AsyncHandler) -> Any:
    async def wrapper(data: Any, ctx: Any) -> Any:
        await asyncio.sleep(0)
        return inner(data, ctx)

    return wrapper


class Wrapper:
    def __init__(self, inner: AsyncHandler) -> None:
        self.inner = inner

    def __call__(self, data: Any, ctx: Any) -> Any:
        return self.inner(data, ctx)

    def method(self, *args: Any) -> Any:
        return self.inner(*args)

    async def async_method(self, data: Any, ctx: Any) -> Any:
        return await self.inner(data, ctx)


class AsyncWrapper:
    def __init__(self, inner: AsyncHandler) -> None:
        self.inner = inner

    async def __call__(self, data: Any, ctx: Any) -> Any:
        return await self.inner(data, ctx)


class Awaitable:
    def __init__(self, work: Any) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.work.__await__()  # type: ignore[no-any-return]


def awaitable(inner: AsyncHandler) -> Any:
    return lambda data, ctx: Awaitable(inner(data, ctx))


def of_the_loop(inner: AsyncHandler, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of the coroutine on the engine's loop, from the wrapper's thread."""
    loop = asyncio.get_running_loop()

    def wrapper(data: Any, ctx: Any) -> Any:
        async def made() -> Any:
            return make(inner(data, ctx))

        return asyncio.run_coroutine_threadsafe(made(), loop).result(10)

    return wrapper


def task(inner: AsyncHandler) -> Any:
    return of_the_loop(inner, asyncio.ensure_future)


def future_of_a_thread(inner: AsyncHandler) -> Any:
    loop = asyncio.get_running_loop()
    return lambda data, ctx: asyncio.run_coroutine_threadsafe(inner(data, ctx), loop)


def old_coroutine(inner: AsyncHandler) -> Any:
    @types.coroutine
    def wrapper(data: Any, ctx: Any) -> Any:
        return (yield from inner(data, ctx))

    return wrapper


def reads_first(inner: AsyncHandler) -> Any:
    """A wrapper that uses ctx itself, in its thread."""

    def wrapper(data: Any, ctx: Any) -> Any:
        ctx.state.set("wrapper", "saw", ctx.state.get("wrapper", "none", "nothing"))
        assert ctx.state.get("wrapper", "saw") == "nothing"
        return inner(data, ctx)

    return wrapper


def until_complete(work: Any) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def kept_runner(inner: AsyncHandler) -> Any:
    """Runs each coroutine in a task of a loop that awaits other things too."""

    def wrapper(data: Any, ctx: Any) -> Any:
        async def main() -> Any:
            value, _ = await asyncio.gather(inner(data, ctx), asyncio.sleep(0))
            return value

        with asyncio.Runner() as runner:
            return runner.run(main())

    return wrapper


def in_another_thread(inner: AsyncHandler) -> Any:
    """As asgiref's async_to_sync: a loop in a thread beside, with the context variables of this one."""

    def wrapper(data: Any, ctx: Any) -> Any:
        variables = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(variables.run, asyncio.run, inner(data, ctx)).result()

    return wrapper


RUNS: dict[str, Callable[[Any], Any]] = {
    "asyncio.run": asyncio.run,
    "run_until_complete": until_complete,
    "uvloop.run": uvloop.run,
    "anyio.run": lambda work: anyio.run(lambda: work),
}
"""Loops of their own that wrappers run a coroutine in."""


def runs_in(run: Callable[[Any], Any]) -> Callable[[AsyncHandler], Any]:
    return lambda inner: lambda data, ctx: run(inner(data, ctx))


OWN_LOOPS: dict[str, Callable[[AsyncHandler], Any]] = {
    **{name: runs_in(run) for name, run in RUNS.items()},
    "asyncio.Runner": kept_runner,
    "a loop in a thread beside": in_another_thread,
    "asyncio.run around a decorator": lambda inner: runs_in(asyncio.run)(wraps(inner)),
}

WRAPPED: dict[str, Callable[[AsyncHandler], Any]] = {
    "a plain decorator": plain,
    "functools.wraps": wraps,
    "a lambda": lambda inner: lambda data, ctx: inner(data, ctx),
    "functools.partial": functools.partial,
    "a partial of a decorated function": lambda inner: functools.partial(plain(inner)),
    "an object": Wrapper,
    "an async object": AsyncWrapper,
    "a bound method": lambda inner: Wrapper(inner).method,
    "an async bound method": lambda inner: Wrapper(inner).async_method,
    "two decorators": lambda inner: wraps(plain(inner)),
    "a decorator of an object": lambda inner: plain(Wrapper(inner)),
    "an async function that forgets to await": forgets_to_await,
    "one that waits before": waits_and_forgets_to_await,
    "an async function that forgets to await a decorated one": lambda inner: forgets_to_await(wraps(inner)),
    "an object to await": awaitable,
    "an object to await, decorated": lambda inner: wraps(awaitable(inner)),
    "a task of the loop": task,
    "a future of a thread": future_of_a_thread,
    "a coroutine of old": old_coroutine,
    "a wrapper that uses ctx": reads_first,
    **OWN_LOOPS,
}


class Held:
    """A wrapper that stands in its thread until it is let go."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._loop = inner, asyncio.get_running_loop()
        self.inside, self.release = asyncio.Event(), threading.Event()
        self.made: list[Any] = []

    def __call__(self, data: Any, ctx: Any) -> Any:
        self._loop.call_soon_threadsafe(self.inside.set)
        assert self.release.wait(10)
        self.made.append(self._inner(data, ctx))
        return self.made[-1]

    async def entered(self) -> None:
        async with asyncio.timeout(10):
            await self.inside.wait()
