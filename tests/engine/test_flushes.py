"""flush(): what is durable when it returns, with others under way, with a full store, with a handler gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from engine_kit import RecordingStore, running, step

from iii import Context, QueueFull, queue
from iii.errors import StoreFull
from iii.handling.clearing import CHUNK
from iii.handling.context import Runtime, StartedBy
from iii.handling.outbox import Outbox
from iii.model import Committed, Put, Txn


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class OneByOne(RecordingStore):
    """Commits as many Txns as it was let; the others wait."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most_under_way = 0
        self._let = asyncio.Semaphore(0)

    async def commit(self, txn: Txn) -> Committed:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self._let.acquire()
            return await super().commit(txn)
        finally:
            self.under_way -= 1

    async def let(self, count: int = 1) -> None:
        for _ in range(count):
            self._let.release()
        await turns()


@pytest.fixture
async def store() -> AsyncIterator[OneByOne]:
    store = OneByOne()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def ctx(store: OneByOne) -> Context:
    async def handler() -> None: ...

    work = step(handler, {"type": "http", "method": "POST", "path": "/work"})
    return Context(Runtime(store, Outbox({})), work, StartedBy("http"), 0)


async def begin(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(call)
    await turns(3)
    return task


async def test_two_flushes_behind_a_third_both_return_when_their_writes_are_durable(
    store: OneByOne, ctx: Context
) -> None:
    await ctx.enqueue("out", 1)
    first = await begin(ctx.flush())
    await ctx.enqueue("out", 2)
    behind = [await begin(ctx.flush()), await begin(ctx.flush())]
    await store.let()
    assert first.done() and [flush.done() for flush in behind] == [False, False]
    await store.let()
    assert len(store.waiting("out")) == 2
    await asyncio.gather(first, *behind)


async def test_a_refusal_is_raised_by_every_flush_whose_writes_it_concerns(
    store: OneByOne, ctx: Context
) -> None:
    await ctx.enqueue("out", 1)
    first = await begin(ctx.flush())
    await ctx.enqueue("out", 2)
    behind = [await begin(ctx.flush()), await begin(ctx.flush())]
    await store.let()
    store.refuse = [QueueFull("no more")]
    await store.let()
    results = await asyncio.gather(first, *behind, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), QueueFull, QueueFull]


async def test_a_read_waits_for_a_flush_that_started_meanwhile(store: OneByOne, ctx: Context) -> None:
    await ctx.enqueue("out", 1)
    first = await begin(ctx.flush())
    write = await begin(ctx.state.set("a", "1", "written"))
    second = await begin(ctx.flush())
    read = await begin(ctx.state.get("a", "1"))
    await store.let(2)
    assert await read == "written"
    await asyncio.gather(first, write, second)


async def test_a_long_clear_and_a_flush_take_turns(store: OneByOne, ctx: Context) -> None:
    keys = [str(n) for n in range(CHUNK + 1)]
    await store.submit(Txn([Put("many", key, b"1") for key in keys]))
    await ctx.enqueue("out", 1)
    first = await begin(ctx.flush())
    await ctx.enqueue("out", 2)
    rest = [await begin(ctx.flush()), await begin(ctx.state.clear("many"))]
    await store.let(3)
    await asyncio.gather(first, *rest)
    assert store.most_under_way == 1
    assert await ctx.state.list("many") == []


async def test_a_flush_waits_for_room_on_the_engines_clock() -> None:
    flushed: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("out", "1", "written")
        app.store.refuse = [StoreFull("no room")] * 3
        await ctx.flush()
        flushed.append(ctx.attempt)

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await turns()
        assert len(app.store.refuse) == 2
        for _ in range(10):
            app.clock.advance(100)
            await turns(5)
        assert flushed == [1]
        await app.settle()
        assert await app.value("out", "1") == "written"


async def test_a_task_left_behind_that_flushes_on_and_on_holds_no_settlement_up() -> None:
    left: list[asyncio.Task[None]] = []

    async def handler(data: Any, ctx: Context) -> None:
        async def on_and_on() -> None:
            while True:
                await ctx.state.set("a", "1", 1)
                await ctx.flush()

        left.append(asyncio.ensure_future(on_and_on()))
        await asyncio.sleep(0)

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.store.unsettled() == 0
        (error,) = await asyncio.gather(*left, return_exceptions=True)
        assert type(error).__name__ == "HandlerEnded"
