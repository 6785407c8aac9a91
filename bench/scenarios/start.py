"""`start`: from the spawn of `iii run` on the example to its first answer."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import time

from bench.project import Project, example, iii_run
from bench.settings import Result, Round, WrongResult


def measure(round: Round) -> Result:
    project = Project(round, example(round))
    starts = round.settings.size(5, 2)
    figures = [_start(project) for _ in range(starts + 1)][1:]  # the first one compiles the steps
    bare = [_python() for _ in range(starts)]
    answered, up = zip(*figures, strict=True)
    return {
        "first_answer_ms": statistics.median(answered),
        "up_ms": statistics.median(up),
        "limit_first_answer_ms": statistics.median(bare),
    }


def _start(project: Project) -> tuple[float, float]:
    spawned = time.perf_counter()
    with iii_run(project) as running:
        connection = http.client.HTTPConnection(*running.address, timeout=10)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        answered = time.perf_counter()
        connection.close()
        if answer.status != 200:
            raise WrongResult(f"GET /health was answered {answer.status}")
    return (answered - spawned) * 1000, running.up_ms


def _python() -> float:
    """A Python that does nothing."""
    spawned = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - spawned) * 1000
