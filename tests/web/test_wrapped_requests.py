"""Handlers, conditions and middleware of routes, wrapped by anything: they run and commit what they wrote."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from web_kit import REQUEST_THREADS, get, post, site
from wrapper_kit import RUNS, WRAPPED, plain, wraps

import iii
from iii.step import Response

forms = pytest.mark.parametrize("form", WRAPPED)


async def writes(request: Any, ctx: Any) -> Any:
    before = await ctx.state.get("orders", "a", {"n": 0})
    await ctx.state.set("orders", "a", {"n": before["n"] + request.body["n"]})
    await iii.enqueue("order.made", {"n": 1})
    await asyncio.sleep(0)
    return {"status": 201, "body": await ctx.state.get("orders", "a")}


@forms
async def test_a_wrapped_handler_answers_and_what_it_wrote_commits(form: str) -> None:
    async with site(post("/", WRAPPED[form](writes))) as running:
        reply = await running.send("POST", "/", json={"n": 1})
        assert (reply.status, reply.json()) == (201, {"n": 1})
        assert running.value("orders", "a") == {"n": 1} and len(running.queued("order.made")) == 1


@forms
async def test_a_wrapped_handler_that_raises_is_500_and_wrote_nothing(form: str) -> None:
    async def fails(request: Any, ctx: Any) -> None:
        await ctx.state.set("orders", "a", 1)
        raise ValueError("broken")

    async with site(post("/", WRAPPED[form](fails))) as running:
        assert (await running.send("POST", "/")).status == 500
        assert running.value("orders", "a") is None


@forms
async def test_a_wrapped_condition_decides_whether_there_is_such_a_page(form: str) -> None:
    async def wanted(request: Any, ctx: Any) -> bool:
        return bool(request.body["want"]) and await ctx.state.get("closed", "1") is None

    async with site(post("/", lambda: "ok", condition=WRAPPED[form](wanted))) as running:
        assert (await running.send("POST", "/", json={"want": 0})).status == 404
        assert (await running.send("POST", "/", json={"want": 1})).status == 200


async def test_a_condition_that_returns_a_generator_is_500() -> None:
    async with site(get("/", lambda: "ok", condition=lambda request: (each for each in ()))) as running:
        assert (await running.send("GET", "/")).status == 500


# ----------------------------------------------------------------------------------------- middleware


async def marks(request: Any, ctx: Any, next: Any) -> Any:
    await ctx.state.set("seen", "before", True)
    response = await next()
    await iii.state.set("seen", "after", response.body)
    response.headers["x-marked"] = "yes"
    return response


class Middleware:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any) -> Any:
        return self.inner(*args)


def reads_first(inner: Any) -> Any:
    def middle(request: Any, ctx: Any, next: Any) -> Any:
        ctx.state.set("wrapper", "saw", request.path)
        assert iii.state.get("wrapper", "saw") == request.path
        return inner(request, ctx, next)

    return middle


MIDDLEWARE = {
    "a plain decorator": plain,
    "functools.wraps": wraps,
    "a lambda": lambda inner: lambda request, ctx, next: inner(request, ctx, next),
    "functools.partial": lambda inner: functools.partial(plain(inner)),
    "an object": Middleware,
    "two decorators": lambda inner: plain(wraps(inner)),
    "a wrapper that uses ctx": reads_first,
    **{
        name: lambda inner, run=run: lambda request, ctx, next: run(inner(request, ctx, next))
        for name, run in RUNS.items()
    },
}


@pytest.mark.parametrize("handler", ["an async handler", "a plain one", "a wrapped one"])
@pytest.mark.parametrize("form", MIDDLEWARE)
async def test_a_wrapped_middleware_stands_around_any_handler(form: str, handler: str) -> None:
    async def asynchronous(request: Any, ctx: Any) -> str:
        return str(await ctx.state.get("seen", "before"))

    def blocking(request: Any, ctx: Any) -> str:
        return str(ctx.state.get("seen", "before"))

    handlers = {
        "an async handler": asynchronous,
        "a plain one": blocking,
        "a wrapped one": plain(asynchronous),
    }
    middle = MIDDLEWARE[form](marks)
    async with site(get("/", handlers[handler], middleware=[middle, middle])) as running:
        reply = await running.send("GET", "/")
        assert (reply.status, reply.body, reply.header("x-marked")) == (200, b"True", "yes")
        assert running.value("seen", "after") == "True"


def runs_next(request: Any, ctx: Any, next: Any) -> Any:
    return asyncio.run(marks(request, ctx, next))


@pytest.mark.parametrize("handler", ["an async handler", "a plain one"])
async def test_middleware_in_loops_of_their_own_cannot_use_up_the_threads_that_they_wait_for(
    handler: str,
) -> None:
    """As many requests as there are threads stand in a middleware before the first goes on."""
    together = threading.Barrier(REQUEST_THREADS)

    def middle(request: Any, ctx: Any, next: Any) -> Any:
        together.wait(10)
        return runs_next(request, ctx, next)

    async def asynchronous(request: Any, ctx: Any) -> str:
        return str(await ctx.state.get("seen", "before"))

    def blocking(request: Any, ctx: Any) -> str:
        return str(ctx.state.get("seen", "before"))

    route = get(
        "/", {"an async handler": asynchronous, "a plain one": blocking}[handler], middleware=[middle]
    )
    async with site(route) as running, asyncio.timeout(20):
        replies = await asyncio.gather(*(running.send("GET", "/") for _ in range(REQUEST_THREADS)))
        assert [each.status for each in replies] == [200] * REQUEST_THREADS


async def test_what_stands_behind_a_middleware_in_a_loop_of_its_own_may_raise_anything() -> None:
    def fails(error: BaseException) -> Any:
        async def handler(request: Any) -> None:
            raise error

        return handler

    seen: list[str] = []

    def middle(request: Any, ctx: Any, next: Any) -> Any:
        async def main() -> Any:
            try:
                return await next()
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

        return asyncio.run(main())

    for error in (ValueError("broken"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()):
        async with site(get("/", fails(error), middleware=[middle])) as running:
            assert (await running.send("GET", "/")).status == 500
            assert running.is_untouched
    assert seen == ["ValueError", "SystemExit", "KeyboardInterrupt", "CancelledError"]


async def test_next_is_run_once_and_only_if_awaited_in_a_loop_of_its_own_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[str] = []

    def twice(request: Any, ctx: Any, next: Any) -> Any:
        async def main() -> Any:
            await next()
            return await next()

        return asyncio.run(main())

    def never(request: Any, ctx: Any, next: Any) -> Any:
        async def main() -> Any:
            next().close()
            return "kept out"

        return asyncio.run(main())

    for middle, status in ((twice, 500), (never, 200)):
        async with site(get("/", lambda: ran.append("ran"), middleware=[middle])) as running:
            assert (await running.send("GET", "/")).status == status
    assert ran == ["ran"] and "middleware twice called next() twice" in caplog.text


async def test_a_late_request_lets_a_middleware_in_a_loop_of_its_own_go() -> None:
    """What it waits for is cancelled: its thread would stand for ever."""
    inside, cancelled, ended = asyncio.Event(), asyncio.Event(), threading.Event()

    async def stands(request: Any, ctx: Any) -> None:
        await ctx.state.set("a", "1", 1)
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def middle(request: Any, ctx: Any, next: Any) -> Any:
        try:
            return runs_next(request, ctx, next)
        finally:
            ended.set()

    async with site(post("/", stands, middleware=[middle])) as running:
        request = asyncio.create_task(running.send("POST", "/"))
        async with asyncio.timeout(10):
            await inside.wait()
            running.clock.advance(running.endpoint.config.timeout_ms)
            assert (await request).status == 504
            await cancelled.wait()
        assert await asyncio.to_thread(ended.wait, 10)
        assert running.is_untouched


# ----------------------------------------------------------------------------------- streamed bodies


async def streams(request: Any, ctx: Any) -> Response:
    async def lines() -> AsyncIterator[str]:
        for n in range(3):
            await asyncio.sleep(0)
            yield f"{n} {await ctx.state.get('a', '1')} {await iii.state.get('a', '1')}\n"
        await ctx.state.set("a", "2", "streamed")
        await ctx.flush()

    await ctx.state.set("a", "1", "x")
    return Response(200, lines())


@forms
async def test_an_async_generator_that_a_wrapped_handler_returns_is_streamed(form: str) -> None:
    async with site(get("/", WRAPPED[form](streams))) as running:
        reply = await running.send("GET", "/")
        assert (reply.status, reply.body) == (200, b"0 x x\n1 x x\n2 x x\n")
        assert running.value("a", "2") == "streamed"


async def test_a_plain_handler_may_stream_from_the_loop_or_from_a_thread() -> None:
    def from_the_loop(request: Any, ctx: Any) -> AsyncIterator[str]:
        async def lines() -> AsyncIterator[str]:
            yield await ctx.state.get("a", "1", "none")

        return lines()

    def from_a_thread(request: Any, ctx: Any) -> Iterator[str]:
        return iter([ctx.state.get("a", "1", "none")])

    for handler in (from_the_loop, from_a_thread):
        async with site(get("/", handler)) as running:
            assert (await running.send("GET", "/")).body == b"none"


# --------------------------------------------------------------------------------------- what is late


async def test_a_request_whose_wrapped_handler_waits_too_long_is_504_and_wrote_nothing() -> None:
    inside = asyncio.Event()

    async def stands(request: Any, ctx: Any) -> None:
        await ctx.state.set("a", "1", 1)
        inside.set()
        await asyncio.Event().wait()

    async with site(post("/", wraps(stands))) as running:
        request = asyncio.create_task(running.send("POST", "/"))
        async with asyncio.timeout(10):
            await inside.wait()
        running.clock.advance(running.endpoint.config.timeout_ms)
        assert (await request).status == 504
        assert running.is_untouched


async def test_others_are_answered_while_a_wrapper_stands_still() -> None:
    loop, inside, answered = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def stands(request: Any, ctx: Any) -> Any:
        loop.call_soon_threadsafe(inside.set)
        assert answered.wait(10)
        return writes(request, ctx)

    async with site(post("/slow", stands), get("/quick", lambda: "ok", name="Quick")) as running:
        slow = asyncio.create_task(running.send("POST", "/slow", json={"n": 1}))
        async with asyncio.timeout(10):
            await inside.wait()
            assert (await running.send("GET", "/quick")).status == 200
            answered.set()
            assert (await slow).status == 201
