"""Programs of the benchmark in processes of their own: `python -m bench.programs.<name> '{...}'`.

A program prints "ready" when whoever started it may go on (where it has something to wait for), and ends
with one line of JSON: its figures. `ask` runs one to its end; `Child` is one that works beside others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from bench.ledger import FOLDER
from bench.machine import ROOT
from bench.settings import Result, WrongResult

READY = "ready"
LINES_SHOWN = 30
RESULT_S = 900


def environment(ledgers: Path | None = None) -> dict[str, str]:
    """The environment of a child: it finds `bench`, and leaves its ledger in `ledgers`."""
    given = {name: value for name, value in os.environ.items() if name != FOLDER}
    given["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if ledgers is not None:
        given[FOLDER] = str(ledgers)
    return given


class Child:
    """A running program; leaving the block ends it, whatever it is at."""

    def __init__(self, module: str, asked: Mapping[str, object], ledgers: Path | None = None) -> None:
        self._module = module
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(ledgers),
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()

    def wait_until_ready(self) -> None:
        assert self._child.stdout is not None
        line = self._child.stdout.readline().strip()
        if line != READY:
            self._child.kill()
            self._fail(line + self._child.communicate()[1])

    def go_on(self) -> None:
        """The line that a program which said it is ready waits for."""
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()

    def result(self) -> Result:
        """Wait for its end; WrongResult with what it said where it failed."""
        try:
            out, error = self._child.communicate(timeout=RESULT_S)
        except subprocess.TimeoutExpired:
            raise WrongResult(f"{self._module} still runs after {RESULT_S} s") from None
        if self._child.returncode:
            self._fail(error)
        figures: Result = json.loads(out.splitlines()[-1])
        return figures

    def _fail(self, said: str) -> NoReturn:
        raise WrongResult(f"{self._module} failed:\n" + "\n".join(said.splitlines()[-LINES_SHOWN:]))


def ask(module: str, asked: Mapping[str, object], ledgers: Path | None = None) -> Result:
    with Child(module, asked, ledgers) as child:
        return child.result()
