"""What a run leaves in the history, in which commit, and which runs are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Running, running, step

from iii import Cancel, Context, Snooze, http, queue
from iii.config import HistoryConfig
from iii.model import ARCHIVE, Record
from iii.observe.runs import Run, RunRow, find_run, runs
from iii.step import Step, state_trigger
from iii.stores import limits_of
from iii.web.request import Request

HISTORY = HistoryConfig()
FAILURES_ONLY = HistoryConfig(traces_per_second=0)


async def ask(app: Running, method: str, path: str, **headers: str) -> int:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return (await app.engine.endpoint.answer(Request(method, path, b"", fields, b""))).status


def newest(app: Running, **wanted: Any) -> Run:
    return runs(app.store, limit=1, **wanted)[0].run


async def run_once(handler: Any, *, history: HistoryConfig = HISTORY, **config: Any) -> tuple[Run, Running]:
    work = step(handler, queue("in", config=config))
    async with running(work, history=history) as app:
        await app.send("in", {"n": 1})
        await app.settle()
        return newest(app), app


async def test_a_run_says_what_it_was_and_what_it_did() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("orders", "a", 1)
        await ctx.state.update("orders", "b", {"n": 1})
        await ctx.state.delete("orders", "c")
        await ctx.enqueue("out", "payload", delay=500)
        ctx.logger.info("Working", {"n": data["n"], "password": "hunter2"})

    run, app = await run_once(handler)
    assert (run.step, run.trigger, run.source, run.topic) == ("Work", "queue", "in", "in")
    assert (run.message_id, run.attempt, run.outcome, run.error) == (
        "000000000000-1",
        1,
        "done",
        "",
    )
    assert [(each.op, each.namespace, each.key) for each in run.changes] == [
        ("set", "orders", "a"),
        ("update", "orders", "b"),
        ("delete", "orders", "c"),
    ]
    assert [(each.topic, each.bytes, each.delay_ms) for each in run.enqueued] == [("out", 9, 500)]
    (line,) = run.logs
    assert (line.level, line.message, line.fields) == ("info", "Working", {"n": 1, "password": "[redacted]"})
    assert line.at_ms == run.started_ms == app.clock.wall_ms()


async def test_the_record_is_in_the_commit_of_the_outcome() -> None:
    async def handler(data: Any) -> None: ...

    work = step(handler, queue("in"))
    async with running(work, history=HISTORY) as app:
        await app.send("in")
        await app.settle()
        assert app.store.kinds() == [["Enqueue"], ["Ack", "Record"]]


async def test_a_failed_run_has_the_traceback_from_the_handler_on() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "kept", 1)
        await ctx.enqueue("out")
        raise KeyError("gone")

    run, _ = await run_once(handler, history=FAILURES_ONLY, max_retries=1)
    assert (run.outcome, run.error) == ("failed", "KeyError: 'gone'")
    assert 'raise KeyError("gone")' in run.traceback and "iii/running" not in run.traceback
    assert [each.key for each in run.changes] == ["kept"]
    assert run.enqueued == () and run.left_out.dropped == 1


@pytest.mark.parametrize(("value", "outcome"), [(Cancel("no need"), "cancelled"), (Snooze(1000), "snoozed")])
async def test_what_a_handler_returns_is_the_outcome(value: object, outcome: str) -> None:
    async def handler(data: Any) -> object:
        return value

    run, _ = await run_once(handler)
    assert run.outcome == outcome


async def test_what_was_flushed_counts_as_written() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "first", 1)
        await ctx.flush()
        await ctx.state.set("a", "late", 1)

    run, _ = await run_once(handler)
    assert [each.key for each in run.changes] == ["first", "late"]


async def test_the_wait_counts_from_when_a_message_could_have_run() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("again")

    work = step(handler, queue("in", config={"retry_delay": 5_000}))
    async with running(work, history=HISTORY) as app:
        await app.send("in", delay=10_000)
        await app.pass_time(10_400)
        assert newest(app).wait_ms == 400
        await app.pass_time(5_300)
        assert (newest(app).attempt, newest(app).wait_ms) == (2, 300)


async def test_what_does_not_fit_is_counted() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        for n in range(200):
            await ctx.state.set("a", f"{n}-{'k' * 100}", n)
            await ctx.enqueue("out", n)
            ctx.logger.info("x" * 500, n=n)

    run, _ = await run_once(handler)
    assert len(run.changes) + run.left_out.changes == 200 and run.left_out.changes > 100
    assert len(run.enqueued) + run.left_out.enqueued == 200
    assert len(run.logs) + run.left_out.logs == 200 and 10 < len(run.logs) < 100


async def test_a_record_stays_small_whatever_a_handler_does() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        for n in range(60):
            await ctx.state.set("\x01" * 120, f"{n}" + "\x01" * 370, n)
            ctx.logger.info("\x01" * 3_000, {"\x01" * 50: "\x01" * 5_000})
        raise ValueError("\x01" * 100_000)

    async with running(step(handler, queue("in")), history=HISTORY) as app:
        await app.send("in")
        await app.settle()
        ((_, content),) = app.store.records("run")
        assert len(content) <= 32 << 10 and newest(app).outcome == "failed"


def one_of_each() -> list[Step]:
    async def post(request: Request, ctx: Context) -> dict[str, Any]:
        await ctx.state.set("orders", "1", {"status": "new"})
        return {"status": 201}

    async def look(request: Request, ctx: Context) -> None:
        if request.path == "/broken":
            await ctx.state.set("orders", "never", 1)
            raise ValueError("no")

    async def changed(change: Any) -> None: ...

    return [
        step(post, http("POST", "/orders"), name="Post"),
        step(look, http("GET", "/orders"), http("GET", "/broken"), name="Look"),
        step(changed, state_trigger(namespace="orders"), name="Changed"),
    ]


async def test_a_request_is_recorded_in_the_commit_of_its_effects() -> None:
    async with running(*one_of_each(), history=HISTORY) as app:
        assert await ask(app, "POST", "/orders") == 201
        assert ["Put", "Record"] in app.store.kinds()
        run = newest(app, step="Post")
        assert (run.trigger, run.source, run.status, run.outcome) == ("http", "POST /orders", 201, "done")
        assert run.message_id == f"http-{run.span_id}"


async def test_a_request_without_effects_waits_for_no_commit_and_is_recorded_later() -> None:
    async with running(*one_of_each(), history=HISTORY) as app:
        for _ in range(3):
            await ask(app, "GET", "/orders")
        assert await ask(app, "GET", "/broken") == 500
        assert app.store.kinds() == []
        app.clock.advance(1_000)
        await app.settle()
        assert app.store.kinds() == [["Record"] * 4]
        assert [row.run.status for row in runs(app.store)] == [500, 204, 204, 204]
        run = newest(app)
        assert (run.outcome, run.error, run.changes) == ("failed", "ValueError: no", ())
        assert 'raise ValueError("no")' in run.traceback


async def test_what_waits_to_be_recorded_is_when_the_engine_stops() -> None:
    async with running(*one_of_each(), history=HISTORY) as app:
        await ask(app, "GET", "/orders")
        store = app.store
    (record,) = [op for txn in store.txns for op in txn.ops if isinstance(op, Record)]
    assert b"GET /orders" in record.content


async def test_successes_are_kept_for_some_traces_a_second_and_each_of_these_whole() -> None:
    async def first(data: Any, ctx: Context) -> None:
        await ctx.enqueue("second", data)
        await ctx.state.set("seen", str(data), data)

    async def other(data: Any) -> None: ...

    steps = (
        step(first, queue("first"), name="First"),
        step(other, queue("second"), name="Second"),
        step(other, state_trigger(namespace="seen"), name="Third"),
    )
    async with running(*steps, history=HistoryConfig(traces_per_second=2)) as app:
        await asyncio.gather(*(app.send("first", n) for n in range(100)))
        await app.settle()
        kept = runs(app.store, limit=1_000)
        traces: dict[str, set[str]] = {}
        for row in kept:
            traces.setdefault(row.run.trace_id, set()).add(row.run.step)
        assert len(traces) == 20, "the burst: ten seconds' worth"
        assert all(names == {"First", "Second", "Third"} for names in traces.values())
        app.clock.advance(1_000)
        await asyncio.gather(*(app.send("second", n) for n in range(100)))
        await app.settle()
        assert len(runs(app.store, limit=1_000)) == len(kept) + 2
        done = {row.step: row.done for row in app.store.stats()}
        assert done == {"First": 100, "Second": 200, "Third": 100}, "counts are exact"


async def test_a_callers_wish_to_keep_its_trace_is_honoured() -> None:
    async with running(*one_of_each(), history=FAILURES_ONLY) as app:
        for flags in ("00", "01"):
            await ask(app, "POST", "/orders", traceparent=f"00-{'a' * 32}-{'b' * 16}-{flags}")
        await app.settle()
        posts = runs(app.store, step="Post")
        assert [(row.run.trace_id, row.run.parent_id) for row in posts] == [("a" * 32, "b" * 16)]


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        (HistoryConfig(keep=0, keep_failed=5), ["dead", "failed"]),
        (HistoryConfig(keep=5, keep_failed=0), ["done", "done"]),
        (HistoryConfig(keep=5), ["dead", "done", "done", "failed"]),
    ],
)
async def test_failures_and_successes_are_kept_each_where_they_have_a_quota(
    history: HistoryConfig, kept: list[str]
) -> None:
    async def handler(data: Any) -> None:
        if data:
            raise ValueError("no")

    work = step(handler, queue("in", config={"max_retries": 0}))
    async with running(work, *one_of_each(), history=history) as app:
        await app.send("in", 0)
        await app.send("in", 1)
        await ask(app, "GET", "/broken")
        await ask(app, "GET", "/orders", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert sorted(row.run.outcome for row in runs(app.store)) == kept


async def test_with_keep_0_nothing_is_recorded() -> None:
    async def handler(data: Any) -> None:
        raise ValueError("no")

    async with running(step(handler, queue("in")), history=HistoryConfig(keep=0)) as app:
        await app.send("in")
        await app.settle()
        assert app.store.records("run") == []
        assert limits_of(app.engine.config).runs_failed_max == 0, "unless it is given"


async def test_a_store_without_room_for_records_still_takes_settlements() -> None:
    from iii.errors import StoreFull

    async def handler(data: Any) -> None: ...

    async with running(step(handler, queue("in")), history=HISTORY) as app:
        await app.send("in")
        app.store.refuse = [StoreFull("no room")]
        for _ in range(50):
            app.clock.advance(100)
            await asyncio.sleep(0)
        await app.settle()
        assert app.store.refuse == [] and app.store.kinds() == [["Enqueue"], ["Ack"]]


async def test_runs_are_found_by_step_outcome_trace_and_message_page_by_page() -> None:
    async def handler(data: Any) -> None:
        if data == 3:
            raise ValueError("no")

    work = step(handler, queue("in", config={"max_retries": 0}))
    async with running(work, history=HISTORY) as app:
        for n in range(6):
            await app.send("in", n)
            await app.settle()
        (dead,) = runs(app.store, outcome="dead")
        assert dead.run.message_id == "000000000000-4"
        assert [runs(app.store, message_id=id) for id in ("000000000000-4", "4")] == [[dead], [dead]]
        assert runs(app.store, message_id="0123456789ab-4") == []
        assert runs(app.store, trace_id=dead.run.trace_id, step="Work") == [dead]
        assert runs(app.store, step="Other") == []
        pages: list[RunRow] = []
        while page := runs(app.store, step="Work", limit=4, before=pages[-1].id if pages else None):
            pages += page
        assert [row.id for row in pages] == [6, 5, 4, 3, 2, 1]
        assert find_run(app.store, dead.id) == dead and find_run(app.store, 99) is None


async def test_the_reason_of_a_cancelled_run_and_the_error_of_a_failed_one_have_no_secrets() -> None:
    def handler(data: Any) -> Any:
        if data["n"] == 1:
            return Cancel("gone: password=hunter2")
        raise ValueError("password=hunter2")

    work = step(handler, queue("in", config={"max_retries": 0}))
    async with running(work, history=HISTORY) as app:
        for n in (1, 2):
            await app.send("in", {"n": n})
        await app.settle()
        found = {row.run.outcome: row.run for row in runs(app.store)}
        assert found["cancelled"].error == "gone: password=[redacted]"
        assert found["dead"].error == "ValueError: password=[redacted]"
        assert "hunter2" not in repr([found, app.store.waiting("in.failed", step=ARCHIVE)])
