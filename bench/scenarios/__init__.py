"""The scenarios by name, in the order they run: each measures one round and checks its own result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from bench.scenarios import (
    apart,
    backlog,
    core,
    drain,
    fsync,
    hello,
    idle,
    large,
    latency,
    pipeline,
    recording,
    start,
    state,
    timers,
    writers,
)
from bench.settings import Result, Round

Scenario: TypeAlias = Callable[[Round], Result]

SCENARIOS: dict[str, Scenario] = {
    "core": core.measure,
    "fsync": fsync.measure,
    "drain": partial(drain.measure, concurrency=1024),
    "drain_32": partial(drain.measure, concurrency=32),
    "drain_apart": apart.measure_drain,
    "recording": recording.measure,
    "backlog": backlog.measure,
    "hello": hello.measure,
    "pipeline": pipeline.measure,
    "pipeline_2": partial(pipeline.measure, instances_min=2),
    "latency": latency.measure,
    "latency_2": partial(latency.measure, instances_min=2),
    "latency_apart": apart.measure_latency,
    "state": state.measure,
    "timers": timers.measure,
    "large": large.measure,
    "start": start.measure,
    "idle": idle.measure,
    "writers": writers.measure,
}
