"""Plain `def` handlers: the same ctx in blocking form, in a thread. And the ambient names in both kinds."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from engine_kit import Running, running, step

import iii
from iii import BlockingContext, Conflict, Context, StepError, http, queue
from iii.config import HttpConfig
from iii.running.threads import HTTP_THREADS
from iii.step import Step


async def test_a_plain_def_handler_does_everything_an_async_one_does() -> None:
    seen: dict[str, Any] = {}

    def handler(data: Any, ctx: BlockingContext) -> None:
        seen["thread"] = threading.current_thread() is not threading.main_thread()
        ctx.state.set("a", "1", data)
        ctx.state.update("a", "1", {"more": True})
        entry = ctx.state.entry("a", "1")
        assert entry is not None and entry.version == 0
        ctx.flush()
        with pytest.raises(Conflict):
            ctx.state.set("a", "1", {}, if_version=0)
        assert ctx.state.items("a") == [("1", {"n": 1, "more": True})]
        assert ctx.state.list("a", prefix="2") == []
        assert ctx.state.delete("a", "2") is False
        assert ctx.state.namespaces() == ["a"]
        assert ctx.state.get("a", "2", "none") == "none"
        ctx.state.set("b", "1", 1)
        assert ctx.state.clear("b") == 1
        ctx.enqueue("next", {"from": ctx.message_id}, priority="high", headers={"x": "y"})
        ctx.logger.info("Worked", n=data["n"])
        seen["trigger"] = ctx.trigger.topic, ctx.attempt, len(ctx.trace_id), ctx.now().year

    async with running(step(handler, queue("in"))) as app:
        await app.send("in", {"n": 1})
        await app.settle()
        assert app.waiting("in") == []
        assert seen == {"thread": True, "trigger": ("in", 1, 32, 2026)}
        assert await app.value("a", "1") == {"n": 1, "more": True}
        (sent,) = app.waiting("next")
        assert sent.priority == 192 and sent.headers["x"] == "y"


async def test_as_many_threads_run_as_the_step_has_slots() -> None:
    together = threading.Barrier(40, timeout=10)

    def handler(data: Any) -> None:
        together.wait()

    async with running(step(handler, queue("in", config={"concurrency": 40}))) as app:
        for n in range(40):
            await app.send("in", n)
        await app.settle()
        assert app.waiting("in") == []


class Busy:
    """An engine all of whose HTTP threads are inside of a handler, and a request that waits for one."""

    def __init__(self, app: Running, client: httpx.AsyncClient) -> None:
        self.app, self.client = app, client
        self.began: list[str] = []
        self.release = threading.Event()  # the first request
        self.release_all = threading.Event()
        self.requests: list[asyncio.Task[httpx.Response]] = []

    def post(self, name: str) -> asyncio.Task[httpx.Response]:
        task = asyncio.create_task(self.client.post("/slow", json=name))
        self.requests.append(task)
        return task


@asynccontextmanager
async def all_http_threads_busy(*others: Step) -> AsyncIterator[Busy]:
    loop, arrived, inside = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def slow(request: Any) -> str:
        busy.began.append(request.body)
        if len(busy.began) == HTTP_THREADS:
            loop.call_soon_threadsafe(inside.set)
        if request.body == "first":
            busy.release.wait(10)
        elif request.body != "last":
            busy.release_all.wait(10)
        return "ok"

    async def arrives(request: Any, ctx: Context, next: Any) -> Any:
        if request.body == "waits":
            arrived.set()
        return await next()

    endpoint = step(slow, http("POST", "/slow", middleware=[arrives]), name="Slow")
    async with running(endpoint, *others, http=HttpConfig(timeout_ms=2_000)) as app:
        transport = httpx.ASGITransport(app=app.engine.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            busy = Busy(app, client)
            try:
                busy.post("first")
                for n in range(1, HTTP_THREADS):
                    busy.post(str(n))
                async with asyncio.timeout(10):
                    await inside.wait()
                    busy.post("waits")
                    await arrived.wait()
                yield busy
            finally:
                busy.release.set()
                busy.release_all.set()
                await asyncio.gather(*busy.requests)


async def test_a_plain_def_step_runs_although_every_http_thread_is_busy() -> None:
    loop, ran = asyncio.get_running_loop(), asyncio.Event()

    def handler(data: Any) -> None:
        loop.call_soon_threadsafe(ran.set)

    async with all_http_threads_busy(step(handler, queue("in", config={"concurrency": 1}))) as busy:
        await busy.app.send("in")
        async with asyncio.timeout(5):
            await ran.wait()
        assert not any(request.done() for request in busy.requests)


async def test_each_slot_of_an_async_step_has_a_thread_for_its_plain_condition() -> None:
    together = threading.Barrier(3, timeout=5)
    ran: list[int] = []

    def condition(data: int) -> bool:
        together.wait()
        return True

    async def handler(data: int) -> None:
        ran.append(data)

    async with running(step(handler, queue("in", condition=condition, config={"concurrency": 3}))) as app:
        for n in range(3):
            await app.send("in", n)
        await app.settle()
        assert sorted(ran) == [0, 1, 2]


async def test_a_request_that_timed_out_before_its_handler_began_never_runs_it() -> None:
    async with all_http_threads_busy() as busy:
        assert "waits" not in busy.began
        busy.app.clock.advance(2_000)
        async with asyncio.timeout(10):
            replies = await asyncio.gather(*busy.requests)
            assert {reply.status_code for reply in replies} == {504}
            busy.release.set()  # one thread is free: it takes what waits, in the order of its coming
            assert (await busy.post("last")).status_code == 200
        assert len(busy.began) == HTTP_THREADS + 1 and "waits" not in busy.began


async def test_the_ambient_names_act_on_the_running_handler() -> None:
    async def asynchronous(data: Any) -> None:
        await iii.state.set("a", "async", await iii.state.get("a", "missing", "none"))
        await iii.enqueue("next", 1)
        iii.logger.info("From the async one")

    def blocking(data: Any) -> None:
        iii.state.set("a", "blocking", iii.state.get("a", "missing", "none"))
        iii.enqueue({"topic": "next", "data": 2})
        iii.logger.info("From the blocking one")

    async with running(
        step(asynchronous, queue("in"), name="Async"), step(blocking, queue("in"), name="Blocking")
    ) as app:
        await app.send("in")
        await app.settle()
        assert await app.engine.state.items("a") == [("async", "none"), ("blocking", "none")]
        assert sorted(message.payload for message in app.waiting("next")) == [b"1", b"2"]


async def test_outside_of_a_handler_the_ambient_names_say_what_to_use() -> None:
    for use in (lambda: iii.state.get("a", "b"), lambda: iii.enqueue("x"), lambda: iii.logger.info("x")):
        with pytest.raises(StepError, match=r"engine\.state"):
            use()
    assert iii.state(namespace="a", filter={"x": 1})["type"] == "state"


async def test_context_variables_of_one_message_do_not_leak_into_the_next() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    async def handler(data: Any, ctx: Context) -> None:
        seen.append(variable.get())
        variable.set("dirty")
        await asyncio.sleep(0)
        assert variable.get() == "dirty"

    async with running(step(handler, queue("in", config={"concurrency": 1}))) as app:
        for n in range(3):
            await app.send("in", n)
        await app.settle()
        assert seen == ["clean"] * 3


async def test_a_condition_decides_per_message_and_may_be_async_or_not() -> None:
    ran: list[Any] = []

    async def big(data: int, ctx: Context) -> bool:
        return data >= int(await ctx.state.get("limits", "min", 3))

    async def handler(data: int, ctx: Context) -> None:
        ran.append((ctx.step.name, data))

    steps = (
        step(handler, queue("in", condition=big), name="Big"),
        step(handler, queue("in", condition=lambda data: data < 3), name="Small"),
    )
    async with running(*steps) as app:
        for n in (1, 5):
            await app.send("in", n)
        await app.settle()
        assert sorted(ran) == [("Big", 5), ("Small", 1)]
        assert app.store.unsettled() == 0
