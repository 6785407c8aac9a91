"""A handler in a thread may run a loop of its own: there `ctx` is awaited; what is not lands too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import Outlives, RecordingStore, config, running, step
from wrapper_kit import RUNS

import iii
from iii import BlockingContext, Conflict, HandlerEnded, queue
from iii.engine import Engine
from iii.model import Hold

loops = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
Run = Callable[[Any], Any]
ONCE = {"max_retries": 0}


@loops
async def test_what_is_not_awaited_lands_with_the_outcome_and_in_order(run: Run) -> None:
    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            for n in range(50):
                ctx.state.set("a", "1", n)
                ctx.enqueue("next", n)
            iii.state.update("a", "2", {"n": 1})
            iii.enqueue("next", 50)

        run(main())

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert (await app.value("a", "1"), await app.value("a", "2")) == (49, {"n": 1})
        assert [each.payload for each in app.waiting("next")] == [b"%d" % n for n in range(51)]


@pytest.mark.parametrize("kind", ["a plain handler", "an async one", "one that raises"])
async def test_what_waits_for_a_flush_and_is_not_awaited_lands_too(kind: str) -> None:
    """The store holds the flush back until the function has returned."""
    returned = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(RecordingStore):
        async def commit(self, txn: Any) -> Any:
            if any(isinstance(op, Hold) for op in txn.ops):  # a flush
                await returned.wait()
            return await super().commit(txn)

    def begins() -> None:
        async def main() -> None:
            iii.enqueue("flushed", 1)
            iii.state.set("a", "1", "flushed")
            flushing.flush()
            iii.state.set("a", "2", "after it")

        asyncio.run(main())
        loop.call_soon_threadsafe(lambda: loop.call_later(0, returned.set))
        if kind == "one that raises":
            raise ValueError("broken")

    async def asynchronous(data: Any, ctx: Any) -> None:
        nonlocal flushing
        flushing = BlockingContext(ctx)
        await asyncio.to_thread(begins)

    def plain(data: Any, ctx: BlockingContext) -> None:
        nonlocal flushing
        flushing = ctx
        begins()

    flushing: BlockingContext
    handler = asynchronous if kind == "an async one" else plain
    async with Engine(config(), [step(handler, queue("in", config=ONCE))], store=Slow()) as engine:
        await engine.enqueue("in")
        await engine.idle(20)
        assert await engine.state.items("a") == [("1", "flushed"), ("2", "after it")]


@loops
async def test_errors_arrive_where_the_call_is_awaited(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            with pytest.raises(Conflict):
                await ctx.state.set("b", "1", 1, if_version=7)
            with pytest.raises(iii.InputError):
                await iii.enqueue("$own", 1)
            await ctx.state.set("b", "2", 2)

        run(main())

    async with running(step(handler, queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == [] and await app.value("b", "2") == 2
    assert "not awaited" not in caplog.text


async def test_an_error_that_nobody_awaits_is_logged_with_the_step(caplog: pytest.LogCaptureFixture) -> None:
    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            ctx.state.set("a", "1", 1, if_version=7)
            await ctx.state.set("a", "2", 2)

        asyncio.run(main())

    async with running(step(handler, queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == [] and await app.value("a", "2") == 2
    (told,) = [each for each in caplog.records if "not awaited" in each.getMessage()]
    assert told.levelno == logging.WARNING and told.getMessage().startswith("Work:")
    assert told.exc_info is not None and told.exc_info[0] is Conflict


@loops
async def test_calls_run_together_as_on_the_engines_loop(run: Run) -> None:
    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(10):
                    group.create_task(ctx.state.set("a", str(n), n))
            assert await asyncio.gather(*(ctx.state.get("a", str(n)) for n in range(10))) == list(range(10))
            assert await asyncio.wait_for(ctx.state.get("a", "1"), 10) == 1
            again = ctx.state.get("a", "2")
            assert await again == await again == 2
            assert await asyncio.to_thread(ctx.state.get, "a", "3") == 3

        run(main())

    async with running(step(handler, queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == [] and len(await app.engine.state.items("a")) == 10


@loops
async def test_a_loop_of_its_own_turns_while_a_call_waits_for_the_engines(run: Run) -> None:
    engines, held, turned = asyncio.get_running_loop(), threading.Event(), threading.Event()

    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            engines.call_soon_threadsafe(lambda: (held.set(), turned.wait(10)))
            assert await asyncio.to_thread(held.wait, 10)
            call = asyncio.ensure_future(ctx.state.set("a", "1", 1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not call.done()
            turned.set()
            await call

        run(main())

    async with running(step(handler, queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == [] and await app.value("a", "1") == 1


@loops
async def test_a_cancelled_await_takes_nothing_back(run: Run) -> None:
    engines, held, cancelled = asyncio.get_running_loop(), threading.Event(), threading.Event()

    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            engines.call_soon_threadsafe(lambda: (held.set(), cancelled.wait(10)))
            assert await asyncio.to_thread(held.wait, 10)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ctx.state.set("a", "1", 1), 0.001)
            late = asyncio.ensure_future(ctx.enqueue("next", 1))
            await asyncio.sleep(0)
            late.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await late
            cancelled.set()

        run(main())

    async with running(step(handler, queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == []
        assert await app.value("a", "1") == 1 and len(app.waiting("next")) == 1


@loops
async def test_a_thread_whose_attempt_is_over_is_told_so_at_its_next_call(run: Run) -> None:
    inside, release, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    outcome: list[BaseException] = []

    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            await ctx.state.set("a", "1", "in time")
            loop.call_soon_threadsafe(inside.set)
            release.wait(10)
            try:
                await ctx.state.set("a", "2", "late")
            except HandlerEnded as error:
                outcome.append(error)

        run(main())
        ended.set()

    async with running(step(handler, queue("in", config={**ONCE, "timeout": 1_000}))) as app:
        await app.send("in")
        async with asyncio.timeout(10):
            await inside.wait()
        app.clock.advance(1_000)
        async with asyncio.timeout(10):
            while not app.letters("in.failed"):
                await asyncio.sleep(0)
        release.set()
        assert await asyncio.to_thread(ended.wait, 10)
        assert await app.engine.state.items("a") == [("1", "in time")]
    assert len(outcome) == 1


@loops
@pytest.mark.parametrize("closed", ["before", "meanwhile"])
def test_a_loop_of_its_own_that_outlives_the_engines_is_told_so(run: Run, closed: str) -> None:
    thread = Outlives()
    outcome: list[BaseException] = []

    def handler(data: Any, ctx: BlockingContext) -> None:
        async def main() -> None:
            thread.wait()
            try:
                await ctx.state.set("a", "1", 1)
            except HandlerEnded as error:
                outcome.append(error)

        run(main())
        thread.ended()

    thread.run(handler, closed=closed)
    (error,) = outcome
    assert "the engine has stopped" in str(error)


async def takes_one(data: Any) -> None:
    pass


async def test_a_global_function_that_is_given_too_much_by_its_wrapper_is_named() -> None:
    async with running(step(lambda *args: takes_one(*args), queue("in", config=ONCE))) as app:
        await app.send("in")
        await app.settle()
        (letter,) = app.letters("in.failed")
    assert letter.dead is not None
    assert "takes_one() takes 1 positional argument but 2 were given" in letter.dead.error
