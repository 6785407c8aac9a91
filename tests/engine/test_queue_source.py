"""Slots and drain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Gate, RecordingStore, config, running, step, turns

from iii import Context, queue
from iii.clock import FakeClock
from iii.engine import Engine
from iii.errors import StoreFull
from iii.model import Committed, Txn
from iii.sections import CRASHES_MIN
from iii.store.memory import MemoryTables


async def test_no_more_run_at_once_than_there_are_slots_and_none_is_leased_beyond_them() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        await gate(data)

    async with running(step(handler, queue("in", config={"concurrency": 3}))) as app:
        for n in range(10):
            await app.send("in", n)
        await gate.entered(3)
        await turns()
        assert gate.most == 3
        (lane,) = [lane for lane in app.store.stats() if lane.topic == "in"]
        assert (lane.leased, lane.ready) == (3, 7)
        gate.open()
        await app.settle()
        assert gate.most == 3 and app.store.unsettled() == 0


async def test_a_later_high_priority_runs_before_the_lows_that_wait() -> None:
    order: list[Any] = []
    gate = Gate()

    async def handler(data: Any) -> None:
        if data == "first":
            await gate(data)
        order.append(data)

    async with running(step(handler, queue("in", config={"concurrency": 1}))) as app:
        await app.send("in", "first")
        await gate.entered(1)
        for data, priority in (("low", "low"), ("normal", "normal"), ("high", "high")):
            await app.send("in", data, priority=priority)
        gate.open()
        await app.settle()
        assert order == ["first", "high", "normal", "low"]


async def test_handlers_that_wait_start_in_the_same_turns_of_the_loop_however_many_there_are() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        await gate(data)

    async with running(step(handler, queue("in", config={"concurrency": 40}))) as app:
        await asyncio.gather(*(app.send("in", n) for n in range(40)))
        await gate.entered(1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.most == 40
        workers = [task for task in asyncio.all_tasks() if "QueueSource._work" in repr(task.get_coro())]
        assert len(workers) <= 41
        gate.open()
        await app.settle()


async def test_a_slot_that_frees_while_other_lanes_wait_for_messages_is_used() -> None:
    gate, ran = Gate(), asyncio.Event()

    async def busy(data: Any) -> None:
        if data == 1:
            await gate(data)
        else:
            ran.set()

    async def idle(data: Any) -> None: ...

    knobs = {"concurrency": 1}
    steps = step(busy, queue("busy", config=knobs), name="Busy"), step(idle, queue("idle"), name="Idle")
    async with running(*steps) as app:
        await app.send("busy", 1)
        await gate.entered(1)
        await turns()
        gate.open()
        await turns()
        await app.send("busy", 2)
        async with asyncio.timeout(10):
            await ran.wait()


async def test_a_slot_is_free_when_the_commit_that_settled_returned() -> None:
    """The second message starts only after the first one's settlement landed."""
    events: list[str] = []

    class Slow(RecordingStore):
        def submit(self, txn: Txn) -> asyncio.Future[Committed]:
            if not any(type(op).__name__ == "Ack" for op in txn.ops):
                return super().submit(txn)
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Committed] = loop.create_future()

            def land() -> None:
                events.append("landed")
                future.set_result(super(Slow, self).submit(txn).result())

            loop.call_later(0.01, land)
            return future

    async def handler(data: Any) -> None:
        events.append("ran")

    engine = Engine(
        config(), [step(handler, queue("in", config={"concurrency": 1}))], store=Slow(FakeClock())
    )
    async with engine:
        await engine.enqueue("in", 1)
        await engine.enqueue("in", 2)
        await engine.idle(10)
    assert events == ["ran", "landed", "ran", "landed"]


async def test_a_group_runs_one_at_a_time_in_order_through_retries() -> None:
    order: list[tuple[Any, int]] = []

    async def handler(data: Any, ctx: Context) -> None:
        order.append((data, ctx.attempt))
        if data == 1 and ctx.attempt == 1:
            raise ValueError("again")

    async with running(step(handler, queue("in"))) as app:
        for n in (1, 2, 3):
            await app.send("in", n, group="g", priority="high" if n == 3 else "low")
        await app.settle()
        assert order == [(1, 1)]
        await app.pass_time(1_000)
        assert order == [(1, 1), (1, 2), (2, 1), (3, 1)]


async def test_drain_waits_for_handlers_and_is_granted_nothing_more() -> None:
    gate = Gate()

    async def handler(data: Any) -> None:
        await gate(data)

    tables = MemoryTables()
    async with running(step(handler, queue("in", config={"concurrency": 1})), tables=tables) as app:
        await app.send("in", 1)
        await app.send("in", 2)
        await gate.entered(1)
        stopping = asyncio.ensure_future(app.engine.stop())
        await turns()
        assert not stopping.done()
        gate.open()
        await stopping
        store = RecordingStore(tables=tables)
        await store.open()
        (left,) = store.waiting("in")
        assert (left.payload, left.state, left.attempts) == (b"2", "ready", 0)
        await store.close()


async def test_a_handler_that_outlives_the_drain_is_given_back_without_an_attempt() -> None:
    gate = Gate()

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "b", 1)
        await gate(data)

    tables = MemoryTables()
    async with running(step(handler, queue("in")), tables=tables) as app:
        await app.send("in", 1)
        await gate.entered(1)
        await app.engine.stop(timeout_ms=10)
    store = RecordingStore(tables=tables)
    await store.open()
    (left,) = store.waiting("in")
    assert (left.state, left.attempts, left.crashes) == ("ready", 0, 0)
    assert store.get("a", "b") is None
    await store.close()


async def test_two_instances_share_a_lane_and_each_message_runs_once() -> None:
    ran: list[int] = []

    async def handler(data: int) -> None:
        ran.append(data)
        await asyncio.sleep(0)

    work = step(handler, queue("in", config={"concurrency": 2}))
    tables, clock = MemoryTables(), FakeClock()
    async with (
        running(work, tables=tables, clock=clock) as one,
        running(work, tables=tables, clock=clock) as two,
    ):
        for n in range(100):
            await (one, two)[n % 2].send("in", n)
        await one.settle()
        await two.settle()
        assert sorted(ran) == list(range(100))


async def test_a_dead_instances_message_runs_in_the_other_one_and_its_old_run_settles_nothing() -> None:
    gates = {"one": Gate(), "two": Gate()}

    def work(name: str) -> Any:
        async def handler(data: Any, ctx: Context) -> None:
            await ctx.state.set("ran", name, ctx.attempt)
            await gates[name](data)

        return step(handler, queue("in"))

    tables, clock = MemoryTables(), FakeClock()
    async with running(work("one"), tables=tables, clock=clock) as one:
        await one.send("in", 1)
        await gates["one"].entered(1)
        async with running(work("two"), tables=tables, clock=clock) as two:
            one.store.crash()
            await gates["two"].entered(1)
            gates["two"].open()
            await two.settle()
            gates["one"].open()
            await turns()
            assert await two.value("ran", "two") == 1
            assert await two.value("ran", "one") is None


async def test_a_message_that_kills_embedded_engines_is_a_dead_letter_after_twice_as_many_as_elsewhere() -> (
    None
):
    """No quarantine is there to tell whose fault a death is."""
    deaths = 2 * CRASHES_MIN
    runs = 0
    gate = Gate()

    async def handler(data: Any) -> None:
        nonlocal runs
        runs += 1
        await gate(data)

    work = step(handler, queue("in"))
    tables, clock = MemoryTables(), FakeClock()
    store = RecordingStore(clock, tables=tables)
    await store.open()
    for n in range(1, deaths + 1):
        async with running(work, tables=tables, clock=clock) as app:
            if n == 1:
                await app.send("in", 1)
            await gate.entered(1)
            app.store.crash()
            await app.engine.stop(timeout_ms=1)
    async with running(work, tables=tables, clock=clock) as app:
        await app.settle()
        (letter,) = app.letters("in.failed")
        assert (
            letter.dead is not None
            and letter.dead.error == f"worker died: {deaths} times while this message ran"
        )
        assert runs == deaths
    await store.close()


@pytest.mark.parametrize("concurrency", [1, 7, 64])
async def test_every_message_of_a_flood_over_two_hops_is_done_exactly_once(concurrency: int) -> None:
    async def first(data: int, ctx: Context) -> None:
        await ctx.state.update("sum", "first", [{"type": "increment", "path": "n", "by": data}])
        await ctx.enqueue("second", data)

    async def second(data: int, ctx: Context) -> None:
        await ctx.state.update("sum", "second", [{"type": "increment", "path": "n", "by": data}])

    knobs = {"concurrency": concurrency}
    steps = (
        step(first, queue("first", config=knobs), name="First"),
        step(second, queue("second", config=knobs), name="Second"),
    )
    async with running(*steps) as app:
        await asyncio.gather(*(app.send("first", n) for n in range(200)))
        await app.settle()
        assert [await app.value("sum", name) for name in ("first", "second")] == [{"n": 19_900}] * 2


async def test_a_settlement_that_fails_unexpectedly_gives_its_message_back() -> None:
    attempts: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            app.store.refuse = [RuntimeError("broken")]

    async with running(step(handler, queue("in", config={"retry_delay_max": "5s"}))) as app:
        await app.send("in")
        await app.settle()
        (message,) = app.waiting("in")
        assert (message.state, message.attempts) == ("later", 0)
        await app.pass_time(5_000)
        assert attempts == [1, 1]
        assert app.store.unsettled() == 0


async def test_what_is_given_back_is_released_once_the_store_takes_it() -> None:
    attempts: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            app.store.refuse = [RuntimeError("broken"), StoreFull("no room")]

    async with running(step(handler, queue("in", config={"concurrency": 1, "retry_delay_max": "5s"}))) as app:
        await app.send("in")
        await turns()
        assert [message.state for message in app.waiting("in")] == ["leased"]
        await app.pass_time(5_000)
        await app.pass_time(5_000)
        assert attempts == [1, 1] and app.store.unsettled() == 0
