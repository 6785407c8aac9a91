"""What `iii run` logs while strangers do their worst: bounded, true to the line, without secrets."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUESTS = 200
FORGED = "20:00:00.000 info    Admin  user root logged in"
STEP = """
import logging

from iii import http

config = {"name": "Odd", "triggers": [http("POST", "/odd")]}


async def handler(request, ctx):
    text = request.body["text"]
    ctx.logger.info("asked " + text, {"dbPassword": "hunter2"})
    logging.getLogger("myapp").warning("beside it: " + text)
    raise ValueError(text + " postgres://u:hunter2@db/x")
"""


class Engine:
    """`lines`: of its log, once it has ended."""

    def __init__(self, folder: Path, format: str) -> None:
        (folder / "steps").mkdir()
        (folder / "steps" / "odd_step.py").write_text(STEP)
        (folder / "iii-config.yaml").write_text(
            f"http: {{port: 0}}\nconsole: {{enabled: false}}\nlog: {{format: {format}}}\n"
        )
        self.folder = folder
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "iii"], cwd=folder, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self._process.stdout is not None
        report = iter(self._process.stdout.readline, b"")
        found = (re.search(rb"http://127.0.0.1:(\d+)", line) for line in report)
        port = next(each for each in found if each is not None)[1]
        self._http = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)

    def ask(self, text: str) -> int:
        self._http.request("POST", "/odd", json.dumps({"text": text}), {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        answer.read()
        return answer.status

    def stop(self) -> None:
        self._http.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
        self._log.close()

    def lines(self) -> list[str]:
        self.stop()
        assert self._process.returncode == 0
        return (self.folder / "log").read_text(encoding="utf-8").split("\n")


@pytest.fixture
def text_log(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path, "text")
    yield engine
    engine.stop()


@pytest.fixture
def json_log(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path, "json")
    yield engine
    engine.stop()


def test_a_text_log_has_no_line_that_a_request_wrote(text_log: Engine) -> None:
    assert text_log.ask(f"a\x1b]0;PWNED\x07\r\x9b31m\u202e\u2028\x85\n{FORGED}") == 500
    lines = text_log.lines()
    log = "\n".join(lines)
    assert not any(line.startswith(FORGED) for line in re.split("[\n\r\x85\u2028]", log))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", log)
    assert any(FORGED in line and line.startswith("  ") for line in lines), "of the traceback, indented"
    assert "hunter2" not in log and "dbPassword=[redacted]" in log and "u:[redacted]@db" in log
    assert r"beside it: a\x1b]0;PWNED" in log, "other loggers have the same door"


def test_a_flood_of_failures_is_counted_and_told_at_the_stop(json_log: Engine) -> None:
    for number in range(REQUESTS):
        assert json_log.ask(f"number {number}") == 500
    lines = [json.loads(line) for line in json_log.lines() if line.startswith("{")]
    failed = [line for line in lines if "Request failed" in line["message"]]
    told = re.search(r"… (\d+) more like this in the last", failed[-1]["message"])
    assert told is not None and len(failed) - 1 + int(told[1]) == REQUESTS
    assert sum("Traceback" in line["error"] for line in failed[:-1]) == 1
    for own in ("asked number", "beside it: number"):
        assert sum(own in line["message"] for line in lines) == REQUESTS, "what a handler logs is all there"
    kept = subprocess.run(
        [sys.executable, "-m", "iii", "runs", "--limit", "1000", "--json"],
        cwd=json_log.folder,
        capture_output=True,
        timeout=60,
    )
    records = [row["run"] for row in json.loads(kept.stdout)]
    assert len(records) == REQUESTS and all("Traceback" in each["traceback"] for each in records)
    assert "hunter2" not in kept.stdout.decode()
