"""A project in a folder, and `iii run` on it in processes that the tests kill."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from iii.store.contract import Store
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.roster import roster

DEADLINE_S = 60.0
LOOK_S = 0.005

HERE = Path(__file__).parent


async def until(
    look: Callable[[], object],
    what: str,
    told: Callable[[], object] = str,
    *,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Look until it is true; at the deadline fail with what was awaited, and with what `told` says."""
    try:
        async with asyncio.timeout(deadline_s):
            while not look():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}\n{told()}") from None


class EngineProcess:
    """`iii run` in a process group of its own; what it prints goes to a file."""

    def __init__(
        self,
        folder: Path,
        output: Path,
        *args: str,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [python, "-m", "iii", "run", "-c", "iii-config.yaml", *args],
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def logged(self) -> str:
        """What it printed besides the start-up report."""
        return re.sub(r"\Aiii \d.*?\n\n", "", self.text, count=1, flags=re.DOTALL)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    async def address(self) -> str:
        """Where it listens, once it is up."""
        found: list[str] = []

        def look() -> bool:
            found[:] = re.findall(r"^  address +(http://\S+)$", self.text, re.MULTILINE)
            assert found or self.runs, f"the engine ended ({self.process.returncode}):\n{self.text}"
            return bool(found)

        await until(look, "an engine that listens", lambda: self.text)
        return found[0]

    async def died(self) -> int:
        """Its exit code, as soon as it has one."""
        await until(lambda: not self.runs, "the end of the engine", lambda: self.text)
        return self.process.wait()

    def kill(self) -> None:
        """kill -9, all of its group; it was alive until now."""
        assert self.runs, f"the engine ended ({self.process.returncode}) by itself:\n{self.text}"
        self.clean_up()
        assert self.process.returncode == -signal.SIGKILL

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def clean_up(self) -> None:
        if self.runs:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


class Start(NamedTuple):
    """A line of the journal of gated_step.py."""

    name: str
    attempt: int
    pid: int
    at_ns: int


class Project:
    """A folder with a configuration, steps copied from `steps`, and every engine that was started on it."""

    def __init__(self, folder: Path, steps: str, config: str) -> None:
        self.folder, self.engines = folder, list[EngineProcess]()
        shutil.copytree(HERE / steps, folder / "steps", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "gates").mkdir()
        (folder / "iii-config.yaml").write_text(config)

    def start(
        self, *args: str, environment: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> EngineProcess:
        """`python`: whose `iii` is run."""
        output = self.folder / f"engine-{len(self.engines)}.txt"
        engine = EngineProcess(self.folder, output, *args, environment=environment, python=python)
        self.engines.append(engine)
        return self.engines[-1]

    def clean_up(self) -> None:
        for engine in self.engines:
            engine.clean_up()
        for row in roster(self.folder / "data"):  # a quarantine, which drains when its engine is no more
            with suppress(ProcessLookupError):
                os.kill(row.pid, signal.SIGKILL)

    def said(self) -> str:
        """What the last engines printed."""
        return "\n".join(f"-- {engine.pid}\n{engine.text}" for engine in self.engines[-4:])

    @asynccontextmanager
    async def store(self) -> AsyncIterator[LmdbStore]:
        """The store without a session, as commands open it."""
        store = LmdbStore(self.folder / "data")
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def check(self) -> subprocess.CompletedProcess[str]:
        """`iii check` on the project."""
        return subprocess.run(
            [sys.executable, "-m", "iii", "check"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    # -- what gated_step.py writes and waits for

    def open_gate(self, name: str) -> None:
        (self.folder / "gates" / name).touch()

    def starts(self) -> list[Start]:
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [
            Start(name, int(attempt), int(pid), int(at_ns))
            for name, attempt, pid, at_ns in map(str.split, lines)
        ]

    async def started(self, engine: EngineProcess, *names: str) -> None:
        """Wait until exactly these run or ran in `engine`."""

        def look() -> bool:
            return sorted(names) == sorted(start.name for start in self.starts() if start.pid == engine.pid)

        await until(look, f"starts of {names} in {engine.pid}", lambda: (self.starts(), engine.text))


def values(store: Store, namespace: str) -> dict[str, Any]:
    """All of a namespace, however large."""
    found: dict[str, Any] = {}
    while page := store.scan(namespace, after=next(reversed(found), "")):
        found |= {entry.key: orjson.loads(entry.value) for entry in page}
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, below those the kernel gives out by itself: free between two engines too."""
    found: list[int] = []
    for port in _ports():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} ports are free")


def _ports() -> Iterator[int]:
    """From a place of this process's own, so that two test runs do not meet."""
    low, high = 10_000, 30_000
    first = os.getpid() * 7 % (high - low)
    return (low + (first + step) % (high - low) for step in range(high - low))
