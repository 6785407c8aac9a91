"""A project in a folder, and `iii run --instances N` on it: real processes, ended with the test."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from deadline import DEADLINE_S, until

from iii.store.lmdb.roster import InstanceRow, roster

STEP = '''
"""Writes down that it started, then waits for its gate or, "blocks", stops the loop for ever."""

import asyncio
import os
import threading
from pathlib import Path

from iii import http, queue, state

HERE = Path(__file__).parent.parent
config = {
    "name": "Gated",
    "triggers": [
        http("POST", "/gated"),
        queue("gated", config={"concurrency": 1}),
        state(namespace="watched"),
    ],
}
with (HERE / "imported").open("a") as imported:
    imported.write(f"{os.getpid()}\\n")


async def handler(given, ctx):
    if ctx.trigger.type == "http":
        for name in given.body:
            await ctx.enqueue("gated", name)
        return {"pid": os.getpid()}
    if ctx.trigger.type == "state":
        await ctx.state.set("seen", given.key, given.value)
        return None
    with (HERE / "journal").open("a") as journal:
        journal.write(f"{given} {os.getpid()}\\n")
    if given.startswith("blocks"):
        threading.Event().wait()
    while not ((HERE / "gates" / given).exists() or (HERE / "gates" / "all").exists()):
        await asyncio.sleep(0.005)
    await ctx.state.update("effects", given, [{"type": "increment", "path": ""}])
'''

CONFIG = "http: {port: 0}\nconsole: {port: 0}\nshutdown_timeout: 20s\nlog: {format: text}\n"


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        (folder / "steps").mkdir(parents=True)
        (folder / "gates").mkdir()
        self.write_step(STEP)
        (folder / "iii-config.yaml").write_text(CONFIG)
        self._started: list[Started] = []

    def write_step(self, source: str, name: str = "gated") -> None:
        (self.folder / "steps" / f"{name}_step.py").write_text(source)

    def start(self, *args: str, **more: Any) -> Started:
        self._started.append(Started(self.folder, len(self._started), args, **more))
        return self._started[-1]

    def iii(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "iii", *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def iii_json(self, *args: str) -> Any:
        done = self.iii(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self) -> list[InstanceRow]:
        return roster(self.data)

    def open_gate(self, name: str) -> None:
        (self.folder / "gates" / name).touch()

    def starts(self) -> list[tuple[str, int]]:
        """(message, pid) of every start of a handler."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [(name, int(pid)) for name, pid in map(str.split, lines)]

    def effects(self) -> dict[str, int]:
        return {each["key"]: each["value"] for each in self.iii_json("state", "list", "effects")}

    def clean_up(self) -> None:
        for started in self._started:
            started.clean_up()
        for row in self.rows():  # whose supervisor ended before them
            with suppress(ProcessLookupError):
                os.kill(row.pid, signal.SIGKILL)


class Started:
    """`iii run …`, its output in files; alone, or with the instances it supervises."""

    def __init__(
        self,
        folder: Path,
        number: int,
        args: tuple[str, ...],
        *,
        python: tuple[str, ...] = ("-m", "iii"),
        **more: Any,
    ) -> None:
        self._out, self._err = folder / f"out-{number}.txt", folder / f"err-{number}.txt"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *python, "run", *args],
                cwd=folder,
                **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **more},
            )
        self.pid = self.process.pid

    @property
    def printed(self) -> str:
        return self._out.read_text()

    @property
    def logged(self) -> str:
        return self._err.read_text()

    @property
    def told(self) -> str:
        return f"{self.printed}{self.logged}"

    def address(self) -> str:
        """Where it listens, once all are ready."""
        return str(self._until(lambda: re.search(r"address +(http://\S+)", self.printed), "ready")[1])

    def until_ready(self) -> Started:
        self._until(lambda: "  store " in self.printed, "ready")
        return self

    def until_logged(self, text: str, count: int = 1) -> None:
        until(lambda: self.logged.count(text) >= count, f"{text!r} logged {count} times")

    def _until(self, look: Any, what: str) -> Any:
        def looks() -> Any:
            assert self.process.poll() is None, f"it ended ({self.process.returncode}):\n{self.told}"
            return look()

        return until(looks, what)

    def post(self, *names: str) -> int:
        """Send messages over HTTP; the pid of the instance that took them."""
        body = json.dumps(names).encode()
        request = Request(f"{self.address()}/gated", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=DEADLINE_S) as answer:
            return int(json.load(answer)["pid"])

    def children(self) -> set[int]:
        with suppress(OSError):
            return set(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))
        return set()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(DEADLINE_S)

    def clean_up(self) -> None:
        for pid in (*self.children(), self.pid):
            with suppress(ProcessLookupError):
                if self.process.poll() is None or pid != self.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def projects(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    yield project
    project.clean_up()
