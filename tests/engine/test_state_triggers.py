"""State triggers: which changes start a step, once, in order, and from when on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_kit import RecordingStore, Running, config, running, step

from iii import Context, StateChange, queue, state
from iii.clock import FakeClock
from iii.config import QueueConfig
from iii.engine import Engine
from iii.errors import ChangesHeld
from iii.model import TAIL, Change, Delete, Mark, Pause, Put, Txn
from iii.running.timers import Timers
from iii.sources.changes import ChangeSource
from iii.store.contract import Limits
from iii.store.memory import MemoryStore, MemoryTables


def listener(seen: list[Any], name: str = "Listener", **trigger: Any) -> Any:
    async def handler(change: StateChange) -> None:
        seen.append((change.key, change.type, change.old_value, change.value))

    return step(handler, state(**trigger), name=name)


@asynccontextmanager
async def limited(limits: Limits, tables: MemoryTables, *steps: Any) -> AsyncIterator[Running]:
    """A running engine whose store has other limits."""
    clock = FakeClock()
    store = RecordingStore(clock, tables=tables)
    store.limits = limits
    async with Engine(config(), steps, store=store) as engine:
        yield Running(engine, store, clock)


async def test_enter_fires_when_the_new_value_matches_and_the_old_did_not() -> None:
    enter: list[Any] = []
    every: list[Any] = []
    steps = (
        listener(enter, "Enter", namespace="m", filter={"s": "done"}),
        listener(every, "Every", namespace="m", filter={"s": "done"}, fire="every"),
    )
    async with running(*steps) as app:
        put = app.engine.state.set
        for value in ({"s": "new"}, {"s": "done"}, {"s": "done", "n": 1}, {"s": "new"}, {"s": "done"}):
            await put("m", "k", value)
        await put("other", "k", {"s": "done"})
        await app.engine.state.delete("m", "k")
        await app.settle()
        assert [new for *_, new in enter] == [{"s": "done"}, {"s": "done"}]
        assert [new for *_, new in every] == [{"s": "done"}, {"s": "done", "n": 1}, {"s": "done"}]


async def test_without_a_filter_every_change_fires_with_its_type_and_values() -> None:
    seen: list[Any] = []
    async with running(listener(seen)) as app:
        await app.engine.state.set("a", "k", 1)
        await app.engine.state.set("a", "k", 1)  # changes nothing
        await app.engine.state.set("a", "k", 2)
        await app.engine.state.delete("a", "k")
        await app.settle()
        assert seen == [("k", "created", None, 1), ("k", "updated", 1, 2), ("k", "deleted", 2, None)]


async def test_one_change_per_txn_and_key_and_its_trace_goes_on() -> None:
    traces: list[tuple[str, str]] = []

    async def writer(data: Any, ctx: Context) -> None:
        for n in range(3):
            await ctx.state.set("a", "k", n)
        traces.append(("writer", ctx.trace_id))

    async def reader(change: StateChange, ctx: Context) -> None:
        assert (change.value, change.version) == (2, 1)
        assert (ctx.trigger.type, ctx.trigger.index, ctx.trigger.namespace) == ("state", 1, "a")
        traces.append(("reader", ctx.trace_id))

    steps = (
        step(writer, queue("in"), name="Writer"),
        step(reader, state(namespace="elsewhere"), state(namespace="a"), name="Reader"),
    )
    async with running(*steps) as app:
        await app.send("in")
        await app.settle()
        (first, one), (second, two) = traces
        assert (first, second) == ("writer", "reader") and one == two
        assert app.waiting("$state/Reader") == []


async def test_the_messages_of_a_change_and_their_marks_are_one_commit() -> None:
    async with running(listener([], namespace="a")) as app:
        start = len(app.store.txns)
        await app.engine.state.set("a", "key", 1)
        await app.settle()
        assert app.store.kinds(start) == [["Put"], ["Mark", "Enqueue"], ["Ack"]]


async def test_changes_of_a_key_run_in_order_even_when_one_fails_first() -> None:
    seen: list[Any] = []

    async def handler(change: StateChange, ctx: Context) -> None:
        if ctx.attempt == 1 and change.value == 1:
            raise ValueError("again")
        seen.append((change.key, change.value))

    async with running(step(handler, state(namespace="a"))) as app:
        for n in (1, 2, 3):
            await app.engine.state.set("a", "slow", n)
        await app.engine.state.set("a", "quick", 9)
        await app.settle()
        assert seen == [("quick", 9)]
        await app.pass_time(1_000)
        assert seen == [("quick", 9), ("slow", 1), ("slow", 2), ("slow", 3)]


async def test_a_new_trigger_starts_now_and_a_known_one_catches_up_what_it_missed() -> None:
    tables, clock = MemoryTables(), FakeClock()
    known: list[Any] = []
    new: list[Any] = []
    async with running(listener(known, "Known", namespace="a"), tables=tables, clock=clock) as app:
        await app.engine.state.set("a", "before", 1)
        await app.settle()
    outside = RecordingStore(clock, tables=tables)
    await outside.open()
    await outside.commit(Txn((Put("a", "meanwhile", b"1"),)))
    await outside.close()
    steps = listener(known, "Known", namespace="a"), listener(new, "New", namespace="a")
    async with running(*steps, tables=tables, clock=clock) as app:
        await app.settle()
        await app.engine.state.set("a", "after", 1)
        await app.settle()
    assert [key for key, *_ in known] == ["before", "meanwhile", "after"]
    assert [key for key, *_ in new] == ["after"]


async def test_two_instances_fire_each_change_once() -> None:
    seen: list[Any] = []
    tables, clock = MemoryTables(), FakeClock()
    work = listener(seen, namespace="a")
    async with (
        running(work, tables=tables, clock=clock) as one,
        running(work, tables=tables, clock=clock) as two,
    ):
        for n in range(50):
            await (one, two)[n % 2].engine.state.set("a", f"{n:02}", n)
        await one.settle()
        await two.settle()
        await one.settle()
        assert sorted(new for *_, new in seen) == list(range(50))


async def test_a_trigger_that_writes_what_triggers_it_ends_as_a_loop() -> None:
    async def handler(change: StateChange, ctx: Context) -> None:
        await ctx.state.update("a", "k", [{"type": "increment", "path": "n"}])

    async with running(step(handler, state(namespace="a"))) as app:
        await app.engine.state.set("a", "k", {"n": 0})
        await app.settle()
        assert await app.value("a", "k") == {"n": 100}
        (letter,) = app.letters("$state/Work.failed")
        assert letter.dead is not None and letter.dead.error.startswith("loop")


async def test_the_tail_follows_although_nothing_fires_and_is_kept_at_the_end() -> None:
    tables = MemoryTables()
    async with running(listener([], namespace="quiet"), tables=tables) as app:
        for n in range(1_200):
            await app.engine.state.set("busy", "k", n)
        await app.settle()
        marked = app.store.mark(TAIL)
        assert marked is not None and marked >= 1_000
    assert tables.mark.get(TAIL) == 1_200


@pytest.mark.parametrize("size", [10, 3 << 20])
async def test_a_value_of_any_size_that_may_be_stored_may_trigger(size: int) -> None:
    seen: list[int] = []

    async def handler(change: StateChange) -> None:
        seen.append(len(change.value))

    async with running(step(handler, state(namespace="a"))) as app:
        await app.engine.state.set("a", "k", "x" * size)
        await app.engine.state.set("a", "k", "y" * size)
        await app.settle()
        assert seen == [size, size]


async def test_idle_waits_for_the_triggers_of_the_last_change() -> None:
    done = asyncio.Event()

    async def handler(change: StateChange) -> None:
        await asyncio.sleep(0.01)
        done.set()

    async with running(step(handler, state(namespace="a"))) as app:
        await app.engine.state.set("a", "k", 1)
        await app.engine.idle(10)
        assert done.is_set()


@pytest.mark.parametrize("listeners", [2, 5])
async def test_the_largest_values_trigger_any_number_of_steps(listeners: int) -> None:
    seen: list[tuple[int, int]] = []
    size = (4 << 20) - 2

    async def handler(change: StateChange) -> None:
        seen.append((len(change.old_value or ""), len(change.value)))

    steps = [step(handler, state(namespace="a"), name=f"Work{n}") for n in range(listeners)]
    async with running(*steps) as app:
        await app.engine.state.set("a", "k", "x" * size)
        await app.engine.state.set("a", "k", "y" * size)
        await app.settle()
        assert sorted(seen) == [(0, size)] * listeners + [(size, size)] * listeners


async def test_what_cannot_be_enqueued_is_skipped_with_an_error_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Any] = []
    tables = MemoryTables()
    async with limited(Limits(txn_bytes_max=1 << 20), tables, listener(seen, namespace="a")) as app:
        await app.engine.state.set("a", "large", "x" * 600_000)
        await app.engine.state.set("a", "large", "y" * 600_000)
        await app.engine.state.set("a", "small", 1)
        await app.settle()
    assert [(key, type) for key, type, *_ in seen] == [("large", "created"), ("small", "created")]
    assert [r.levelname for r in caplog.records if "Listener misses change 2" in r.message] == ["ERROR"]


async def test_a_trigger_whose_instance_is_down_loses_nothing_while_others_go_on() -> None:
    tables, clock = MemoryTables(), FakeClock()
    seen: list[Any] = []
    other: list[Any] = []
    limits = Limits(changes_max=10)
    async with limited(limits, tables, listener(seen, "Away", namespace="a")) as app:
        await app.settle()
    async with limited(limits, tables, listener(other, "Other", namespace="a")) as app:
        for n in range(1_200):
            await app.engine.state.set("a", "k", n)
        await app.settle()
    assert len(other) == 1_200 and tables.mark.get(TAIL) == 0
    async with running(listener(seen, "Away", namespace="a"), tables=tables, clock=clock) as app:
        await app.settle()
    assert [value for *_, value in seen] == list(range(1_200))
    assert tables.mark.get(TAIL) == 1_200


async def test_the_log_is_not_kept_for_a_trigger_that_was_edited_nor_for_one_long_gone() -> None:
    tables = MemoryTables()
    async with running(listener([], namespace="a"), tables=tables):
        pass
    async with running(listener([], namespace="b"), tables=tables) as app:
        await app.engine.state.set("b", "k", 1)
        await app.settle()
    assert tables.mark.get(TAIL) == 1
    outside: MemoryStore = RecordingStore(FakeClock(), tables=tables)
    await outside.open()
    await outside.commit(Txn((Mark("trigger/Gone/0", 1, None),)))
    await outside.close()
    async with running(tables=tables) as app:
        await app.engine.state.set("b", "k", 2)
    assert tables.mark.get(TAIL) == 1
    outside = MemoryStore(FakeClock(), Limits(changes_bytes_max=1_000), tables=tables)
    await outside.open()
    await outside.commit(Txn((Put("b", "k", b"1" * 2_000),)))
    await outside.close()
    assert tables.mark.get(TAIL) == 3 and tables.mark.get("forgotten/Gone/0")


async def test_instances_that_share_some_triggers_fire_each_change_once_for_each() -> None:
    tables, clock = MemoryTables(), FakeClock()
    both: list[Any] = []
    left: list[Any] = []
    right: list[Any] = []
    shared = listener(both, "Both", namespace="a")
    async with (
        running(shared, listener(left, "Left", namespace="a"), tables=tables, clock=clock) as one,
        running(listener(right, "Right", namespace="a"), shared, tables=tables, clock=clock) as two,
    ):
        for n in range(60):
            await (one, two)[n % 2].engine.state.set("a", f"{n:02}", n)
        for app in (one, two, one):
            await app.settle()
        for seen in (both, left, right):
            assert sorted(new for *_, new in seen) == list(range(60))


async def test_what_fires_nothing_writes_nothing() -> None:
    tables = MemoryTables()
    async with running(listener([], namespace="quiet"), tables=tables) as app:
        before = len(app.store.txns)
        for n in range(50):
            await app.engine.state.set("busy", "k", n)
            await app.settle()
        assert len(app.store.txns) == before + 50


@pytest.mark.parametrize("broken", [b"{oops", b"\xff"])
async def test_a_value_that_is_no_json_is_skipped_with_an_error(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    async with running(listener(seen, namespace="a", filter={"s": 1})) as app:
        await app.store.commit(Txn((Put("a", "broken", broken),)))
        await app.engine.state.set("a", "k", {"s": 1})
        await app.settle()
        assert [key for key, *_ in seen] == ["k"]
    assert [r.levelname for r in caplog.records if "misses change 1 of a/broken" in r.message] == ["ERROR"]


async def test_a_source_that_dies_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenStore(RecordingStore):
        async def changes(self, after: int, limit: int, wait_ms: int | None) -> list[Change]:
            raise RuntimeError("broken")

    store, died = BrokenStore(FakeClock()), asyncio.Event()
    await store.open()
    timers = Timers(store.clock)
    source = ChangeSource(store, timers, [listener([])], lambda: None, on_failure=lambda _: died.set())
    await source.start()
    async with asyncio.timeout(10):
        await died.wait()
    assert [r.levelname for r in caplog.records if r.name == "iii.engine"] == ["CRITICAL"]
    with pytest.raises(RuntimeError):
        await source.caught_up()
    timers.close()
    await store.close()


async def test_a_trigger_whose_queue_holds_less_than_a_page_of_changes_takes_what_fits() -> None:
    seen: list[Any] = []
    async with shallow(seen, MemoryStore(), depth=6) as engine:
        await engine.store.commit(Txn([Put("a", str(n), b"%d" % n) for n in range(20)]))
        await engine.idle(20)
    assert sorted(value for *_, value in seen) == list(range(20))


def shallow(seen: list[Any], store: MemoryStore, depth: int) -> Engine:
    """An engine whose trigger's queue holds so many messages."""
    queues = {"$state/Listener": QueueConfig(max_depth=depth)}
    return Engine(config(queues=queues), [listener(seen, namespace="a")], store=store)


async def count_up(engine: Engine, counted: list[int]) -> None:
    """Overwrite a key until that is refused."""
    while True:
        await engine.state.set("a", "k", [len(counted), "x" * 200])
        counted.append(len(counted))


async def test_a_trigger_that_is_behind_holds_the_log_then_catches_up_and_missed_nothing() -> None:
    seen, written = list[Any](), list[int]()
    store = MemoryStore(limits=Limits(changes_bytes_max=4_000))
    async with shallow(seen, store, depth=20) as engine:
        await store.commit(Txn([Pause("$state/Listener", "Listener", True)]))
        with pytest.raises(ChangesHeld, match="step Listener"):
            await count_up(engine, written)
        await engine.store.commit(Txn([Delete("a", "k"), Pause("$state/Listener", "Listener", False)]))
        await engine.idle(20)
        await engine.state.set("a", "k", "on")
        await engine.idle(20)
    assert [value and value[0] for *_, value in seen] == [*written, None, "o"]


async def test_large_values_move_the_marks_of_a_trigger_that_keeps_up() -> None:
    """Else the log would be held by a trigger that has seen all of it."""
    tables, seen = MemoryTables(), list[Any]()
    limits = Limits(changes_bytes_max=40_000)
    async with limited(limits, tables, listener(seen, namespace="a", filter={"never": 1})) as app:
        for n in range(300):
            await app.engine.state.set("a", "k", [n, "x" * 1_000])
            await app.settle()
    assert len(tables.change) < 45 and not tables.mark.get("forgotten/Listener/0")


async def test_a_forgotten_trigger_that_is_served_again_sees_what_is_left_and_holds_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables, seen, limits = MemoryTables(), list[Any](), Limits(changes_bytes_max=4_000)
    async with limited(limits, tables, listener([], namespace="a")):
        pass
    async with limited(limits, tables, listener([], "Other", namespace="b")) as app:
        for n in range(100):
            await app.engine.state.set("a", "k", [n, "x" * 200])
    assert [name for name, _ in tables.mark.scan() if name.startswith("forgotten/Listener/")]
    async with limited(limits, tables, listener(seen, namespace="a")) as app:
        await app.settle()
    assert [value[0] for *_, value in seen] == list(range(100 - len(seen), 100)) and 3 < len(seen) < 20
    assert "Listener was away for long" in caplog.text and "is waited for no more" in caplog.text
    assert not any(at for name, at in tables.mark.scan() if name.startswith("forgotten/Listener/"))
