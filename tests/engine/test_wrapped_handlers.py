"""A handler may be wrapped by anything: what it returns to be awaited runs, effects and outcome with it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from engine_kit import running, step
from wrapper_kit import WRAPPED, plain, wraps

import iii
from iii import BlockingContext, Context, Snooze, cron, http, queue, state
from iii.definitions.loader import make_step
from iii.testing import harness

forms = pytest.mark.parametrize("form", WRAPPED)


async def writes(data: Any, ctx: Context) -> None:
    """Uses all that a handler may use, as an `async def` does."""
    before = await ctx.state.get("ran", "1", 0)
    await asyncio.sleep(0)
    await ctx.state.set("ran", "1", before + 1)
    await ctx.flush()
    await iii.state.set("ran", "ambient", await iii.state.get("ran", "1"))
    await ctx.enqueue("next", {"from": ctx.trigger.type})
    await iii.enqueue("next", {"step": ctx.step.name})
    ctx.logger.info("Ran", attempt=ctx.attempt)
    iii.logger.info("Ran", trace=ctx.trace_id)


async def ran_once(app: Any, trigger: str) -> None:
    await app.settle()
    assert await app.engine.state.get("ran", "1") == 1
    assert await app.engine.state.get("ran", "ambient") == 1
    assert [each.payload for each in app.waiting("next")] == [
        b'{"from":"%s"}' % trigger.encode(),
        b'{"step":"Work"}',
    ]


@forms
async def test_a_wrapped_queue_handler_runs(form: str) -> None:
    async with running(step(WRAPPED[form](writes), queue("in"))) as app:
        await app.send("in", 1)
        await ran_once(app, "queue")
        assert app.waiting("in") == [] and app.letters("in.failed") == []


@forms
async def test_a_wrapped_cron_handler_runs(form: str) -> None:
    async with running(step(WRAPPED[form](writes), cron("0 0 * * *"))) as app:
        await app.engine.run_cron("Work")
        await ran_once(app, "cron")


@forms
async def test_a_wrapped_state_handler_runs(form: str) -> None:
    async with running(step(WRAPPED[form](writes), state(namespace="in"))) as app:
        await app.engine.state.set("in", "1", "new")
        await ran_once(app, "state")


@forms
async def test_a_wrapped_condition_decides(form: str) -> None:
    async def wanted(data: Any, ctx: Context) -> bool:
        await ctx.state.set("seen", str(data), True)
        return bool(data > await ctx.state.get("limits", "min", 3))

    ran: list[int] = []

    async def handler(data: int) -> None:
        ran.append(data)

    async with running(step(handler, queue("in", condition=WRAPPED[form](wanted)))) as app:
        for n in (1, 5):
            await app.send("in", n)
        await app.settle()
        assert ran == [5]
        assert await app.engine.state.items("seen") == [("1", True), ("5", True)]


@forms
async def test_wrapped_handlers_run_in_tests_of_steps(form: str) -> None:
    async def answers(request: Any, ctx: Context) -> Any:
        await ctx.enqueue("in", request.body)
        return {"status": 202, "body": {"ran": await ctx.state.get("ran", "1", 0)}}

    post = make_step({"name": "Post", "triggers": [http("POST", "/")]}, WRAPPED[form](answers))
    work = make_step({"name": "Work", "triggers": [queue("in")]}, WRAPPED[form](writes))
    async with harness([post, work]) as app:
        reply = await app.post("/", json={"n": 1})
        assert (reply.status, reply.json()) == (202, {"ran": 0})
        await app.settle()
        assert await app.state.get("ran", "1") == 1


async def test_what_a_wrapped_handler_returns_is_its_outcome_and_what_it_raises_too() -> None:
    async def snoozes(data: Any, ctx: Context) -> Snooze | None:
        return Snooze(1_000) if ctx.attempt == 1 and ctx.message_id and not data else None

    async def fails(data: Any, ctx: Context) -> None:
        await ctx.state.set("jobs", "1", "failed")
        await ctx.enqueue("next", 1)
        raise ValueError("broken")

    knobs = {"max_retries": 0}
    async with running(
        step(wraps(snoozes), queue("snoozes"), name="Snoozes"),
        step(plain(fails), queue("fails", config=knobs), name="Fails"),
    ) as app:
        await app.send("snoozes")
        await app.send("fails")
        await app.settle()
        (waiting,) = app.waiting("snoozes")
        assert (waiting.state, waiting.attempts) == ("later", 0)
        (letter,) = app.letters("fails.failed")
        assert letter.dead is not None and letter.dead.error == "ValueError: broken"
        assert await app.value("jobs", "1") == "failed" and app.waiting("next") == []


async def test_a_wrapper_and_its_coroutine_share_one_ctx_and_their_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="clean")
    seen: list[Any] = []

    async def inner(data: Any, ctx: Any) -> None:
        seen.append((variable.get(), threading.current_thread() is threading.main_thread()))
        variable.set("set by the coroutine")
        assert await ctx.state.get("a", "1") == {"by": "the wrapper"}
        await asyncio.sleep(0)
        assert await asyncio.to_thread(ctx.state.get, "a", "1") == {"by": "the wrapper"}
        assert await asyncio.to_thread(iii.state.get, "a", "1") == {"by": "the wrapper"}
        await asyncio.to_thread(ctx.enqueue, "next", 1)

    def wrapper(data: Any, ctx: BlockingContext) -> Any:
        seen.append((variable.get(), threading.current_thread() is threading.main_thread()))
        variable.set("set by the wrapper")
        ctx.state.set("a", "1", {"by": "the wrapper"})
        assert iii.state.get("a", "1") == ctx.state.get("a", "1")
        ctx.flush()
        return inner(data, ctx)

    async with running(step(wrapper, queue("in", config={"concurrency": 1}))) as app:
        for _ in range(2):
            await app.send("in")
        await app.settle()
        assert seen == [("clean", False), ("set by the wrapper", True)] * 2
        assert len(app.waiting("next")) == 2


async def test_ambient_calls_answer_by_their_thread_in_an_async_handler_too() -> None:
    async def handler(data: Any) -> None:
        await iii.state.set("a", "1", "set")
        assert await asyncio.to_thread(iii.state.get, "a", "1") == "set"
        await asyncio.gather(*(asyncio.to_thread(iii.enqueue, "next", n) for n in range(5)))
        await asyncio.to_thread(iii.logger.info, "from a thread")

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == [] and len(app.waiting("next")) == 5


async def test_the_first_ambient_call_of_an_async_handler_may_come_from_several_threads() -> None:
    async def handler(data: Any) -> None:
        together = threading.Barrier(4, timeout=10)

        def write(n: int) -> None:
            together.wait()
            iii.state.set("a", str(n), n)

        await asyncio.gather(*(asyncio.to_thread(write, n) for n in range(4)))

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert len(await app.engine.state.items("a")) == 4
