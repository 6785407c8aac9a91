"""The logging module in steps and libraries: lines of the run that they belong to, whoever writes them."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_kit import running, step

from iii import Context, queue
from iii.config import HistoryConfig
from iii.observe.runs import runs
from iii.testing import harness

library = logging.getLogger("a.library")
ORIGIN = ("iii_step", "iii_attempt", "iii_trace_id")


class Kept(logging.Handler):
    """A handler of the host's."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def origins(self) -> list[tuple[Any, ...]]:
        found = [record for record in self.records if record.name == library.name]
        return [tuple(vars(record).get(name) for name in ORIGIN) for record in found]


@pytest.fixture
def kept() -> Iterator[Kept]:
    found, level = Kept(), logging.root.level
    logging.root.addHandler(found)
    logging.root.setLevel(logging.INFO)
    yield found
    logging.root.removeHandler(found)
    logging.root.setLevel(level)


async def test_a_line_has_the_step_attempt_and_trace_of_its_run_wherever_it_is_logged(kept: Kept) -> None:
    traces: list[str] = []

    async def later() -> None:
        library.info("in a task")

    async def waiting(data: Any, ctx: Context) -> None:
        traces.append(ctx.trace_id)
        library.info("here")
        await asyncio.gather(later(), asyncio.to_thread(library.info, "in a thread"))
        if ctx.attempt == 1:
            raise ValueError

    def plain(data: Any, ctx: Any) -> None:
        traces.append(ctx.trace_id)
        library.info("in a plain handler")

    work, other = step(waiting, queue("in")), step(plain, queue("other"), name="Other")
    async with running(work, other) as app:
        library.info("outside")
        await app.send("in")
        await app.settle()
        await app.pass_time(10_000)
        await app.send("other")
        await app.settle()
    assert kept.origins() == [
        (None, None, None),
        *[("Work", 1, traces[0])] * 3,
        *[("Work", 2, traces[0])] * 3,
        ("Other", 1, traces[2]),
    ]


async def test_a_line_is_one_of_its_runs_record() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        items = [1]
        library.warning("items %s", items, extra={"user": "ada", "password": "hunter2"})
        library.warning("%(password)s of %(user)s", {"password": "hunter2", "user": "ada"})
        library.debug("nobody asked")
        items.clear()
        ctx.logger.warning("own")

    async with running(step(handler, queue("in")), history=HistoryConfig()) as app:
        await app.send("in")
        await app.settle()
        (row,) = runs(app.store, limit=1)
    assert [(each.message, each.fields) for each in row.run.logs] == [
        ("items [1]", {"user": "ada", "password": "[redacted]"}),
        ("[redacted] of ada", {}),
        ("own", {}),
    ]


async def test_the_harness_tells_it_too() -> None:
    async def handler(data: Any) -> None:
        library.info("in a handler %d", data)

    async with harness([step(handler, queue("in"))]) as app:
        library.warning("outside")
        await app.enqueue("in", 1)
        await app.settle()
    told = [(line.message, line.step) for line in app.logs if line.message.startswith(("in a", "outside"))]
    assert told == [("in a handler 1", "Work")]


async def test_nothing_of_the_hosts_logging_is_changed(kept: Kept) -> None:
    def factory(*args: Any, **named: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **named)
        record.host = "mine"
        return record

    def state() -> list[object]:
        root = logging.root
        return [root.handlers[:], root.level, logging.lastResort, logging.getLogger("iii").handlers[:]]

    async def handler(data: Any) -> None:
        library.info("here")

    first, before = logging.getLogRecordFactory(), state()
    logging.setLogRecordFactory(factory)
    try:
        async with running(step(handler, queue("in"))) as app, running(step(handler, queue("in"))):
            assert state() == before
            await app.send("in")
            await app.settle()
        assert state() == before and logging.getLogRecordFactory() is factory
    finally:
        logging.setLogRecordFactory(first)
    assert [vars(record)["host"] for record in kept.records if record.name == library.name] == ["mine"]
    assert kept.origins()[0][0] == "Work"


async def test_engines_that_end_in_any_order_leave_nothing_behind(kept: Kept) -> None:
    first = logging.getLogRecordFactory()

    async def handler(data: Any) -> None:
        library.info("here")

    one, two = running(step(handler, queue("in"))), running(step(handler, queue("in")))
    await one.__aenter__()
    app = await two.__aenter__()
    await one.__aexit__(None, None, None)
    await app.send("in")
    await app.settle()
    assert kept.origins()[0][0] == "Work"
    await two.__aexit__(None, None, None)
    assert logging.getLogRecordFactory() is first


# ------------------------------------------------------------------------------- hosts, each a process

STEP = """
import logging

config = {"name": "Logs", "triggers": [{"type": "queue", "topic": "in"}]}
log = logging.getLogger("myapp")


async def handler(data, ctx):
    log.debug("stdlib debug")
    log.info("stdlib info")
    log.warning("stdlib warning")
    ctx.logger.info("own info")
"""
HOST = """
import asyncio, logging, sys
from iii import Engine

%s

async def main():
    async with Engine.from_config("iii-config.yaml") as engine:
        %s
        logging.getLogger("host").info("host info")
        logging.getLogger("host").warning("host warning")
        await engine.enqueue("in")
        await engine.idle(20)
    logging.getLogger("host").info("host info after")
    logging.getLogger("host").warning("host warning after")

asyncio.run(main())
"""


class Host:
    """A program that embeds an engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "steps").mkdir()
        (folder / "steps" / "logs_step.py").write_text(STEP)
        (folder / "iii-config.yaml").write_text("console: {enabled: false}\nlog: {format: auto}\n")

    def says(self, before: str = "", within: str = "pass", redirect: str = "") -> list[str]:
        """What it writes to stderr, in lines."""
        (self.folder / "host.py").write_text(HOST % (before, within))
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" host.py {redirect}', sys.executable],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return done.stderr.splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_a_logging_of_the_hosts_handlers_and_engine_are_written_as_iii_run_would(host: Host) -> None:
    lines = host.says()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line for line in lines if not line.startswith("{")] == ["host warning", "host warning after"]
    messages = [(each["message"], each["step"]) for each in told if "step" in each]
    assert messages == [("stdlib info", "Logs"), ("stdlib warning", "Logs"), ("own info", "Logs")]
    assert len({each["trace_id"] for each in told if "step" in each}) == 1
    kept = (host.folder / "data" / "logs" / "iii.jsonl").read_text()
    assert kept.count("stdlib info") == 1, "and in the file of `iii logs`"


IN_ITS_FORMAT = ["host info", "host warning", "stdlib info Logs", "stdlib warning Logs", "own info Logs"]
FORMAT = "fmt = logging.Formatter('%(message)s %(iii_step)s', defaults={'iii_step': ''})"
HANDLER = f"handler = logging.StreamHandler(); {FORMAT}; handler.setFormatter(fmt)"


@pytest.mark.parametrize("when", ["before the engine", "while it runs"])
def test_a_host_that_set_up_logging_gets_each_line_once_in_its_format(host: Host, when: str) -> None:
    setup = f"{HANDLER}; logging.basicConfig(level=logging.INFO, handlers=[handler])"
    lines = host.says(setup) if when == "before the engine" else host.says(within=setup)
    assert [line.strip() for line in lines if "Stop" not in line] == [
        *IN_ITS_FORMAT,
        "host info after",
        "host warning after",
    ]


def test_a_host_that_set_its_level_keeps_it(host: Host) -> None:
    lines = host.says(f"{HANDLER}; logging.basicConfig(level=logging.WARNING, handlers=[handler])")
    assert [line.strip() for line in lines] == ["host warning", "stdlib warning Logs", "host warning after"]


def test_a_logger_of_the_hosts_with_a_handler_of_its_own_says_no_more_than_before(host: Host) -> None:
    lines = host.says(f"{HANDLER}; logging.getLogger('host').addHandler(handler)")
    assert [line.strip() for line in lines if not line.startswith("{")] == [
        "host warning",
        "host warning after",
    ]
    told = [json.loads(line)["message"] for line in lines if line.startswith("{")]
    assert told == ["stdlib warning", "own info"]


def test_a_host_that_wants_no_last_resort_hears_nothing(host: Host) -> None:
    assert host.says("logging.lastResort = None; logging.raiseExceptions = False") == []


def test_a_host_without_a_stderr_runs_all_the_same(host: Host) -> None:
    assert host.says(redirect="<&- 2>&-") == []
