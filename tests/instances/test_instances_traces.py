"""`iii run` with spans: each instance sends its own, also those of steps' and libraries' own tracers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from deadline import DEADLINE_S, until
from instances_kit import CONFIG, Project, Started
from otlp_kit import Collector, collecting

EXAMPLE = Path(__file__).parents[2] / "steps"

OWN = """
from opentelemetry import trace

from iii import queue

config = {"name": "Own", "triggers": [queue("own")]}
tracer = trace.get_tracer("of.my.own")


async def handler(data, ctx):
    with tracer.start_as_current_span("inside"):
        ctx.logger.info("inside")
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def traced(project: Project, url: str) -> Project:
    shutil.copytree(EXAMPLE, project.folder / "steps", dirs_exist_ok=True)
    project.write_step(OWN, "own")
    more = f"traces: {{endpoint: '{url}', service_name: orders}}\n"
    (project.folder / "iii-config.yaml").write_text(CONFIG + more)
    return project


def start(project: Project, *args: str) -> Started:
    return project.start(*args, env={**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "50"})


def ended(engine: Started) -> int:
    """Its exit code, told to stop."""
    engine.signal(signal.SIGTERM)
    return engine.ended()


def post(engine: Started) -> str:
    """The id of the trace that a message of the example begins."""
    body = json.dumps({"text": "hi", "priority": "high"}).encode()
    request = Request(f"{engine.address()}/messages", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=DEADLINE_S) as answer:
        return str(answer.headers["traceparent"]).split("-")[1]


def grown(nodes: list[dict[str, Any]]) -> list[Any]:
    """As Collector.tree, of `iii trace --json`."""
    runs = ((node["run"], node["children"]) for node in nodes)
    return sorted(
        (run["span_id"], (run["step"], run["attempt"], run["outcome"]), grown(children))
        for run, children in runs
    )


def test_the_spans_of_the_example_are_what_iii_trace_shows(project: Project, collector: Collector) -> None:
    engine = start(traced(project, collector.url))
    trace_id = post(engine)
    until(lambda: len(collector.spans) == 3, "the spans of request, worker and state trigger")
    tree = project.iii_json("trace", trace_id)
    assert [len(collector.tree()), {span.trace_id for span in collector.spans}] == [1, {trace_id}]
    assert collector.tree() == grown(tree["roots"])
    assert ended(engine) == 0
    assert f"traces   {collector.url}/v1/traces" in engine.printed


def test_each_instance_sends_its_own_and_those_of_other_tracers(
    project: Project, collector: Collector
) -> None:
    engines = start(traced(project, collector.url), "--instances", "2")
    engines.until_ready()
    children = engines.children()

    def senders() -> set[int]:
        post(engines)
        return {span.resource["process.pid"] for span in collector.spans}

    until(lambda: senders() == children, "spans of both")
    project.iii("enqueue", "own", "1")
    until(lambda: {"inside", "process own"} <= {span.name for span in collector.spans}, "the own span")
    assert ended(engines) == 0
    inside, own = collector.named("inside"), collector.named("process own")
    assert (inside.trace_id, inside.parent_id, own.parent_id) == (own.trace_id, own.span_id, "")
    assert (inside.scope, inside.resource) == ("of.my.own", own.resource)
    resources = {json.dumps(span.resource, sort_keys=True) for span in collector.spans}
    assert {json.loads(each)["service.name"] for each in resources} == {"orders"}
    assert len(resources) == len({json.loads(each)["service.instance.id"] for each in resources}) == 2
    known = {span.span_id for span in collector.spans}
    assert len(known) == len(collector.spans), "each once"
    assert {span.parent_id for span in collector.spans} <= {"", *known}, "nothing is missing"


def test_a_collector_that_is_away_is_told_in_the_log_and_stops_nothing(
    project: Project, collector: Collector
) -> None:
    collector.close()
    engine = start(traced(project, collector.url))
    post(engine)
    engine.until_logged("iii.traces")
    began = time.monotonic()
    assert ended(engine) == 0
    assert time.monotonic() - began < 10
    assert project.iii_json("state", "list", "messages")[0]["value"]["status"] == "processed"
    told = [line.partition("iii.traces")[2] for line in engine.logged.splitlines() if "iii.traces" in line]
    assert len({line[:20] for line in told}) == len(told), "each kind once"
    assert any("Connection refused" in line for line in told)
    assert "Traceback" not in engine.logged
