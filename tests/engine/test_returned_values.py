"""What a function returned: done, to be awaited in its turn, or something that nobody will ever run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from engine_kit import one_thread, running, step
from wrapper_kit import Awaitable

import iii
from iii import queue
from iii.running.returned import NESTED_MAX


async def returns(function: Any) -> Any:
    async with one_thread() as call:
        return await call(function)


async def test_what_returns_itself_when_awaited_is_returned() -> None:
    class Pool:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return self

    pool = Pool()

    async def asynchronous(data: Any) -> Any:
        return pool

    async def waits(data: Any) -> Any:
        await asyncio.sleep(0)
        return pool

    for function in (lambda data: pool, asynchronous, waits):
        async with asyncio.timeout(10):
            assert await returns(function) is pool


async def test_what_is_to_be_awaited_without_end_is_an_error() -> None:
    async def one(count: int) -> Any:
        return Awaitable(one(count + 1)) if count <= NESTED_MAX else None

    with pytest.raises(iii.StepError, match="still to be awaited"):
        await returns(lambda data: one(0))


def generator() -> Iterator[int]:
    yield 1


async def asynchronous() -> AsyncIterator[int]:
    yield 1


def retry(times: int) -> Any:
    """A decorator that takes arguments."""
    return lambda function: function


def decorated(times: Any) -> Any:
    def wrapper() -> None: ...

    return wrapper


UNRUN: dict[str, tuple[Any, str]] = {
    "a generator": (generator, "a generator"),
    "an async generator": (asynchronous, "a generator"),
    "a generator expression": (lambda: (each for each in "ab"), "a generator"),
    "a context manager": (contextlib.contextmanager(generator), "a context manager"),
    "an async context manager": (contextlib.asynccontextmanager(asynchronous), "a context manager"),
    "a decorator without its arguments": (lambda: retry(print), "a function"),  # type: ignore[arg-type]
    "a wrapper": (lambda: decorated(1), "a function"),
    "a method of C": (lambda: [].append, "a function"),
    "a bound method": (lambda: Awaitable(1).__await__, "a function"),
    "a partial": (lambda: functools.partial(print, 1), "a function"),
    "a map": (lambda: map(print, "ab"), "a map"),
    "a class": (lambda: iii.Snooze, "a class"),
    "a list of coroutines": (lambda: [asyncio.sleep(0), asyncio.sleep(0)], "several coroutines"),
    "one among others": (lambda: ("done", asyncio.sleep(0)), "several coroutines"),
}


@pytest.mark.parametrize("form", UNRUN)
async def test_a_message_handler_that_returns_what_nobody_runs_fails(form: str) -> None:
    made, what = UNRUN[form]
    ran: list[Any] = []
    steps = (
        step(lambda data: made(), queue("in", config={"max_retries": 0}), name="Handler"),
        step(
            ran.append,
            queue("on", condition=lambda data: made(), config={"max_retries": 0}),
            name="Condition",
        ),
    )
    async with running(*steps) as app:
        await app.send("in")
        await app.send("on")
        await app.settle()
        for topic in ("in", "on"):
            (letter,) = app.letters(f"{topic}.failed")
            assert letter.dead is not None and f"returned {what}, " in letter.dead.error
            assert "nothing in it ran: " in letter.dead.error
        assert ran == []


async def test_what_is_under_way_or_done_may_be_returned() -> None:
    async def handler(data: Any) -> Any:
        done = asyncio.sleep(0)
        await done
        return [done, asyncio.ensure_future(asyncio.sleep(0)), [], {}]

    async with running(step(handler, queue("in", config={"max_retries": 0}))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == []


async def inner(data: Any, ctx: Any) -> None:
    await ctx.state.set("a", "1", 1)


def steps_by_hand(data: Any, ctx: Any) -> Any:
    inner(data, ctx).send(None)


def runs_the_value(data: Any, ctx: Any) -> Any:
    asyncio.run(ctx.state.set("a", "1", 1))


def needs_a_loop(data: Any, ctx: Any) -> Any:
    return asyncio.get_running_loop()


def awaits_nothing(data: Any, ctx: Any) -> Any:
    async def main() -> None:
        ctx.state.get("a", "1", {})["n"] = 1

    asyncio.run(main())


def stores_a_call(data: Any, ctx: Any) -> Any:
    async def main() -> None:
        await ctx.state.set("a", "1", {"n": ctx.state.get("a", "1")})

    asyncio.run(main())


EXPLAINED = {
    steps_by_hand: "leave `await` out",
    runs_the_value: "leave `await` out",
    needs_a_loop: "a thread, which has no loop",
    awaits_nothing: "calls of ctx are to be awaited",
    stores_a_call: "calls of ctx are to be awaited",
}


@pytest.mark.parametrize("handler", EXPLAINED, ids=lambda each: each.__name__)
async def test_what_is_awaited_where_it_cannot_be_or_not_at_all_is_explained(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(step(handler, queue("in", config={"max_retries": 0}))) as app:
        await app.send("in")
        await app.settle()
        assert len(app.letters("in.failed")) == 1
    assert EXPLAINED[handler] in caplog.text


async def test_a_cached_handler_runs_once_for_each_input() -> None:
    ran: list[int] = []

    @functools.lru_cache
    def handler(data: int) -> None:
        ran.append(data)

    async with running(step(handler, queue("in", config={"concurrency": 1}))) as app:
        for n in (1, 2, 1):
            await app.send("in", n)
        await app.settle()
        assert ran == [1, 2]
