"""With several instances one serves the console, on a socket that outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any
from urllib.request import urlopen

from deadline import until
from instances_kit import Project, Started
from msgspec import convert
from msgspec.json import encode

from iii.files import make_folder
from iii.observe.hour import Point

COUNTS = ("done", "failed", "requests", "server_errors", "depth", "running")
NOTHING: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), "run_p50_s": None, "run_p95_s": None}


def console_of(engines: Started) -> str:
    return str(
        until(lambda: re.search(r"console +(http://\S+)", engines.printed), "the console's address")[1]
    )


def instances(console: str) -> list[dict[str, Any]]:
    with urlopen(f"{console}/api/instances", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["instances"]
    return found


def test_the_console_shows_all_instances_and_outlives_the_one_that_serves_it(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    console = console_of(engines)
    rows = instances(console)
    assert {row["pid"] for row in rows} == engines.children() and len(rows) == 2
    [here] = [row["pid"] for row in rows if row["here"]]
    os.kill(here, signal.SIGKILL)
    [heir] = [row["pid"] for row in instances(console) if row["here"]]
    assert heir != here, "who takes its place answers what waited in the meantime"


def test_the_console_and_its_hour_are_there_after_a_rolling_restart(project: Project) -> None:
    seen = {"at_ms": time.time_ns() // 1_000_000 - 60_000, "done": 77}
    make_folder(project.data / "metrics")
    (project.data / "metrics" / "hour.jsonl").write_bytes(encode(convert({**NOTHING, **seen}, Point)) + b"\n")
    engines = project.start("--instances", "2").until_ready()
    console = console_of(engines)
    before = engines.children()
    os.kill(engines.pid, signal.SIGHUP)
    engines.until_logged("All instances are restarted")
    assert {row["pid"] for row in instances(console)} == engines.children()
    assert not engines.children() & before
    with urlopen(f"{console}/api/overview", timeout=30) as answer:
        assert json.load(answer)["history"]["points"][0]["done"] == 77


def test_one_started_by_hand_leaves_the_console_to_the_others(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    port = console_of(engines).rpartition(":")[2]
    alone = project.start("--console-port", port).until_ready()
    alone.until_logged("The console is served by instance pid")
    assert "console" not in alone.printed
    assert len(until(lambda: len(rows := instances(console_of(engines))) == 3 and rows)) == 3


def test_a_console_port_that_a_stranger_has_is_told_at_start(project: Project) -> None:
    other = project.start().until_ready()
    port = console_of(other).rpartition(":")[2]
    refused = project.iii("run", "--console-port", port, "--data", "elsewhere")
    assert refused.returncode == 1 and f"taken by process {other.pid}" in refused.stderr
    assert "console.port: 127.0.0.1" in refused.stderr and refused.stderr.count("\n") == 1
