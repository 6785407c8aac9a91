"""`clear`: gone for the handler at the call, from the store with the outcome, and not by a failed attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_kit import RecordingStore, Running, config, running, step, turns

from iii import Cancel, Context, Request, Snooze, http, queue
from iii.clock import FakeClock
from iii.engine import Engine
from iii.errors import Conflict, InputError, LeaseLost, StoreFull
from iii.handling.clearing import CHUNK
from iii.handling.context import Runtime, StartedBy
from iii.handling.outbox import Outbox
from iii.model import Delete, Put, Txn
from iii.store.contract import Limits
from iii.web.stream import Stream

WORK = step(lambda: None, queue("idle"))
SMALL = Limits(ops_max=CHUNK + 100)
"""A Txn of the engine holds as many."""


@asynccontextmanager
async def small(*steps: Any) -> AsyncIterator[Running]:
    """An engine whose Txns hold little more than a chunk."""
    clock = FakeClock()
    store = RecordingStore(clock)
    store.limits = SMALL
    async with Engine(config(), steps, store=store) as engine:
        yield Running(engine, store, clock)


async def fill(app: Running, count: int, namespace: str = "many") -> None:
    for start in range(0, count, 1_000):
        numbers = range(start, min(start + 1_000, count))
        await app.store.commit(Txn([Put(namespace, f"{n:06}", b"%d" % n) for n in numbers]))


def keys(app: Running, namespace: str = "many") -> int:
    return len(app.store.scan(namespace, limit=1_000_000))


# ------------------------------------------------------------------------------------------ who fails


@pytest.mark.parametrize("on_error", ["keep", "keep_all", "discard"])
@pytest.mark.parametrize("count", [3, 2_500, 12_000])
async def test_a_handler_that_raises_after_a_clear_leaves_everything(count: int, on_error: str) -> None:
    cleared: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        cleared.append(await ctx.state.clear("many"))
        await ctx.state.set("status", "job", "failed")
        raise ValueError("no")

    work = step(handler, queue("in", config={"max_retries": 1, "retry_delay": 1_000}), on_error=on_error)
    async with running(work) as app:
        await fill(app, count)
        await app.send("in")
        await app.settle()
        await app.pass_time(1_000)
        assert len(app.letters("in.failed")) == 1 and cleared == [count] * 2
        assert keys(app) == count
        kept = None if on_error == "discard" else "failed"
        assert await app.value("status", "job") == kept


async def test_what_was_written_before_and_after_the_clear_of_a_failed_attempt_stands() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("many", "000000", "before")
        await ctx.state.update("many", "new", {"n": 1})
        await ctx.state.delete("many", "000001")
        assert await ctx.state.clear("many") == 3
        await ctx.state.set("many", "000002", "after")
        await ctx.state.clear("many")
        raise ValueError("no")

    async with running(step(handler, queue("in", config={"max_retries": 0}))) as app:
        await fill(app, 3)
        await app.send("in")
        await app.settle()
        left = {entry.key: entry.value for entry in app.store.scan("many")}
        assert left == {"000000": b'"before"', "000002": b'"after"', "new": b'{"n":1}'}


async def waits(request: Request, ctx: Context) -> Any:
    await ctx.state.clear("many")
    await ctx.state.set("many", "own", 1)
    if request.query.get("how") == "late":
        await asyncio.Event().wait()
    return {"status": 1 // (request.query.get("how") != "raises") * 200}


def blocks(request: Request, ctx: Any) -> Any:
    assert ctx.state.clear("many") > 0 and ctx.state.list("many") == []
    ctx.state.set("many", "own", 1)
    return {"status": 1 // (request.query.get("how") != "raises") * 200}


@pytest.mark.parametrize(
    ("handler", "how", "status"),
    [
        (waits, "returns", 200),
        (waits, "raises", 500),
        (waits, "late", 504),
        (blocks, "returns", 200),
        (blocks, "raises", 500),
    ],
)
@pytest.mark.parametrize("count", [3, 2_500])
async def test_a_request_clears_what_it_is_answered_for_alone(
    handler: Any, how: str, status: int, count: int
) -> None:
    async with small(step(handler, http("POST", "/"))) as app:
        await fill(app, count)
        request = Request("POST", "/", f"how={how}".encode(), [], b"")
        asked = asyncio.ensure_future(app.engine.endpoint.answer(request))
        if how == "late":
            await turns()
            app.clock.advance(30_000)
        assert (await asked).status == status
        assert keys(app) == (1 if status == 200 else count)


async def test_what_a_streamed_body_clears_needs_a_flush_and_what_came_before_it_does_not() -> None:
    async def handler(request: Request, ctx: Context) -> Any:
        await ctx.state.clear("before")

        async def body() -> AsyncIterator[str]:
            yield str(await ctx.state.clear("during"))
            await ctx.flush()
            yield str(await ctx.state.clear("unflushed"))

        return {"status": 200, "body": body()}

    async with small(step(handler, http("GET", "/"))) as app:
        for namespace in ("before", "during", "unflushed"):
            await fill(app, 2_500, namespace)
        answer = await app.engine.endpoint.answer(Request("GET", "/", b"", [], b""))
        assert (keys(app, "before"), keys(app, "during")) == (0, 2_500)
        assert isinstance(answer.body, Stream)
        assert [part async for part in answer.body] == [b"2500", b"2500"]
        await answer.body.aclose()
        assert (keys(app, "during"), keys(app, "unflushed")) == (0, 2_500)


async def test_a_timeout_leaves_everything() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.clear("many")
        await asyncio.Event().wait()

    async with running(step(handler, queue("in", config={"max_retries": 0, "timeout": 1_000}))) as app:
        await fill(app, 10)
        await app.send("in")
        await turns()
        await app.pass_time(1_000)
        assert len(app.letters("in.failed")) == 1 and keys(app) == 10


# ------------------------------------------------------------------------------------------ what is seen


@pytest.mark.parametrize("count", [3, 300, 2_500])
async def test_the_handler_sees_nothing_of_it_from_the_call_on(count: int) -> None:
    async with small() as app:
        await fill(app, count)
        await fill(app, 1, "other")
        ctx = Context(Runtime(app.store, Outbox({})), WORK, StartedBy("http"), 0)
        await ctx.state.set("many", "own", 1)
        assert await ctx.state.clear("many", prefix="00000") == min(count, 10)
        assert await ctx.state.clear("many") == count - min(count, 10) + 1
        assert await ctx.state.clear("many") == 0
        assert await ctx.state.get("many", "000001") is None
        assert await ctx.state.entry("many", "000001") is None
        assert await ctx.state.items("many") == [] and await ctx.state.list("many", limit=5) == []
        assert await ctx.state.namespaces() == ["other"]
        assert not await ctx.state.delete("many", "000001")
        assert await ctx.state.update("many", "000002", {"n": 1}) == {"n": 1}
        await ctx.state.set("many", "x", 2)
        assert await ctx.state.items("many") == [("000002", {"n": 1}), ("x", 2)]
        assert keys(app) == count, "nobody else sees it yet"
        await ctx.settle()
        assert [(entry.key, entry.value) for entry in app.store.scan("many")] == [
            ("000002", b'{"n":1}'),
            ("x", b"2"),
        ]


async def test_what_others_write_after_the_call_stays_and_is_seen() -> None:
    async with small() as app:
        await fill(app, 2_500)
        ctx = Context(Runtime(app.store, Outbox({})), WORK, StartedBy("http"), 0)
        assert await ctx.state.clear("many") == 2_500
        await app.store.commit(Txn((Put("many", "000003", b'"theirs"'), Put("many", "fresh", b'"theirs"'))))
        assert await ctx.state.items("many") == [("000003", "theirs"), ("fresh", "theirs")]
        assert await ctx.state.clear("many", prefix="f") == 1
        await ctx.settle()
        assert [entry.key for entry in app.store.scan("many")] == ["000003"]


async def test_a_condition_of_a_write_that_was_cleared_is_checked_all_the_same() -> None:
    async with running(WORK) as app:
        await fill(app, 3)
        entry = app.store.get("many", "000001")
        assert entry is not None
        for writes_again in (False, True):
            ctx = Context(Runtime(app.store, Outbox({})), WORK, StartedBy("http"), 0)
            await ctx.state.set("many", "000001", 1, if_version=entry.version)
            await ctx.state.clear("many")
            if writes_again:
                await ctx.state.set("many", "000001", 2)
            await app.store.commit(Txn((Put("many", "000001", b"%d" % (7 + writes_again)),)))
            with pytest.raises(Conflict):
                await ctx.settle()
            assert keys(app) == 3
            entry = app.store.get("many", "000001")
            assert entry is not None


async def test_a_namespace_of_the_engine_is_refused_at_the_call() -> None:
    async with running(WORK) as app:
        ctx = Context(Runtime(app.store, Outbox({})), WORK, StartedBy("http"), 0)
        for namespace in ("$http", "", "a\0b"):
            with pytest.raises(InputError):
                await ctx.state.clear(namespace)
        assert not ctx.has_effects


# -------------------------------------------------------------------------------------- what is committed


@pytest.mark.parametrize("outcome", [None, Snooze(1_000), Cancel("done")])
async def test_what_one_txn_holds_is_one_commit_with_the_outcome(outcome: Any) -> None:
    ran = 0

    async def handler(data: Any, ctx: Context) -> Any:
        nonlocal ran
        ran += 1
        if ran == 1:
            await ctx.state.clear("many")
            await ctx.state.set("many", "own", 1)
            await ctx.enqueue("next", 1)
            return outcome
        return None

    async with running(step(handler, queue("in"))) as app:
        await fill(app, 9_900)
        await app.send("in")
        start = len(app.store.txns)
        await app.settle()
        (kinds,) = app.store.kinds(start)
        assert kinds[:-3] == ["Delete"] * 9_900 and kinds[-3:-1] == ["Put", "Enqueue"]
        assert keys(app) == 1


async def test_what_is_beyond_goes_in_chunks_after_the_handler_and_with_its_lease() -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def handler(data: Any, ctx: Context) -> None:
        assert await ctx.state.clear("many") == 3_500
        await ctx.state.set("many", "000007", "own")
        inside.set()
        await leave.wait()

    async with small(step(handler, queue("in"))) as app:
        await fill(app, 3_500)
        await app.send("in")
        start = len(app.store.txns)
        await inside.wait()
        assert keys(app) == 3_500 and app.store.kinds(start) == []
        leave.set()
        await app.settle()
        kinds = app.store.kinds(start)
        deletes = [names.count("Delete") for names in kinds]
        assert sum(deletes) == 3_499 and max(deletes) == CHUNK
        assert [names[-1] for names in kinds] == ["Hold"] * (len(kinds) - 1) + ["Ack"]
        assert "Put" in kinds[-1] and "Delete" in kinds[-1]
        assert await app.engine.state.items("many") == [("000007", "own")]


async def test_large_values_are_cleared_in_commits_of_bounded_bytes() -> None:
    """They go into the change log, all of a commit in the writer's memory at once."""

    async def handler(data: Any, ctx: Context) -> None:
        assert await ctx.state.clear("large") == 24

    async with running(step(handler, queue("in"))) as app:
        value = b'"%s"' % (b"x" * (1 << 20))
        for number in range(24):
            await app.store.commit(Txn((Put("large", str(number), value),)))
        await app.send("in")
        start = len(app.store.txns)
        await app.settle()
        deletes = [names.count("Delete") for names in app.store.kinds(start)]
        assert sum(deletes) == 24 and max(deletes) <= 4 and deletes[-1] > 0
        assert keys(app, "large") == 0


async def test_a_handler_that_fills_its_txn_besides_still_clears_everything() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.clear("many")
        for number in range(SMALL.ops_max - 16):
            await ctx.state.set("own", str(number), number)

    async with small(step(handler, queue("in"))) as app:
        await fill(app, 50)
        await app.send("in")
        await app.settle()
        assert (keys(app), keys(app, "own")) == (0, SMALL.ops_max - 16)


async def test_a_scratch_space_may_be_filled_and_cleared_again_and_again() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        for _ in range(5):
            for number in range(SMALL.ops_max - 100):
                await ctx.state.set("scratch", str(number), number)
            assert await ctx.state.clear("scratch") == SMALL.ops_max - 100
        await ctx.state.set("out", "a", 1)

    async with small(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert await app.engine.state.namespaces() == ["out"]


@pytest.mark.parametrize("count", [3, 2_500])
async def test_a_flush_commits_what_was_cleared_before_it(count: int) -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.clear("many")
        await ctx.state.set("many", "own", 1)
        await ctx.flush()
        assert await ctx.state.items("many") == [("own", 1)]
        assert await ctx.state.clear("many") == 1
        raise ValueError("no")

    async with small(step(handler, queue("in", config={"max_retries": 0}))) as app:
        await fill(app, count)
        await app.send("in")
        await app.settle()
        assert await app.engine.state.items("many") == [("own", 1)]


async def test_a_lost_lease_between_the_chunks_writes_nothing_more() -> None:
    lost = asyncio.Event()

    class Losing(RecordingStore):
        def submit(self, txn: Txn) -> Any:
            if any(isinstance(op, Delete) for op in txn.ops) and keys_left() == 1_500:
                self.refuse = [LeaseLost("another has it")]
                lost.set()
            return super().submit(txn)

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.clear("many")
        await ctx.state.set("out", "a", 1)

    clock = FakeClock()
    store = Losing(clock)
    store.limits = SMALL

    def keys_left() -> int:
        return len(store.scan("many", limit=100_000))

    async with Engine(config(), (step(handler, queue("in")),), store=store) as engine:
        app = Running(engine, store, clock)
        await fill(app, 2_500)
        await app.send("in")
        await lost.wait()
        await turns()
        assert keys_left() == 1_500 and await app.value("out", "a") is None
        assert store.unsettled() == 1, "the message is whose lease it is"


async def test_a_full_store_is_waited_for_between_the_chunks_and_the_handler_not_run_again() -> None:
    ran: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        ran.append(ctx.attempt)
        await ctx.state.clear("many")
        app.store.refuse = [StoreFull("no room")] * 3

    async with small(step(handler, queue("in"))) as app:
        await fill(app, 2_500)
        await app.send("in")
        await turns()
        assert keys(app) == 2_500 and len(app.store.refuse) == 2
        for _ in range(10):
            app.clock.advance(100)
            await turns(5)
        await app.settle()
        assert (ran, keys(app)) == ([1], 0)


async def test_one_who_gives_up_while_it_counts_has_cleared_all_the_same() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        clearing = asyncio.ensure_future(ctx.state.clear("many"))
        await turns(1)
        clearing.cancel()
        await turns(2)
        assert clearing.cancelled()

    async with small(step(handler, queue("in"))) as app:
        await fill(app, 5_000)
        await app.send("in")
        await app.settle()
        assert keys(app) == 0


async def test_from_outside_it_ends_although_another_writes_on() -> None:
    async with small() as app:
        await fill(app, 3_000)
        submit = app.store.submit

        def more(txn: Txn) -> Any:
            if isinstance(txn.ops[0], Delete):
                submit(Txn([Put("many", f"z{len(app.store.txns)}-{n}", b"1") for n in range(CHUNK)]))
            return submit(txn)

        app.store.submit = more  # type: ignore[method-assign]
        assert await app.engine.state.clear("many") == 3_000
        assert keys(app) == 3 * CHUNK
