"""Spans on their way: who sends them, and collectors that do not take them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from engine_kit import running, step
from opentelemetry import trace as otel
from otlp_kit import Collector, collecting
from spans_kit import traced

from iii import queue
from iii.errors import ConfigError
from iii.sections import TracesConfig


async def test_who_sends_is_told_by_configuration_and_environment(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(data: Any) -> None: ...

    async def one(config: TracesConfig) -> dict[str, Any]:
        collector.spans.clear()
        async with running(step(work, queue("in")), traces=config) as app:
            await app.send("in")
            await app.settle()
        return collector.spans[0].resource

    config = TracesConfig(f"{collector.url}/otlp/v1/traces", {"X-Key": "secret"}, "orders")
    first, second = await one(config), await one(config)
    path, headers = collector.requests[0]
    assert (path, headers["x-key"], first["service.name"]) == ("/otlp/v1/traces", "secret", "orders")
    assert first["service.instance.id"] != second["service.instance.id"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    assert (await one(TracesConfig()))["service.name"] == "iii"
    assert collector.requests[-1][0] == "/v1/traces"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "by environment")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    third = await one(TracesConfig())
    assert (third["service.name"], third["deployment.environment.name"]) == ("by environment", "test")
    assert (await one(TracesConfig(service_name="orders")))["service.name"] == "orders"


async def test_the_environment_turns_the_sdk_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(data: Any) -> None:
        assert not otel.get_current_span().is_recording()

    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with traced(collector, step(work, queue("in"))) as app:
        assert app.engine.spans is None
        await app.send("in")
        await app.settle()
    assert collector.requests == []


@pytest.mark.parametrize("how", ["refuses", "is gone", "never answers", "has no room"])
async def test_a_dead_collector_loses_no_message_and_delays_no_stop(how: str) -> None:
    done: list[Any] = []

    async def work(data: Any) -> None:
        done.append(data)

    with collecting() as collector:
        match how:
            case "refuses":
                collector.status = 401
            case "never answers":
                collector.holds = True
            case "has no room":
                collector.status = 503
            case "is gone":
                collector.close()
        async with traced(collector, step(work, queue("in"))) as app:
            for n in range(3_000):  # more than the SDK's queue has room for
                await app.send("in", n)
            await app.settle()
            assert sorted(done) == list(range(3_000)) and app.store.unsettled() == 0
            began = time.monotonic()
        assert time.monotonic() - began < 5


# ------------------------------------------------------------------------------------------- off, and absent

OFF = """
import asyncio, sys
from engine_kit import running, step
from iii import http, queue
from iii.web.request import Request

async def main():
    async def work(data, ctx):
        await ctx.state.set("a", "1", data)
        if data == "bad":
            raise ValueError
    def blocks(request): ...
    steps = step(work, queue("in", config={"max_retries": 0})), step(blocks, http("GET", "/"), name="Get")
    async with running(*steps) as app:
        for data in ("good", "bad"):
            await app.send("in", data)
        answer = await app.engine.endpoint.answer(Request("GET", "/", b"", [], b""))
        assert answer.status == 204
        await app.settle()
        assert app.letters("in.failed")

asyncio.run(main())
print(*sys.modules, sep="\\n")
"""


def test_off_costs_nothing_it_is_not_even_imported() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "engine")}
    done = subprocess.run(
        [sys.executable, "-c", OFF], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "iii.running.tracing" in loaded
    assert [name for name in loaded if name.startswith(("opentelemetry", "iii.observe.spans"))] == []


WITHOUT = "import sys; sys.modules['opentelemetry.sdk'] = None; from iii.cli import main; main()"


@pytest.mark.parametrize("command", ["check", "run"])
def test_without_the_extra_the_start_is_refused_and_says_what_to_install(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "iii-config.yaml").write_text("traces: {endpoint: 'http://localhost:4318'}\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "iii-config.yaml: traces: " in done.stderr and "pip install 'iii-engine[otel]'" in done.stderr


async def test_what_the_sdk_cannot_use_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000")
    with pytest.raises(ConfigError, match=r"traces: spans cannot be exported: .*batch_size.*OTEL_"):
        async with running(traces=TracesConfig()):
            pass
