"""`iii runs`, `iii trace` and `iii logs` on what an engine left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from iii_project import Project

from iii import Context, queue
from iii.config import Config, load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.observe.log_file import LogFile
from iii.observe.logs import configure, log
from iii.step import Step


@pytest.fixture
def left(tmp_path: Path) -> Project:
    """A project whose engine ran three messages, one of them in vain."""

    async def first(data: Any, ctx: Context) -> None:
        ctx.logger.info("Working", {"n": data, "password": "hunter2"})
        if data == 3:
            raise ValueError("three is too much")
        await ctx.state.set("numbers", str(data), data)
        await ctx.enqueue("second", data)

    async def second(data: Any) -> None: ...

    project = Project(tmp_path)
    config = load(project.config)
    steps = [
        make_step({"name": "First", "triggers": [queue("first", config={"max_retries": 0})]}, first),
        make_step({"name": "Second", "triggers": [queue("second")]}, second),
    ]
    before = log.handlers[:], log.level, log.propagate
    file = LogFile(config.store.path, 1 << 20)
    try:
        configure("info", "json", config.log.redact, file=file)
        asyncio.run(_work(config, steps))
    finally:
        file.close()
        log.handlers[:], log.level, log.propagate = before
    return project


async def _work(config: Config, steps: list[Step]) -> None:
    async with Engine(config, steps) as engine:
        for n in (1, 2, 3):
            await engine.enqueue("first", n)
            await engine.idle(30)


def test_runs_lists_the_newest_first_and_filters(left: Project) -> None:
    rows = left.json("runs")
    assert [row["run"]["step"] for row in rows] == ["First", "Second", "First", "Second", "First"]
    (dead,) = left.json("runs", "--outcome", "dead")
    assert dead["run"]["error"] == "ValueError: three is too much"
    assert len(left.json("runs", "--step", "Second", "--limit", "1")) == 1
    table = left.ok("runs")
    assert "queue first" in table and "three is too much" in table
    assert table.splitlines()[-1] == "kept: 1 that failed (at most 10000), 4 others (at most 10000)"
    trace_id = rows[-1]["run"]["trace_id"]
    assert [row["run"]["step"] for row in left.json("runs", "--trace", trace_id)] == ["Second", "First"]


def test_trace_shows_the_tree_with_what_was_written_sent_and_logged(left: Project) -> None:
    run = left.json("runs")[-1]["run"]
    tree = left.ok("trace", run["trace_id"])
    lines = tree.splitlines()
    assert lines[1].startswith("First ") and any(line.startswith("└─ Second") for line in lines)
    for told in ("set numbers/1", "enqueue second (1 bytes)", "info    Working  n=1", "password=[redacted]"):
        assert told in tree
    (root,) = left.json("trace", run["message_id"])["roots"]
    assert [child["run"]["step"] for child in root["children"]] == ["Second"]


def test_trace_of_what_is_not_recorded_says_why(left: Project) -> None:
    assert "traces_per_second" in left.refused("trace", "0" * 32)


def test_logs_shows_what_the_engines_logged(left: Project) -> None:
    told = left.ok("logs", "--step", "First", "--level", "info")
    assert told.count("Working") == 3 and "hunter2" not in told and "password=[redacted]" in told
    assert "three is too much" in left.ok("logs", "--level", "warning")
    (last,) = left.ok("logs", "-n", "1", "--level", "error", "--json").splitlines()
    assert '"Given up: now a dead letter"' in last


def test_without_an_engine_there_is_nothing_to_show(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.ok("runs") == "no runs are recorded\n" and project.ok("logs") == ""
    assert not (tmp_path / "data").exists()
