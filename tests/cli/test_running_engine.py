"""The command line beside an engine that runs: one engine for the whole file, and a few of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STEPS = {
    "mail_step.py": """
from iii import cron, http

config = {"name": "Mail", "triggers": [http("POST", "/mails"), cron("0 0 2 * * * *")]}


async def handler(input, ctx):
    if ctx.trigger.type == "cron":
        await ctx.state.set("runs", "cron", True)
        return None
    await ctx.enqueue("mail.sent", input.body)
    return {"accepted": True}
""",
    "send_step.py": """
import asyncio
from iii import queue

config = {"name": "Send", "triggers": [queue("mail.sent", config={"max_retries": 1, "retry_delay": 1})]}


async def handler(mail, ctx):
    await ctx.state.update("mails", mail["to"], {"attempt": ctx.attempt})
    await asyncio.sleep(mail.get("seconds", 0))
    allowed = await ctx.state.get("allowed", mail["to"])
    if mail.get("fails") and not allowed:
        raise ValueError("no such mailbox")
    await ctx.state.update("mails", mail["to"], {"status": "sent"})
""",
}

CONFIG = """
http: {port: 0}
console: {port: 0}
store: {path: data}
"""

DEADLINE_S = 30.0


def eventually(look: Callable[[], object], process: subprocess.Popen[str] | None = None) -> Any:
    """What `look` returns as soon as that is true; it may raise AssertionError until then."""
    until, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while True:
        if found := look():
            return found
        assert time.monotonic() < until, "it did not happen in time"
        assert process is None or process.poll() is None, "the engine ended"
        pause.wait(0.05)


def iii(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "iii", *args], cwd=folder, capture_output=True, text=True, timeout=60
    )


def iii_json(folder: Path, *args: str) -> Any:
    done = iii(folder, *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Running:
    """`iii run` in a process of its own, its output in a file."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.folder, self.output = folder, folder / "output.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "iii", *args],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            self.address = eventually(self._address, self.process)
        except BaseException:
            self.process.kill()
            raise

    def _address(self) -> str | None:
        found = re.search(r"address +(http://\S+)", self.text())
        return found[1] if found else None

    def text(self) -> str:
        return self.output.read_text()

    def post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def end(self, signal_number: int = signal.SIGINT) -> int:
        self.process.send_signal(signal_number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "steps").mkdir()
    for name, source in STEPS.items():
        (folder / "steps" / name).write_text(source)
    (folder / "iii-config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def engine(project: Path) -> Iterator[Running]:
    running = Running(project)
    yield running
    assert running.end() == 0, running.text()


def row(folder: Path, topic: str, step: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = iii_json(folder, "queue", "list")
    (found,) = [each for each in rows if (each["topic"], each["step"]) == (topic, step)]
    return found


def test_the_report_says_what_runs_and_where(engine: Running) -> None:
    report = engine.text().split("\n\n")[0]
    for part in (
        "2 in steps",
        "POST /mails",
        "mail.sent",
        "every day at 02:00 UTC",
        "next 20",
        str(engine.folder / "data"),
    ):
        assert part in report


def test_what_http_accepted_is_seen_by_every_command(engine: Running) -> None:
    assert engine.post("/mails", {"to": "ann"}) == {"accepted": True}
    eventually(lambda: row(engine.folder, "mail.sent", "Send")["done"] == 1, engine.process)
    assert iii_json(engine.folder, "state", "get", "mails", "ann")["value"] == {
        "attempt": 1,
        "status": "sent",
    }


def test_a_message_from_the_command_line_dies_is_redriven_and_runs(engine: Running) -> None:
    folder = engine.folder
    (id,) = iii_json(folder, "enqueue", "mail.sent", '{"to": "bob", "fails": true}')["ids"]
    eventually(lambda: iii_json(folder, "queue", "peek", "mail.sent.failed"), engine.process)
    (dead,) = iii_json(folder, "queue", "peek", "mail.sent.failed")
    assert (dead["id"], dead["state"], dead["attempts"]) == (id, "dead", 2)
    assert dead["origin"] == {"topic": "mail.sent", "step": "Send"}
    assert "no such mailbox" in dead["error"]
    assert row(folder, "mail.sent", "Send")["dead"] == 1
    assert iii_json(folder, "state", "get", "mails", "bob")["value"] == {"attempt": 2}

    assert iii(folder, "state", "set", "allowed", "bob", "true").returncode == 0
    assert iii(folder, "queue", "redrive", "mail.sent.failed").stdout == "1 message redriven\n"
    sent = {"attempt": 1, "status": "sent"}
    eventually(lambda: iii_json(folder, "state", "get", "mails", "bob")["value"] == sent, engine.process)
    assert row(folder, "mail.sent", "Send")["dead"] == 0


def test_a_paused_topic_waits_for_resume(engine: Running) -> None:
    folder = engine.folder
    assert iii(folder, "queue", "pause", "mail.sent").returncode == 0
    assert iii(folder, "enqueue", "mail.sent", '{"to": "eve"}').returncode == 0
    assert row(folder, "mail.sent", "Send")["ready"] == 1
    assert iii(folder, "queue", "resume", "mail.sent").returncode == 0
    eventually(lambda: row(folder, "mail.sent", "Send")["ready"] == 0, engine.process)
    eventually(lambda: iii(folder, "state", "get", "mails", "eve").returncode == 0, engine.process)


def test_a_schedule_is_explained_and_run_now(engine: Running) -> None:
    (listed,) = iii_json(engine.folder, "cron", "list")
    assert list(listed) == ["step", "expression", "timezone", "words", "next", "last", "notes"]
    assert (listed["step"], listed["words"], listed["last"]) == ("Mail", "every day at 02:00 UTC", None)
    assert listed["next"].endswith("T02:00:00.000Z")
    assert iii(engine.folder, "cron", "run", "Mail").returncode == 0
    eventually(lambda: iii(engine.folder, "state", "get", "runs", "cron").returncode == 0, engine.process)
    refused = iii(engine.folder, "cron", "run", "Mial")
    assert (refused.returncode, 'did you mean "Mail"' in refused.stderr) == (1, True)


def test_check_and_backup_work_meanwhile(engine: Running, tmp_path: Path) -> None:
    assert iii(engine.folder, "state", "set", "kept", "k", "1").returncode == 0
    checked = iii(engine.folder, "check")
    assert checked.returncode == 0, checked.stderr
    assert iii(engine.folder, "backup", str(tmp_path / "copy")).returncode == 0
    config = tmp_path / "other.yaml"
    config.write_text("store: {path: copy}\n")
    assert iii_json(engine.folder, "-c", str(config), "state", "get", "kept", "k")["value"] == 1


def test_a_taken_port_names_who_has_it(engine: Running) -> None:
    port = engine.address.rpartition(":")[2]
    second = iii(engine.folder, "run", "--port", port)
    assert second.returncode == 1
    assert f"process {engine.process.pid}" in second.stderr
    assert second.stderr.startswith("error: ")
    assert second.stderr.count("\n") == 1, second.stderr


@pytest.fixture
def busy(project: Path, tmp_path: Path) -> Iterator[Running]:
    """An engine on a data folder of its own; `post` the "slow" mail and wait for `is_busy`."""
    (tmp_path / "iii-config.yaml").write_text(f"{CONFIG}steps: {project / 'steps'}\n")
    running = Running(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def start_slow_mail(running: Running, seconds: float) -> None:
    assert running.post("/mails", {"to": "slow", "seconds": seconds}) == {"accepted": True}
    eventually(lambda: row(running.folder, "mail.sent", "Send")["leased"], running.process)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_handlers_finish_and_exits_0(busy: Running, signal_number: int) -> None:
    start_slow_mail(busy, seconds=2)
    assert busy.end(signal_number) == 0, busy.text()
    sent = iii_json(busy.folder, "state", "get", "mails", "slow")["value"]
    assert sent == {"attempt": 1, "status": "sent"}
    assert "Traceback" not in busy.text()


def test_a_second_signal_ends_it_at_once_and_keeps_the_message(busy: Running) -> None:
    start_slow_mail(busy, seconds=600)
    busy.process.send_signal(signal.SIGINT)
    eventually(lambda: "again" in busy.text(), busy.process)
    busy.process.send_signal(signal.SIGINT)  # doubled by a wrapper: still the first

    def ended() -> bool:
        busy.process.send_signal(signal.SIGTERM)
        return busy.process.poll() is not None

    eventually(ended)
    assert busy.process.returncode == 128 + signal.SIGTERM
    assert iii(busy.folder, "check").returncode == 0
    held = row(busy.folder, "mail.sent", "Send")
    assert held["leased"] + held["ready"] + held["delayed"] == 1


HANGING_STEP = """
import pathlib, threading

config = {"name": "Hang", "triggers": [{"type": "queue", "topic": "hang"}]}


def handler():
    pathlib.Path("hangs").touch()
    threading.Event().wait()
"""


def test_a_blocking_handler_that_never_returns_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "hang_step.py").write_text(HANGING_STEP)
    (tmp_path / "iii-config.yaml").write_text("shutdown_timeout: 100ms\n")
    running = Running(tmp_path, "--port", "0", "--no-console")
    iii(tmp_path, "enqueue", "hang", "1")
    eventually((tmp_path / "hangs").exists, running.process)
    assert running.end() == 0, running.text()
    held = row(tmp_path, "hang", "Hang")
    assert (held["ready"], held["leased"]) == (1, 0)


def test_a_created_project_runs_and_its_own_test_passes(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    created = iii(tmp_path, "create", "mine")
    assert created.returncode == 0, created.stderr
    assert iii(folder, "check").returncode == 0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tested.returncode == 0, tested.stdout
    running = Running(folder, "-c", "iii-config.yaml", "--port", "0", "--console-port", "0")
    assert running.post("/hello", {"name": "Ann"})["greeting"] == "Hello, Ann!"
    eventually(lambda: iii_json(folder, "state", "list", "greetings"), running.process)
    assert running.end() == 0, running.text()
    assert iii_json(folder, "state", "get", "greetings", "Ann")["value"] == {"count": 1}
    again = iii(tmp_path, "create", "mine")
    assert (again.returncode, "not an empty folder" in again.stderr) == (1, True)
    assert os.path.exists(folder / ".gitignore")
