"""The engine as a whole: embedding, start and stop, traces from request to trigger, what it reports."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_kit import RecordingStore, config, running, step
from starlette.applications import Starlette
from starlette.routing import Mount

from iii import Context, Engine, InputError, Request, StateChange, StepError, cron, http, queue, state
from iii.errors import ConfigError, IIIError
from iii.store.lmdb import LmdbStore

STEP = """
from iii import http, queue

config = {"name": "Echo", "triggers": [http("POST", "/echo"), queue("echo")]}


async def handler(input, ctx):
    body = input.body if ctx.trigger.type == "http" else input
    await ctx.state.set("echo", ctx.trigger.type, body)
    return {"status": 201, "body": body}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "echo_step.py").write_text(STEP)
    (tmp_path / "iii-config.yaml").write_text("http: {port: 0}\nconsole: {enabled: false}\n")
    return tmp_path / "iii-config.yaml"


async def test_an_engine_from_a_config_runs_on_disk_and_survives_a_restart(project: Path) -> None:
    async with Engine.from_config(project) as engine:
        assert isinstance(engine.store, LmdbStore)
        ids = await engine.enqueue("echo", {"n": 1})
        assert [id.split("-")[1] for id in ids] == ["1"]
        await engine.idle(20)
        assert await engine.state.get("echo", "queue") == {"n": 1}
    async with Engine.from_config(project) as engine:
        assert await engine.state.get("echo", "queue") == {"n": 1}
        assert engine.store.verify() == []


async def test_it_serves_http_reports_where_and_drains(project: Path) -> None:
    async with Engine.from_config(project, serve=True) as engine:
        report = engine.report()
        assert report.steps == ("Echo",)
        assert report.routes == (("POST", "/echo", "Echo"),)
        assert [(line.topic, line.step, line.concurrency) for line in report.topics] == [("echo", "Echo", 32)]
        assert report.store == project.parent / "data"
        assert report.address is not None
        async with httpx.AsyncClient(base_url=report.address, trust_env=False) as client:
            reply = await client.post("/echo", json={"n": 2})
            assert (reply.status_code, reply.json()) == (201, {"n": 2})
        assert await engine.state.get("echo", "http") == {"n": 2}


async def test_a_taken_port_is_told_before_anything_is_opened(project: Path) -> None:
    async with Engine.from_config(project, serve=True) as first:
        address = first.report().address
        assert address is not None
        second = Engine.from_config(project, serve=True, port=int(address.rpartition(":")[2]))
        with pytest.raises(ConfigError, match=r"iii-config.yaml: http.port: .* is taken by"):
            await second.start()


async def test_it_mounts_in_starlette(project: Path) -> None:
    engine = Engine.from_config(project)
    app = Starlette(routes=[Mount("/api", app=engine.asgi)])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/api/echo", json=1)).status_code == 503
        async with engine:
            assert (await client.post("/api/echo", json=1)).status_code == 201


async def test_an_engine_runs_once(project: Path) -> None:
    engine = Engine.from_config(project)
    async with engine:
        with pytest.raises(IIIError, match="runs once"):
            await engine.start()
    await engine.stop()
    with pytest.raises(IIIError, match="runs once"):
        await engine.start()


async def test_what_had_started_is_stopped_again_when_something_cannot_start() -> None:
    class Broken(RecordingStore):
        def mark(self, name: str) -> int | None:
            raise RuntimeError("disk on fire")

    store = Broken()
    engine = Engine(config(), [step(lambda: None, cron("0 * * * *"))], store=store)
    with pytest.raises(RuntimeError, match="disk on fire"):
        await engine.start()
    with pytest.raises(IIIError):
        store.submit(None)  # type: ignore[arg-type]
    assert store.sessions() == []


async def test_one_trace_from_the_request_to_the_state_trigger() -> None:
    traces: list[tuple[str, str]] = []

    async def endpoint(request: Request, ctx: Context) -> None:
        traces.append((ctx.trigger.type, ctx.trace_id))
        await ctx.enqueue("work", 1)

    async def worker(data: Any, ctx: Context) -> None:
        traces.append((ctx.trigger.type, ctx.trace_id))
        await ctx.state.set("a", "k", 1)

    async def notifier(change: StateChange, ctx: Context) -> None:
        traces.append((ctx.trigger.type, ctx.trace_id))

    steps = (
        step(endpoint, http("POST", "/start"), name="Endpoint"),
        step(worker, queue("work"), name="Worker"),
        step(notifier, state(namespace="a"), name="Notifier"),
    )
    async with running(*steps) as app:
        transport = httpx.ASGITransport(app=app.engine.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            reply = await client.post("/start", headers={"traceparent": parent})
        await app.settle()
        assert [kind for kind, _ in traces] == ["http", "queue", "state"]
        assert {trace for _, trace in traces} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
        assert reply.headers["traceparent"].split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_enqueue_from_outside_takes_every_option_and_a_parent_trace() -> None:
    async with running(step(lambda: None, queue("other"))) as app:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        headers = {"traceparent": parent, "x": "y"}
        first = await app.send(
            "in", 1, priority=250, delay="1h", group="g", unique=("k", "1h"), headers=headers
        )
        assert await app.send("in", 2, unique=("k", "1h")) == first
        (message,) = app.waiting("in")
        assert (message.priority, message.group, message.payload) == (250, "g", b"1")
        assert message.headers["x"] == "y" and "4bf92f3577b34da6a3ce929d0e0e4736" in str(message.headers)
        for bad in (
            {"priority": "urgent"},
            {"priority": 256},
            {"delay": "soon"},
            {"unique": 7},
            {"group": 7},
        ):
            with pytest.raises(InputError):
                await app.send("in", 1, **bad)
        for topic in ("$cron/x", "no spaces", "", {"data": 1}):
            with pytest.raises(InputError):
                await app.engine.enqueue(topic)  # type: ignore[arg-type]
        with pytest.raises(StepError, match="NaN"):
            await app.send("in", {"x": float("nan")})
        assert len(app.waiting("in")) == 1


async def test_idle_times_out_while_something_runs() -> None:
    entered = asyncio.Event()

    async def handler(data: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await entered.wait()
        with pytest.raises(TimeoutError):
            await app.engine.idle(0.01)
        with contextlib.suppress(TimeoutError):
            await app.engine.stop(timeout_ms=1)


async def test_the_state_outside_of_handlers_is_written_at_once() -> None:
    async with running(step(lambda: None, queue("in"))) as app:
        mine = app.engine.state
        await mine.set("a", "1", {"n": 1})
        assert await mine.update("a", "1", {"m": 2}) == {"n": 1, "m": 2}
        entry = await mine.entry("a", "1")
        assert entry is not None and entry.version == 2 and entry.updated_at is not None
        await mine.set("a", "2", 2, if_version=0)
        assert await mine.list("a") == [{"n": 1, "m": 2}, 2]
        assert await mine.items("a", prefix="2") == [("2", 2)]
        assert await mine.delete("a", "2") and not await mine.delete("a", "2")
        assert await mine.namespaces() == ["a"]
        assert await mine.clear("a") == 1
        with pytest.raises(InputError, match="engine's own"):
            await mine.set("$x", "1", 1)


async def test_what_was_accepted_survives_restarts_in_the_middle_and_counts_once(tmp_path: Path) -> None:
    async def first(data: int, ctx: Context) -> None:
        await ctx.state.update("sum", "first", [{"type": "increment", "path": "n", "by": data}])
        await ctx.enqueue("second", data)

    async def second(data: int, ctx: Context) -> None:
        await asyncio.sleep(0)
        await ctx.state.update("sum", "second", [{"type": "increment", "path": "n", "by": data}])

    steps = step(first, queue("first"), name="First"), step(second, queue("second"), name="Second")
    total = 300
    for start in range(0, total, 100):
        async with Engine(config(), steps, store=LmdbStore(tmp_path / "data")) as engine:
            await asyncio.gather(*(engine.enqueue("first", n) for n in range(start, start + 100)))
            await engine.stop(timeout_ms=0)
    async with Engine(config(), steps, store=LmdbStore(tmp_path / "data")) as engine:
        await engine.idle(30)
        expected = {"n": total * (total - 1) // 2}
        assert [await engine.state.get("sum", name) for name in ("first", "second")] == [expected] * 2
        assert engine.store.verify() == []


async def test_an_engine_that_does_not_run_says_how_to_start_it(project: Path) -> None:
    engine = Engine.from_config(project)
    for use in (lambda: engine.enqueue("echo", 1), lambda: engine.idle(1), lambda: engine.redrive("echo")):
        with pytest.raises(IIIError, match="async with engine"):
            await use()
    with pytest.raises(IIIError, match="async with engine"):
        engine.report()
