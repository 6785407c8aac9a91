"""`iii run` in odd surroundings: ignored or blocked signals, masks, limits, no environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from deadline import DEADLINE_S, until

STEP = """
from iii import http

config = {"name": "Greet", "triggers": [http("POST", "/greetings")]}


async def handler(request, ctx):
    ctx.logger.info("grüße €")
    await ctx.state.set("greetings", "ann", "grüße €")
    return "grüße €"
"""
CONFIG = "http: {port: 0}\nconsole: {enabled: false}\n"
BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
SHELLS = {
    "as a script's background job": "trap '' INT QUIT; exec",
    "as by nohup": "trap '' HUP; exec",
    "with all signals ignored": "trap '' INT QUIT HUP PIPE CHLD TERM USR1; exec",
    "with files for nobody else": "umask 077; exec",
    "with files for everybody": "umask 000; exec",
    "with few open files": "ulimit -n 128; exec",
    "in an empty environment": "exec env -i",
    "in the C locale": "exec env LC_ALL=C LANG=C PYTHONCOERCECLOCALE=0",
    "in another time zone": "exec env TZ=Pacific/Chatham",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "greet_step.py").write_text(STEP, encoding="utf-8")
    (tmp_path / "iii-config.yaml").write_text(CONFIG)
    return tmp_path


class Shell:
    """`iii run` as a shell starts it."""

    def __init__(self, folder: Path, before: str, *args: str) -> None:
        self.output = folder / "output.txt"
        command = f'{before} "$0" "$@"'
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                ["sh", "-c", command, sys.executable, *args], cwd=folder, stdout=output, stderr=output
            )

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def address(self) -> str:
        def look() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said()
            return re.search(r"address +(http://\S+)", self.said())

        found = until(look, "an engine that listens")
        assert found is not None
        return found[1]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def shells() -> Iterator[list[Shell]]:
    started: list[Shell] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()


def _greeted(address: str) -> str:
    with urllib.request.urlopen(f"{address}/greetings", data=b"{}", timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def _environment_without_home() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name != "HOME"}


@pytest.mark.parametrize("before", SHELLS.values(), ids=SHELLS)
def test_an_engine_answers_and_stops_cleanly(project: Path, shells: list[Shell], before: str) -> None:
    running = Shell(project, before, "-m", "iii", "run")
    shells.append(running)
    assert _greeted(running.address()) == "grüße €"
    assert running.end(signal.SIGTERM) == 0, running.said()
    assert "Traceback" not in running.said()
    checked = subprocess.run(
        [sys.executable, "-m", "iii", "check"], cwd=project, env=_environment_without_home(), timeout=60
    )
    assert checked.returncode == 0


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_a_signal_stops_it_though_it_was_started_with_it_ignored_or_blocked(
    project: Path, shells: list[Shell], number: int, how: str, instances: int
) -> None:
    before = "trap '' INT TERM; exec" if how == "ignored" else "exec"
    through = ["-c", BLOCKED] if how == "blocked" else []
    running = Shell(project, before, *through, "-m", "iii", "run", "--instances", str(instances))
    shells.append(running)
    assert _greeted(running.address()) == "grüße €"
    assert running.end(number) == 0, running.said()
