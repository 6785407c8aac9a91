"""One outcome, one commit: what a handler buffered lands with its settlement, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import running, step

from iii import Cancel, Conflict, Context, HandlerEnded, Snooze, UndeclaredTopic, ValidationError, queue
from iii.errors import BadMerge, InputError, StepError, StoreFull, TooLarge
from iii.observe import runs


async def test_effects_and_settlement_are_one_commit() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("out", "a", data)
        await ctx.state.update("out", "b", {"n": 1})
        await ctx.state.delete("out", "c")
        await ctx.enqueue("next", data)

    async with running(step(handler, queue("in"))) as app:
        await app.send("in", {"x": 1})
        start = len(app.store.txns)
        await app.settle()
        assert app.store.kinds(start) == [["Put", "Merge", "Delete", "Enqueue", "Ack"]]
        assert await app.value("out", "a") == {"x": 1}


async def test_a_handler_without_effects_costs_its_settlement_alone() -> None:
    async def handler() -> None: ...

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        start = len(app.store.txns)
        await app.settle()
        assert app.store.kinds(start) == [["Ack"]]


@pytest.mark.parametrize(
    ("on_error", "state", "sent"), [("keep", "failed", 0), ("keep_all", "failed", 1), ("discard", None, 0)]
)
async def test_what_a_raising_attempt_keeps(on_error: str, state: str | None, sent: int) -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("jobs", "1", "failed")
        await ctx.enqueue("next", data)
        raise ValueError("no")

    async with running(step(handler, queue("in"), on_error=on_error)) as app:
        await app.send("in")
        start = len(app.store.txns)
        await app.settle()
        assert await app.value("jobs", "1") == state
        assert len(app.waiting("next")) == sent
        assert len(app.store.kinds(start)) == 1
        (message,) = app.waiting("in")
        assert (message.state, message.attempts, message.error) == ("later", 1, "ValueError: no")


async def test_a_flush_commits_what_is_buffered_so_far_and_holds_the_lease() -> None:
    seen: list[Any] = []

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("progress", "1", "half")
        await ctx.flush()
        seen.append(app.store.get("progress", "1"))
        await ctx.state.set("progress", "1", "done")
        raise ValueError("late")

    async with running(step(handler, queue("in"), on_error="discard")) as app:
        await app.send("in")
        start = len(app.store.txns)
        await app.settle()
        assert app.store.kinds(start)[0] == ["Put", "Hold"]
        assert seen[0].value == b'"half"'
        assert await app.value("progress", "1") == "half"


async def test_a_context_ends_with_its_attempt() -> None:
    kept: list[Context] = []

    async def handler(data: Any, ctx: Context) -> None:
        kept.append(ctx)

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        version = app.store.version()
        for use in (
            kept[0].state.set("a", "b", 1),
            kept[0].state.get("a", "b"),
            kept[0].enqueue("in", 1),
            kept[0].flush(),
        ):
            with pytest.raises(HandlerEnded):
                await use
        assert app.store.version() == version and app.waiting("in") == []


async def test_snooze_returns_the_message_later_and_counts_no_attempt() -> None:
    attempts: list[int] = []

    async def handler(data: Any, ctx: Context) -> Any:
        attempts.append(ctx.attempt)
        await ctx.state.update("seen", "1", [{"type": "increment", "path": "times"}])
        return Snooze("5s") if len(attempts) < 3 else None

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        await app.pass_time(4_999)
        assert attempts == [1]
        await app.pass_time(1)
        await app.pass_time(5_000)
        assert attempts == [1, 1, 1]
        assert await app.value("seen", "1") == {"times": 3}
        assert app.store.unsettled() == 0


async def test_cancel_ends_the_message_with_its_effects_and_without_a_dead_letter() -> None:
    async def handler(data: Any, ctx: Context) -> Any:
        await ctx.state.set("jobs", "1", "cancelled")
        return Cancel("nobody wants it any more")

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert await app.value("jobs", "1") == "cancelled"
        assert app.store.unsettled() == 0 and app.letters("in.failed") == []


async def test_a_conflict_at_the_call_can_be_caught() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        entry = await ctx.state.entry("stock", "1")
        assert entry is not None and entry.value == 5
        with pytest.raises(Conflict, match="if_version says"):
            await ctx.state.set("stock", "1", 4, if_version=entry.version + 1)
        await ctx.state.set("stock", "1", 4, if_version=entry.version)
        with pytest.raises(Conflict):
            await ctx.state.set("stock", "new", 1, if_version=7)
        await ctx.state.set("stock", "new", 1, if_version=0)

    async with running(step(handler, queue("in"))) as app:
        await app.engine.state.set("stock", "1", 5)
        await app.send("in")
        await app.settle()
        assert [await app.value("stock", key) for key in ("1", "new")] == [4, 1]


async def test_a_conflict_at_the_commit_is_a_failed_attempt_without_effects() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        entry = await ctx.state.entry("stock", "1")
        assert entry is not None
        await ctx.state.set("stock", "1", entry.value + 1, if_version=entry.version)
        await ctx.state.set("other", "1", "written")
        if ctx.attempt == 1:  # somebody else is faster
            await app.engine.state.set("stock", "1", 10)

    async with running(step(handler, queue("in"))) as app:
        await app.engine.state.set("stock", "1", 5)
        await app.send("in")
        await app.settle()
        assert await app.value("stock", "1") == 10
        assert await app.value("other", "1") is None
        (message,) = app.waiting("in")
        assert message.attempts == 1 and "Conflict" in (message.error or "")
        await app.pass_time(1_000)
        assert await app.value("stock", "1") == 11


async def test_a_write_upon_ones_own_keeps_what_that_one_was_built_on() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        entry = await ctx.state.entry("stock", "1")
        assert entry is not None
        await ctx.state.set("stock", "1", entry.value + 1, if_version=entry.version)
        await ctx.state.set("stock", "1", entry.value + 2)
        if ctx.attempt == 1:
            await app.engine.state.set("stock", "1", 10)

    async with running(step(handler, queue("in"))) as app:
        await app.engine.state.set("stock", "1", 5)
        await app.send("in")
        await app.settle()
        assert await app.value("stock", "1") == 10
        await app.pass_time(1_000)
        assert await app.value("stock", "1") == 12


async def test_a_flush_that_nobody_waited_for_lands_before_the_settlement() -> None:
    flushes: list[Any] = []

    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "1", "flushed")
        flushes.append(asyncio.ensure_future(ctx.flush()))
        await asyncio.sleep(0)

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert await app.value("a", "1") == "flushed"
        await flushes[0]


async def test_a_full_store_is_waited_for_and_the_handler_not_run_again() -> None:
    runs: list[int] = []

    async def handler(data: Any, ctx: Context) -> None:
        runs.append(ctx.attempt)
        await ctx.state.set("out", "1", "written")

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        app.store.refuse = [StoreFull("no room")] * 3
        await asyncio.sleep(0)
        for _ in range(50):
            app.clock.advance(100)
            await asyncio.sleep(0)
        await app.settle()
        assert app.store.refuse == []
        assert runs == [1]
        assert await app.value("out", "1") == "written"


async def test_a_lost_lease_discards_silently() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("out", "1", ctx.attempt)

    from iii.errors import LeaseLost

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        app.store.refuse = [LeaseLost("gone")]
        while app.store.refuse:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await app.value("out", "1") is None
        await app.store.close_session()  # the message goes to whoever comes next


async def test_undeclared_topics_and_refused_input_are_told_at_the_call() -> None:
    told: list[Exception] = []

    async def sender(data: Any, ctx: Context) -> None:
        for message in (
            {"topic": "elsewhere", "data": 1},
            {"topic": "checked", "data": {"n": "seven"}},
            {"topic": "checked", "data": {"n": 7}, "prio": 1},
            {"topic": "checked", "data": object()},
        ):
            try:
                await ctx.enqueue(message)
            except Exception as error:
                told.append(error)

    async def checked(data: dict[str, int]) -> None: ...

    steps = (
        step(sender, queue("in"), enqueues=["checked"]),
        step(checked, queue("checked", input=dict[str, int]), name="Checked"),
    )
    async with running(*steps) as app:
        await app.send("in")
        await app.settle()
        assert [type(error) for error in told] == [UndeclaredTopic, ValidationError, InputError, StepError]
        assert "did you mean 'priority'?" in str(told[2])
        assert app.waiting("checked") == []


async def test_too_much_for_one_txn_is_told_at_the_call_and_fits_after_a_flush() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        mebibyte = "x" * ((1 << 20) - 100)
        for n in range(15):
            await ctx.state.set("big", str(n), mebibyte)
        with pytest.raises(TooLarge, match=r"flush\(\)"):
            await ctx.state.set("big", "15", mebibyte)
        await ctx.flush()
        for n in range(15, 20):
            await ctx.state.set("big", str(n), mebibyte)
        with pytest.raises(TooLarge, match="value of"):
            await ctx.state.set("big", "huge", "x" * (4 << 20))

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.waiting("in") == []
        assert len(await app.engine.state.items("big")) == 20


async def test_a_bad_merge_is_told_at_the_call() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "list", [])
        with pytest.raises(BadMerge):
            await ctx.state.update("a", "list", {"n": 1})
        with pytest.raises(InputError):
            await ctx.state.update("a", "list", [{"type": "explode", "path": "x"}])
        assert await ctx.state.update("a", "n", [{"type": "append", "path": "", "value": 1}]) == [1]

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.waiting("in") == []
        assert [await app.value("a", key) for key in ("list", "n")] == [[], [1]]


async def test_failed_attempts_leave_a_run_record_in_the_same_commit() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        if data == "bad":
            raise ValueError("no")

    from iii.config import HistoryConfig

    work = step(handler, queue("in", config={"max_retries": 0}))
    async with running(work, history=HistoryConfig(traces_per_second=0)) as app:
        good, bad = await app.send("in", "good"), await app.send("in", "bad")
        await app.settle()
        (record,) = [runs.decode(content) for _, content in app.store.records("run")]
        assert good != bad
        assert (record.message_id, record.outcome, record.error) == (bad, "dead", "ValueError: no")
        assert (record.step, record.trigger, record.topic, record.attempt) == ("Work", "queue", "in", 1)
        assert ["Ack", "Enqueue", "Record"] in app.store.kinds()


async def test_the_message_id_is_the_same_on_every_attempt_and_differs_per_subscriber() -> None:
    seen: dict[str, list[str]] = {"One": [], "Two": []}

    async def handler(data: Any, ctx: Context) -> None:
        seen[ctx.step.name].append(ctx.message_id)
        if ctx.attempt == 1:
            raise ValueError("again")

    async with running(step(handler, queue("in"), name="One"), step(handler, queue("in"), name="Two")) as app:
        await app.send("in")
        await app.settle()
        await app.pass_time(1_000)
        (one, other_one), (two, other_two) = seen["One"], seen["Two"]
        assert one == other_one and two == other_two and one != two


async def test_what_stands_beside_an_enqueued_dict_counts_too() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.enqueue({"topic": "next", "data": 1}, delay="1h", priority="high", headers={"a": "b"})
        with pytest.raises(InputError, match="'priority' is given twice"):
            await ctx.enqueue({"topic": "next", "priority": 1}, priority="high")

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        (message,) = app.waiting("next")
        assert (message.state, message.priority, message.headers["a"]) == ("later", 192, "b")


async def test_an_error_that_cannot_say_what_it_is_fails_the_attempt_like_any_other() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def handler() -> None:
        raise Mute

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        (message,) = app.waiting("in")
        assert (message.state, message.attempts) == ("later", 1)
        assert message.error is not None and message.error.startswith("Mute")
