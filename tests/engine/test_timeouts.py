"""Deadlines of handlers, on the engine's clock."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from engine_kit import running, step

from iii import Context, HandlerEnded, queue
from iii.clock import FakeClock
from iii.handling.context import Runtime, StartedBy
from iii.handling.outbox import Outbox
from iii.running.invoke import Invoker, StillRunning
from iii.running.timers import Timers
from iii.store.memory import MemoryStore

KNOBS = {"timeout": "30s", "max_retries": 1, "concurrency": 1}


async def entered(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()
    event.clear()


async def test_a_timeout_is_a_failed_attempt_whose_state_is_kept() -> None:
    inside = asyncio.Event()

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("jobs", "1", f"attempt {ctx.attempt}")
        await ctx.enqueue("next", 1)
        inside.set()
        if ctx.attempt == 1:
            await asyncio.Event().wait()

    async with running(step(handler, queue("in", config=KNOBS))) as app:
        await app.send("in")
        await entered(inside)
        app.clock.advance(29_999)
        for _ in range(20):
            await asyncio.sleep(0)
        assert app.waiting("in")[0].state == "leased"
        app.clock.advance(1)
        await app.settle()
        (message,) = app.waiting("in")
        assert (message.attempts, message.error) == (1, "timeout: not done within 30s")
        assert await app.value("jobs", "1") == "attempt 1" and app.waiting("next") == []
        await app.pass_time(1_000)
        assert app.waiting("in") == [] and len(app.waiting("next")) == 1


async def test_a_handler_may_clean_up_and_cannot_turn_a_timeout_into_success() -> None:
    inside = asyncio.Event()

    async def handler(data: Any, ctx: Context) -> str | None:
        try:
            inside.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ctx.state.set("jobs", "1", "cleaned up")
            return "as if nothing had happened"
        return None

    async with running(step(handler, queue("in", config=KNOBS | {"max_retries": 0}))) as app:
        await app.send("in")
        await entered(inside)
        app.clock.advance(30_000)
        await app.settle()
        (letter,) = app.letters("in.failed")
        assert letter.dead is not None and letter.dead.error.startswith("timeout")
        assert await app.value("jobs", "1") == "cleaned up"


async def test_the_handlers_own_timeout_and_cancellation_are_failures_with_their_name() -> None:
    async def handler(data: Any) -> None:
        if data == "timeout":
            async with asyncio.timeout(0):
                await asyncio.sleep(1)
        if data == "cancels itself":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
        raise asyncio.CancelledError("awaited a cancelled task")

    async with running(step(handler, queue("in", config=KNOBS | {"max_retries": 0}))) as app:
        for data in ("timeout", "cancelled", "cancels itself"):
            await app.send("in", data)
            await app.settle()
        errors = [letter.dead.error.split(":")[0] for letter in app.letters("in.failed") if letter.dead]
        assert errors == ["TimeoutError", "CancelledError", "CancelledError"]
        assert app.store.unsettled() == 0


async def test_a_threads_slot_stays_taken_until_the_thread_ends_and_its_context_is_closed() -> None:
    inside, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    late: list[Exception] = []
    started: list[int] = []

    def handler(data: int, ctx: Any) -> None:
        started.append(data)
        if data == 1 and ctx.attempt == 1:
            loop.call_soon_threadsafe(inside.set)
            release.wait(10)
            try:
                ctx.state.set("jobs", "1", "too late")
            except HandlerEnded as error:
                late.append(error)

    async with running(step(handler, queue("in", config=KNOBS))) as app:
        await app.send("in", 1)
        await entered(inside)
        await app.send("in", 2)
        app.clock.advance(30_000)
        async with asyncio.timeout(10):
            while not any(message.state == "later" for message in app.waiting("in")):
                await asyncio.sleep(0.001)
        assert started == [1], "the second message must not start in the slot of a thread that still runs"
        release.set()
        await app.settle()
        assert started == [1, 2]
        assert len(late) == 1
        assert await app.value("jobs", "1") is None
        await app.pass_time(1_000)
        assert started == [1, 2, 1]


class OneThread:
    """An invoker whose only thread is taken until `free`."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.clock, self.free, self.threads = FakeClock(), threading.Event(), threads
        self.invoker = Invoker(Timers(self.clock), threads, clock=self.clock)
        store = MemoryStore(self.clock)
        work = step(lambda: None, queue("in"))
        self.ctx = Context(Runtime(store, Outbox({})), work, StartedBy("queue"), 0)
        threads.submit(self.free.wait, 10)

    def call(self, function: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.invoker.call(function, self.ctx, (), 1_000))

    async def pass_time(self, ms: int) -> None:
        for turn in range(40):
            if turn == 20:
                self.clock.advance(ms)
            await asyncio.sleep(0)


async def test_a_timeout_counts_from_when_the_thread_begins() -> None:
    loop, inside, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def handler() -> None:
        loop.call_soon_threadsafe(inside.set)
        release.wait(10)

    with ThreadPoolExecutor(1) as threads:
        one = OneThread(threads)
        try:
            call = one.call(handler)
            await one.pass_time(5_600)
            one.free.set()
            await entered(inside)
            await one.pass_time(999)
            assert not call.done()
            await one.pass_time(1)
            with pytest.raises(StillRunning):
                call.result()
        finally:
            one.free.set()
            release.set()


async def test_a_call_that_is_cancelled_before_a_thread_took_it_never_begins() -> None:
    ran: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        one = OneThread(threads)
        try:
            call = one.call(lambda: ran.append("cancelled"))
            await one.pass_time(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        finally:
            one.free.set()
        await one.call(lambda: ran.append("next"))
        assert ran == ["next"]


@pytest.mark.parametrize("ms", [1, 50])
async def test_a_deadline_on_the_real_clock(ms: int) -> None:
    from engine_kit import RecordingStore, config

    from iii.clock import SystemClock
    from iii.engine import Engine

    async def handler(data: Any) -> None:
        await asyncio.Event().wait()

    store = RecordingStore(SystemClock())
    work = step(handler, queue("in", config={"timeout": ms, "max_retries": 0}))
    async with Engine(config(), [work], store=store) as engine:
        await engine.enqueue("in")
        await engine.idle(10)
        (letter,) = store.waiting("in.failed")
        assert letter.dead is not None and letter.dead.error.startswith("timeout")
