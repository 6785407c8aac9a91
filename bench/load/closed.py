"""As many requests as get answered: by `wrk` where it is installed, by our own client otherwise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.child import ask, environment
from bench.machine import ROOT
from bench.settings import WrongResult

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 64

Address = tuple[str, int]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: str = ""


@dataclass(frozen=True)
class Load:
    """`requests` were answered with a 200. wrk leaves, unanswered, what its connections had under way."""

    requests: float
    errors: float
    seconds: float
    unanswered_max: int

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def closed_loop(address: Address, request: Request, seconds: float) -> Load:
    """CONNECTIONS of them. A request that was refused is a WrongResult."""
    run = _wrk if shutil.which("wrk") else _own
    load = run(address, request, seconds)
    if load.errors or not load.requests:
        raise WrongResult(
            f"{request.method} {request.path}: {load.errors:.0f} errors, {load.requests:.0f} answers"
        )
    return load


def _wrk(at: Address, request: Request, seconds: float) -> Load:
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"),
            *("-s", str(SCRIPT), f"http://{at[0]}:{at[1]}{request.path}", "--", request.method, request.body),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongResult(f"wrk exited {done.returncode}: {done.stderr or done.stdout}")
    return Load(**json.loads(done.stdout.splitlines()[-1]), unanswered_max=CONNECTIONS)


def _own(at: Address, request: Request, seconds: float) -> Load:
    asked = {"host": at[0], "port": at[1], "connections": CONNECTIONS, "seconds": seconds}
    said = ask(
        "bench.load.client",
        {**asked, "method": request.method, "path": request.path, "body": request.body},
    )
    return Load(said["requests"], said["errors"], said["seconds"], unanswered_max=0)


@contextmanager
def bare_server(body: str) -> Iterator[Address]:
    """The address of a server that answers `body` to anything."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.load.bare", json.dumps({"body": body})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert child.stdout is not None
        yield "127.0.0.1", int(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()
