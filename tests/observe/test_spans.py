"""Runs as OpenTelemetry spans: what a collector gets equals what the engine records, by ids and tree."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from engine_kit import step
from opentelemetry import trace as otel
from otlp_kit import Collector
from spans_kit import TRACEPARENT, ask, traced

from iii import Cancel, Context, Snooze, cron, http, queue, state
from iii.config import HistoryConfig, HttpConfig
from iii.definitions.loader import load_steps
from iii.errors import Conflict, LeaseLost
from iii.model import Enqueue, Txn
from iii.observe.traces import TraceNode, trace
from iii.step import state_trigger

ROOT = Path(__file__).parents[2]


def grown(nodes: tuple[TraceNode, ...]) -> list[Any]:
    """As Collector.tree."""
    return sorted(
        (each.run.span_id, (each.run.step, each.run.attempt, each.run.outcome), grown(each.children))
        for each in nodes
    )


# ------------------------------------------------------------------------------------------ the tree


async def test_the_spans_of_the_example_are_the_engines_own_trace(collector: Collector) -> None:
    steps = load_steps(ROOT / "steps")
    async with traced(collector, *steps, history=HistoryConfig()) as app:
        json = {"content-type": "application/json"}
        answer = await ask(app, "POST", "/messages", b'{"text": "hi", "priority": "high"}', **json)
        assert answer.status == 200
        await app.settle()
        _, trace_id, span_id, _ = dict(answer.headers)[b"traceparent"].decode().split("-")
        own = trace(app.store, trace_id)
        assert own is not None
    assert {span.trace_id for span in collector.spans} == {trace_id}
    ((root, (name, _, _), ((_, (worker, _, _), ((_, (told, _, _), ()),)),)),) = as_tuples(collector.tree())
    assert (root, name, worker, told) == (span_id, "SendMessage", "ProcessMessage", "NotifyCompletion")
    assert collector.tree() == grown(own.roots)
    post, process, notify = (collector.of_step(name)[0] for name in (name, worker, told))
    assert [span.parent_id for span in (post, process, notify)] == ["", post.span_id, process.span_id]


def as_tuples(nodes: list[Any]) -> tuple[Any, ...]:
    return tuple((id, what, as_tuples(children)) for id, what, children in nodes)


async def test_each_kind_of_trigger_has_its_kind_of_span_and_the_conventions_attributes(
    collector: Collector,
) -> None:
    async def post(request: Any, ctx: Context) -> dict[str, Any]:
        await ctx.enqueue("mail", {"to": "ada"}, delay=250)
        return {"status": 202}

    async def work(data: Any, ctx: Context) -> None:
        await ctx.state.set("mails", "ada", {"sent": True})

    async def nothing(data: Any) -> None: ...

    steps = (
        step(post, http("POST", "/mails/{to}"), name="Post"),
        step(work, queue("mail"), name="Send"),
        step(nothing, state_trigger(namespace="mails"), name="Watch"),
        step(nothing, cron("0 0 2 * * * *"), name="Nightly"),
    )
    async with traced(collector, *steps) as app:
        began_ms = app.clock.wall_ms()
        await ask(app, "POST", "/mails/ada", traceparent=TRACEPARENT)
        await app.pass_time(250)
        await app.engine.run_cron("Nightly")
        await app.settle()
    request, send = collector.named("POST /mails/{to}"), collector.named("process mail")
    watch, nightly = collector.named("process $state/Watch"), collector.named("process $cron/Nightly")
    kinds = [span.kind for span in (request, send, watch, nightly)]
    assert kinds == ["server", "consumer", "consumer", "consumer"]
    assert (request.trace_id, request.parent_id) == ("a" * 32, "b" * 16), "the caller's"
    assert nightly.parent_id == "" and nightly.trace_id != request.trace_id, "nobody's"
    assert request.attributes == {
        "iii.step": "Post", "iii.trigger": "http", "iii.attempt": 1, "iii.outcome": "done", "iii.session": 1,
        "http.request.method": "POST", "http.route": "/mails/{to}", "http.response.status_code": 202,
    }  # fmt: skip
    message = {
        "iii.attempt": 1, "iii.outcome": "done", "iii.session": 1, "iii.wait_ms": 0,
        "messaging.system": "iii",
        "messaging.operation.name": "process", "messaging.operation.type": "process",
    }  # fmt: skip
    assert send.attributes == message | {
        "iii.step": "Send", "iii.trigger": "queue", "messaging.destination.name": "mail",
        "messaging.consumer.group.name": "Send", "messaging.message.id": "000000000000-1",
    }  # fmt: skip
    assert watch.attributes == message | {
        "iii.step": "Watch", "iii.trigger": "state", "messaging.destination.name": "$state/Watch",
        "messaging.consumer.group.name": "Watch", "messaging.message.id": "000000000000-2",
        "iii.state.namespace": "mails", "iii.state.key": "ada",
    }  # fmt: skip
    assert nightly.attributes["iii.cron.expression"] == "0 0 2 * * * *"
    assert request.start_ns == began_ms * 1_000_000, "the engine's clock"
    assert send.start_ns == (began_ms + 250) * 1_000_000
    assert all(0 < span.end_ns - span.start_ns < 10**9 for span in collector.spans)
    assert {span.scope for span in collector.spans} == {"iii"}


async def test_a_caller_of_enqueue_is_the_parent_of_the_messages_run(collector: Collector) -> None:
    async def work(data: Any) -> None: ...

    async with traced(collector, step(work, queue("in"))) as app:
        await app.send("in", headers={"traceparent": TRACEPARENT})
        await app.send("in")
        await app.settle()
    carried, own = sorted(collector.spans, key=lambda span: span.parent_id, reverse=True)
    assert (carried.trace_id, carried.parent_id, own.parent_id) == ("a" * 32, "b" * 16, "")


# ---------------------------------------------------------------------------------- outcomes and errors


async def test_a_failed_attempt_is_an_error_with_its_exception_and_the_retry_stands_beside_it(
    collector: Collector,
) -> None:
    async def post(request: Any, ctx: Context) -> None:
        await ctx.enqueue("in")

    async def work(data: Any, ctx: Context) -> None:
        if ctx.attempt < 3:
            raise ValueError("not yet")

    steps = step(post, http("POST", "/")), step(work, queue("in", config={"retry_delay": 1_000}), name="W")
    async with traced(collector, *steps) as app:
        await ask(app, "POST", "/")
        for _ in range(2):
            await app.settle()
            await app.pass_time(1_000)
    first, second, third = collector.of_step("W")
    assert {span.parent_id for span in (first, second, third)} == {collector.named("POST /").span_id}
    assert [span.attributes["iii.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert len({span.attributes["messaging.message.id"] for span in (first, second, third)}) == 1
    for span in (first, second):
        assert (span.status, span.status_text) == ("error", "ValueError: not yet")
        assert (span.attributes["iii.outcome"], span.attributes["error.type"]) == ("failed", "ValueError")
        ((name, exception),) = span.events
        assert (name, exception["exception.type"]) == ("exception", "ValueError")
        assert exception["exception.message"] == "not yet"
        assert 'raise ValueError("not yet")' in exception["exception.stacktrace"]
        assert "iii/running" not in exception["exception.stacktrace"], "from the handler on"
    assert (third.status, third.events, third.attributes["iii.outcome"]) == ("unset", (), "done")


async def test_every_outcome_is_told(collector: Collector) -> None:
    waits = asyncio.Event()

    async def work(data: Any, ctx: Context) -> Any:
        match data:
            case "snooze":
                return Snooze(1_000_000) if ctx.attempt == 1 else None
            case "cancel":
                return Cancel("not wanted")
            case "late":
                waits.set()
                await asyncio.Event().wait()
            case "die":
                raise LookupError
        return None

    rules = {"max_retries": 0, "timeout": "1s", "concurrency": 1}
    async with traced(collector, step(work, queue("in", input={"type": "string"}, config=rules))) as app:
        for data in ("snooze", "cancel", "die"):
            await app.send("in", data)
            await app.settle()
        await app.send("in", "late")
        await waits.wait()
        app.clock.advance(1_000)
        await app.settle()
    spans = {span.attributes["messaging.message.id"].split("-")[1]: span for span in collector.spans}
    outcomes = {id: (span.attributes["iii.outcome"], span.status) for id, span in spans.items()}
    assert outcomes == {
        "1": ("snoozed", "unset"),
        "2": ("cancelled", "unset"),
        "3": ("dead", "error"),
        "4": ("dead", "error"),
    }
    assert spans["2"].attributes["iii.cancel_reason"] == "not wanted"
    assert spans["3"].attributes["error.type"] == "LookupError"
    assert (spans["4"].attributes["error.type"], spans["4"].status_text) == (
        "timeout",
        "timeout: not done within 1s",
    )


async def test_what_never_reached_its_handler_has_a_span_too(collector: Collector) -> None:
    async def work(data: Any) -> None: ...

    async with traced(collector, step(work, queue("in"), state())) as app:
        deep = {"traceparent": TRACEPARENT, "iii-hops": "101:1"}
        await app.store.commit(
            Txn((Enqueue("$state/Work", b"1", headers=deep, step="Work"), Enqueue("in", b"no JSON")))
        )
        await app.settle()
    loop, unread = sorted(collector.spans, key=lambda span: span.attributes["messaging.message.id"])
    assert (loop.attributes["iii.outcome"], loop.attributes["error.type"]) == ("dead", "loop")
    assert (loop.trace_id, loop.parent_id) == ("a" * 32, "b" * 16)
    assert (unread.attributes["iii.outcome"], unread.status) == ("dead", "error")


@pytest.mark.parametrize(
    ("what", "status", "span_status", "outcome", "error"),
    [
        ("raise", 500, "error", "failed", "ZeroDivisionError"),
        ("503", 503, "error", "failed", "503"),
        ("late", 504, "error", "failed", "Late"),
        ("404", 404, "unset", "done", None),
        ("conflict", 409, "unset", "failed", "Conflict"),
    ],
)
async def test_a_requests_answer_decides_on_its_error(
    collector: Collector, what: str, status: int, span_status: str, outcome: str, error: str | None
) -> None:
    async def get(request: Any, ctx: Context) -> Any:
        match what:
            case "raise":
                return 1 / 0
            case "late":
                await asyncio.Event().wait()
            case "conflict":
                raise Conflict("somebody was quicker")
        return {"status": int(what)}

    changes = {"http": HttpConfig(timeout_ms=1_000)}
    async with traced(collector, step(get, http("GET", "/it")), **changes) as app:
        asked = asyncio.create_task(ask(app, "GET", "/it"))
        await asyncio.sleep(0)
        app.clock.advance(1_000)
        assert (await asked).status == status
    (span,) = collector.spans
    assert (span.status, span.attributes["iii.outcome"], span.attributes.get("error.type")) == (
        span_status,
        outcome,
        error,
    )
    assert span.attributes["http.response.status_code"] == status
    assert len(span.events) == (error is not None and not error.isdigit())


# ------------------------------------------------------------------------------- what is exported, and when


async def test_of_traces_that_are_not_kept_failures_alone_are_exported(collector: Collector) -> None:
    flags = []

    async def work(data: Any) -> None:
        flags.append(otel.get_current_span().get_span_context().trace_flags)
        if data == "bad":
            raise ValueError

    history = HistoryConfig(traces_per_second=0)
    async with traced(collector, step(work, queue("in", config={"max_retries": 0})), history=history) as app:
        await app.send("in", "good")
        await app.send("in", "bad")
        await app.settle()
        assert {row.step: row.done for row in app.store.stats() if row.step == "Work"} == {"Work": 1}
    assert flags == [0, 0], "spans of the handlers' own are not sampled then"
    assert [span.attributes["iii.outcome"] for span in collector.spans] == ["dead"]


async def test_without_a_history_spans_leave_and_nothing_is_recorded(collector: Collector) -> None:
    async def handle(data: Any) -> None: ...

    steps = step(handle, queue("in")), step(handle, http("GET", "/"), name="Get")
    async with traced(collector, *steps, history=HistoryConfig(keep=0)) as app:
        await app.send("in")
        await ask(app, "GET", "/")
        await app.settle()
        assert app.store.records("run") == [] and app.store.kinds() == [["Enqueue"], ["Ack"]]
    assert {span.attributes["iii.step"] for span in collector.spans} == {"Work", "Get"}


async def test_effects_that_are_refused_leave_the_one_span_of_a_failure(collector: Collector) -> None:
    async def work(data: Any, ctx: Context) -> None:
        await ctx.state.set("a", "1", 1, if_version=0)
        await app.engine.state.set("a", "1", 2)

    async def post(request: Any, ctx: Context) -> None:
        await work(None, ctx)

    rules = {"max_retries": 0}
    steps = step(work, queue("in", config=rules)), step(post, http("POST", "/"), name="Post")
    async with traced(collector, *steps) as app:
        await app.send("in")
        await app.settle()
        await app.engine.state.delete("a", "1")
        assert (await ask(app, "POST", "/")).status == 409
    found = [(span.attributes["iii.step"], span.attributes["iii.outcome"]) for span in collector.spans]
    assert sorted(found) == [("Post", "failed"), ("Work", "dead")]


async def test_a_run_that_lost_its_lease_has_no_span_for_another_one_has(collector: Collector) -> None:
    async def work(data: Any) -> None: ...

    async with traced(collector, step(work, queue("in"))) as app:
        await app.send("in")
        app.store.refuse = [LeaseLost("gone")]
        while app.store.refuse:
            await asyncio.sleep(0)
    assert collector.spans == []
