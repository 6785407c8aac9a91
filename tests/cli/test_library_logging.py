"""The logging module under `iii run`: lines like the engine's own, whatever steps and libraries set up."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deadline import DEADLINE_S, until

STEP = """
import asyncio, logging, logging.config

%s

config = {"name": "Logs", "triggers": [{"type": "queue", "topic": "in"}]}
log = logging.getLogger("myapp.client")


async def handler(data, ctx):
    if data == "silence":
        logging.config.dictConfig({"version": 1})
        while logging.getLogger("iii").disabled:
            await asyncio.sleep(0.01)
    log.debug("stdlib debug")
    log.info("stdlib info", extra={"user": "ada", "password": "hunter2"})
    log.warning("stdlib %%s", "warning")
    log.error("a %%d", "text")
    ctx.logger.error("own error")
"""
CONFIG = "http: {port: 0}\nconsole: {enabled: false}\nlog: {format: json, level: %s}\n"
FRESH = {
    "nothing": "",
    "basicConfig": "logging.basicConfig(level=logging.DEBUG, format='MINE %(message)s')",
    "a null handler": "logging.getLogger('myapp').addHandler(logging.NullHandler())",
}
SILENCED = {
    "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1})",
    "a new root handler": "logging.basicConfig(force=True, format='MINE %(message)s')",
    "the engine's loggers": "own = logging.getLogger('iii'); own.handlers.clear(); own.propagate = True",
    "all handlers removed": "logging.root.handlers.clear()",
}


class Running:
    """`iii run` on one step; `setup` is run when that is imported."""

    def __init__(self, folder: Path, setup: str, level: str = "info", instances: int = 1) -> None:
        (folder / "steps").mkdir()
        (folder / "steps" / "logs_step.py").write_text(STEP % setup)
        (folder / "iii-config.yaml").write_text(CONFIG % level)
        self._folder, self._err = folder, folder / "err.txt"
        command = [sys.executable, "-m", "iii", "run", "--instances", str(instances)]
        with self._err.open("w") as err, (folder / "out.txt").open("w") as out:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)

    def iii(self, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "iii", *args], cwd=self._folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lines(self, message: str = "1") -> list[str]:
        """What stands in its log after one message has run and it has stopped."""

        def said() -> str:
            assert self.process.poll() is None, self._err.read_text()
            return self._err.read_text() + (self._folder / "out.txt").read_text()

        until(lambda: re.search("address +http", said()), "an engine that listens")
        self.iii("enqueue", "in", message)
        until(lambda: "own error" in said(), "the handler's last line")
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0
        return self._err.read_text().splitlines()

    def told(self) -> list[dict[str, Any]]:
        """All of it is JSON; those of the handler."""
        lines = [json.loads(line) for line in self.lines()]
        return [line for line in lines if line.get("step") == "Logs"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def started() -> Iterator[list[Running]]:
    engines: list[Running] = []
    yield engines
    for each in engines:
        each.kill()


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("setup", FRESH.values(), ids=FRESH)
def test_a_line_of_any_logger_is_one_of_the_engines_once(
    tmp_path: Path, started: list[Running], setup: str, instances: int
) -> None:
    running = Running(tmp_path, setup, instances=instances)
    started.append(running)
    told = running.told()
    assert [(each["level"], each["message"]) for each in told] == [
        ("info", "stdlib info"),
        ("warning", "stdlib warning"),
        ("error", "a %d"),
        ("error", "own error"),
    ]
    assert told[0]["fields"] == {"user": "ada", "password": "[redacted]"}
    assert told[0]["logger"] == "myapp.client" and told[0]["attempt"] == 1
    assert len({each["trace_id"] for each in told}) == 1
    kept = [
        json.loads(line)["message"] for line in running.iii("logs", "--json", "--step", "Logs").splitlines()
    ]
    assert kept == [each["message"] for each in told]
    (run,) = json.loads(running.iii("runs", "--json"))
    assert [each["message"] for each in run["run"]["logs"]] == kept


def test_the_level_is_the_configured_one(tmp_path: Path, started: list[Running]) -> None:
    running = Running(tmp_path, "", level="warning")
    started.append(running)
    assert [each["message"] for each in running.told()] == ["stdlib warning", "a %d", "own error"]


@pytest.mark.parametrize("setup", SILENCED.values(), ids=SILENCED)
def test_no_step_that_sets_up_logging_silences_the_engine(
    tmp_path: Path, started: list[Running], setup: str
) -> None:
    running = Running(tmp_path, setup)
    started.append(running)
    lines = running.lines()
    own = [json.loads(line)["message"] for line in lines if line.startswith("{")]
    assert own.count("own error") == 1 and own[-1] == "Stopped"
    assert sum("stdlib warning" in line for line in lines) == 1


def test_nor_does_a_handler(tmp_path: Path, started: list[Running]) -> None:
    running = Running(tmp_path, "")
    started.append(running)
    told = [json.loads(line)["message"] for line in running.lines('"silence"')]
    assert "own error" in told and told[-1] == "Stopped"
    assert any("set up logging anew" in each for each in told)
