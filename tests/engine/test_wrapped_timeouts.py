"""Wrappers that take long, and what becomes of their coroutine where the attempt is over before it runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import one_thread, running, step, turns
from wrapper_kit import Held, plain, waits_and_forgets_to_await

from iii import http, queue
from iii.config import HttpConfig
from iii.running.invoke import GRACE_MS, Late
from iii.web.request import Request


async def writes(data: Any, ctx: Any) -> None:
    await ctx.state.update("ran", "1", [{"type": "increment", "path": "", "by": 1}])


async def test_a_wrapper_that_stands_still_holds_no_loop() -> None:
    held = Held(writes)
    async with running(step(held, queue("in")), step(writes, queue("other"), name="Other")) as app:
        await app.send("in")
        await held.entered()
        await app.send("other")
        async with asyncio.timeout(10):
            while app.waiting("other"):
                await asyncio.sleep(0)
        held.release.set()
        await app.settle()
        assert await app.value("ran", "1") == 2


KNOBS = {"timeout": "30s", "max_retries": 0, "concurrency": 1}


async def test_the_timeout_covers_wrapper_and_coroutine_together() -> None:
    inside = asyncio.Event()

    async def inner(data: Any, ctx: Any) -> None:
        await ctx.state.set("jobs", "1", "began")
        inside.set()
        await asyncio.Event().wait()

    held = Held(inner)
    async with running(step(held, queue("in", config=KNOBS))) as app:
        await app.send("in")
        await held.entered()
        app.clock.advance(20_000)
        held.release.set()
        async with asyncio.timeout(10):
            await inside.wait()
        app.clock.advance(9_999)
        await turns()
        assert app.letters("in.failed") == []
        app.clock.advance(1)
        await app.settle()
        (letter,) = app.letters("in.failed")
        assert letter.dead is not None and letter.dead.error == "timeout: not done within 30s"
        assert await app.value("jobs", "1") == "began"


@pytest.mark.parametrize("wrapped", [plain, waits_and_forgets_to_await])
async def test_a_coroutine_that_ignores_its_cancellation_is_ended_whoever_returned_it(wrapped: Any) -> None:
    entered: list[Any] = []
    inside = asyncio.Event()

    async def stubborn(data: Any, ctx: Any) -> None:
        entered.append(data)
        inside.set()
        while data == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async with running(step(wrapped(stubborn), queue("in", config=KNOBS))) as app:
        await app.send("in", "stubborn")
        await app.send("in", "next")
        async with asyncio.timeout(10):
            await inside.wait()
        app.clock.advance(30_000)
        await turns()
        assert entered == ["stubborn"], "it may clean up for a while"
        app.clock.advance(GRACE_MS)
        await app.settle()
        assert entered == ["stubborn", "next"] and len(app.letters("in.failed")) == 1


async def test_a_wrapper_that_timed_out_keeps_its_slot_and_its_coroutine_never_runs() -> None:
    ran: list[Any] = []

    async def inner(data: Any, ctx: Any) -> None:
        ran.append(data)

    held = Held(inner)
    async with running(step(held, queue("in", config=KNOBS))) as app:
        await app.send("in", "late")
        await held.entered()
        app.clock.advance(30_000)
        async with asyncio.timeout(10):
            while not app.letters("in.failed"):
                await asyncio.sleep(0)
        await app.send("in", "next")
        await turns()
        assert app.waiting("in")[0].state != "leased" or held.made == []
        held.release.set()
        await app.settle()
        assert ran == ["next"], "what the late thread returned was closed, without a warning"


async def never(data: Any, ctx: Any) -> None:
    raise AssertionError("it must not run")


async def test_the_coroutine_of_a_wrapper_that_was_cancelled_is_closed() -> None:
    async with one_thread() as call:
        held = Held(never)
        task = call(held)
        await held.entered()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.release.set()
    (made,) = held.made
    assert made.cr_frame is None, "closed"


async def test_the_coroutine_of_a_wrapper_that_was_cancelled_as_it_returned_is_closed() -> None:
    async with one_thread(None) as call:
        made: list[Any] = []

        def wrapper(data: Any, ctx: Any) -> Any:
            made.append(never(data, ctx))
            loop.call_soon_threadsafe(task.cancel)
            return made[-1]

        loop, task = asyncio.get_running_loop(), call(wrapper)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert made[0].cr_frame is None, "closed"


async def test_no_time_is_left_for_the_coroutine_of_a_wrapper_that_took_it_all() -> None:
    async with one_thread() as call:
        made: list[Any] = []

        def wrapper(data: Any, ctx: Any) -> Any:
            call.clock.advance(1_000)
            made.append(never(data, ctx))
            return made[-1]

        with pytest.raises(Late):
            await call(wrapper)
    assert made[0].cr_frame is None, "closed"


async def test_a_task_that_nobody_awaits_any_more_is_cancelled() -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(asyncio.Event().wait())

    def wrapper(data: Any, ctx: Any) -> Any:
        loop.call_soon_threadsafe(call_task.cancel)
        return task

    async with one_thread(None) as call:
        call_task = call(wrapper)
        with pytest.raises(asyncio.CancelledError):
            await call_task
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_cancelling_a_call_cancels_the_coroutine_that_its_wrapper_returned() -> None:
    inside, cleaned = asyncio.Event(), []

    async def inner(data: Any, ctx: Any) -> None:
        try:
            inside.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(await ctx.state.get("a", "1", "cleaned up"))

    async with one_thread() as call:
        task = call(plain(inner))
        async with asyncio.timeout(10):
            await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cleaned == ["cleaned up"]


async def test_a_stop_gives_back_what_a_wrapper_holds_and_its_coroutine_never_runs() -> None:
    held = Held(never)
    async with running(step(held, queue("in")), shutdown_timeout_ms=1) as app:
        await app.send("in")
        await held.entered()
        await app.engine.stop()
        (message,) = app.waiting("in")
        assert (message.state, message.attempts) == ("ready", 0)
    held.release.set()


async def test_late_requests_do_not_run_what_their_wrapper_returns() -> None:
    held = Held(never)
    work = step(held, http("GET", "/"))
    async with running(work, http=HttpConfig(timeout_ms=1_000)) as app:
        request = asyncio.create_task(app.engine.endpoint.answer(Request("GET", "/", b"", [], b"")))
        await held.entered()
        app.clock.advance(1_000)
        assert (await request).status == 504
        held.release.set()
        async with asyncio.timeout(10):
            while not held.made or held.made[0].cr_frame is not None:
                await asyncio.sleep(0.001)
