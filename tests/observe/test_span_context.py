"""While a handler runs, its run's span is OpenTelemetry's current one: what lies in it, what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from engine_kit import garbage_of, step
from opentelemetry import propagate
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_kit import Collector
from spans_kit import ask, traced

from iii import Context, http, queue

RUNS = 50


@pytest.fixture
def tracer() -> Iterator[otel.Tracer]:
    """As a library's, whose spans go elsewhere: to `tracer.exported`."""
    provider, exported = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    tracer = provider.get_tracer("library")
    tracer.exported = exported  # type: ignore[attr-defined]
    yield tracer
    provider.shutdown()


async def test_spans_of_a_handlers_own_lie_in_the_run_and_what_it_calls_hears_of_it(
    collector: Collector, tracer: Any
) -> None:
    sent: dict[str, dict[str, str]] = {}

    async def waits(data: Any, ctx: Context) -> None:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("waits"):
            await asyncio.create_task(asyncio.sleep(0))
            propagate.inject(sent.setdefault("waits", {}))

    async def runs_through(data: Any, ctx: Context) -> None:
        assert ctx.trace_id == f"{otel.get_current_span().get_span_context().trace_id:032x}"
        with tracer.start_as_current_span("runs through"):
            pass
        propagate.inject(sent.setdefault("run", {}))

    def blocks(data: Any) -> None:
        with tracer.start_as_current_span("blocks"):
            pass

    async def streams(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            with tracer.start_as_current_span("streams"):
                yield b"1"

        return {"status": 200, "body": parts()}

    steps = (
        step(waits, queue("waits"), name="waits"),
        step(runs_through, queue("run"), name="run"),
        step(blocks, queue("blocks"), name="blocks"),
        step(streams, http("GET", "/"), name="streams"),
    )
    async with traced(collector, *steps) as app:
        for topic in ("waits", "run", "blocks"):
            await app.send(topic)
        answer = await ask(app, "GET", "/")
        async for _ in answer.body:  # type: ignore[union-attr]
            pass
        await app.settle()
        assert not otel.get_current_span().get_span_context().is_valid, "nothing of it is left here"
    own = {span.name: span for span in tracer.exported.get_finished_spans()}
    for name, step_name in (
        ("waits", "waits"),
        ("runs through", "run"),
        ("blocks", "blocks"),
        ("streams",) * 2,
    ):
        (run,) = collector.of_step(step_name)
        assert f"{own[name].context.trace_id:032x}" == run.trace_id
        assert f"{own[name].parent.span_id:016x}" == run.span_id
    (run,) = collector.of_step("run")
    assert sent["run"]["traceparent"] == f"00-{run.trace_id}-{run.span_id}-01"
    assert sent["waits"]["traceparent"].split("-")[2] == f"{own['waits'].context.span_id:016x}"


async def test_a_span_of_a_middleware_lies_around_what_it_calls(collector: Collector, tracer: Any) -> None:
    async def guard(request: Any, ctx: Context, next: Any) -> Any:
        with tracer.start_as_current_span("guard"):
            return await next()

    async def get(request: Any) -> None:
        with tracer.start_as_current_span("get"):
            pass

    async with traced(collector, step(get, http("GET", "/", middleware=[guard]))) as app:
        await ask(app, "GET", "/")
    inner, outer = tracer.exported.get_finished_spans()
    (run,) = collector.spans
    assert (inner.name, inner.parent.span_id, outer.name) == ("get", outer.context.span_id, "guard")
    assert f"{outer.parent.span_id:016x}" == run.span_id


async def test_spans_of_a_wrapper_and_of_the_coroutine_it_returns_lie_in_the_run(
    collector: Collector, tracer: Any
) -> None:
    async def inner(data: Any, ctx: Any) -> None:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("coroutine"):
            pass

    def wrapper(data: Any, ctx: Any) -> Any:
        with tracer.start_as_current_span("wrapper"):
            return inner(data, ctx)

    async def guard(request: Any, ctx: Any, next: Any) -> Any:
        with tracer.start_as_current_span("guard"):
            return await next()

    middleware = [lambda request, ctx, next: guard(request, ctx, next)]
    async with traced(collector, step(wrapper, http("GET", "/", middleware=middleware))) as app:
        await ask(app, "GET", "/")
    (run,) = collector.spans
    *within, outer = tracer.exported.get_finished_spans()
    assert [span.name for span in within] == ["wrapper", "coroutine"] and outer.name == "guard"
    assert all(span.parent.span_id == outer.context.span_id for span in within)
    assert f"{outer.parent.span_id:016x}" == run.span_id


async def test_a_handler_adds_to_its_span_until_it_is_exported(collector: Collector) -> None:
    kept: list[otel.Span] = []

    async def work(data: Any) -> None:
        span = otel.get_current_span()
        kept.append(span)
        assert span.is_recording()
        span.set_attribute("order.id", 7)
        span.set_attributes({"order.kind": "book"})
        span.add_event("paid", {"amount": 3})
        span.add_link(otel.SpanContext(int("c" * 32, 16), int("d" * 16, 16), is_remote=True))
        span.record_exception(KeyError("caught"))
        span.set_status(otel.StatusCode.ERROR, "half of it")
        span.end()  # the engine's to say

    async def renamed(data: Any) -> None:
        otel.get_current_span().update_name("of my own")
        otel.get_current_span().set_status(otel.Status(otel.StatusCode.OK))
        otel.get_current_span().set_status(otel.StatusCode.ERROR)

    steps = step(work, queue("in")), step(renamed, queue("other"), name="Other")
    async with traced(collector, *steps) as app:
        await app.send("in")
        await app.send("other")
        await app.settle()
        assert not kept[0].is_recording()
        kept[0].set_attribute("late", True)
        kept[0].add_event("late")
    span, other = collector.named("process in"), collector.named("of my own")
    assert (span.attributes["order.id"], span.attributes["order.kind"]) == (7, "book")
    assert "late" not in span.attributes and span.links == ("d" * 16,)
    assert span.events[0] == ("paid", {"amount": 3})
    assert span.events[1][1]["exception.type"] == "KeyError"
    assert [name for name, _ in span.events] == ["paid", "exception"]
    assert (span.status, span.status_text, span.attributes["iii.outcome"]) == ("error", "half of it", "done")
    assert (other.status, other.attributes["iii.step"]) == ("ok", "Other")


async def test_what_a_handler_adds_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "2")

    async def work(data: Any) -> None:
        for n in range(5):
            otel.get_current_span().add_event(f"{n}")

    async with traced(collector, step(work, queue("in"))) as app:
        await app.send("in")
        await app.settle()
    assert [name for name, _ in collector.spans[0].events] == ["3", "4"]


async def test_an_ended_run_leaves_no_span_to_the_garbage_collector(collector: Collector) -> None:
    async def work(data: Any, ctx: Context) -> None:
        otel.get_current_span().set_attribute("n", data)
        await asyncio.sleep(0)

    async with traced(collector, step(work, queue("in"))) as app:
        assert await garbage_of(app, "in", RUNS) < RUNS
