"""A project in a folder and `iii run` on it, in processes of their own; what they print goes to a file."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from iii.store.lmdb import LmdbStore

DEADLINE_S = 60.0
LOOK_S = 0.01

IMPATIENT = """\
import functools, sys
from iii.store.lmdb import store, worker
for module in (store, worker):
    module.Heartbeat = functools.partial(module.Heartbeat, interval_s={beat_s})
from iii.cli import main
main()
"""
"""`iii` whose heart beats faster, so that what takes 40 beats does not take ten seconds."""


async def until(look: Callable[[], object], what: str, told: Callable[[], object] = str) -> None:
    """Look until it is true; at the deadline fail with what was awaited, and with what `told` says."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not look():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}\n{told()}") from None


class EngineProcess:
    def __init__(self, folder: Path, output: Path, *, beat_s: float | None, group: int) -> None:
        program = ["-m", "iii"] if beat_s is None else ["-c", IMPATIENT.format(beat_s=beat_s)]
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program, "run", "--port", "0"],
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                process_group=group,
            )
        self.pid = self.process.pid

    @property
    def text(self) -> str:
        return self._output.read_text()

    async def address(self) -> str:
        """Where it listens, once it is up."""
        found: list[str] = []

        def look() -> bool:
            found[:] = re.findall(r"^  address +(http://\S+)$", self.text, re.MULTILINE)
            assert found or self.process.poll() is None, f"the engine ended:\n{self.text}"
            return bool(found)

        await until(look, "an engine that listens", lambda: self.text)
        return found[0]

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        await until(lambda: self.process.poll() is not None, "the end of the engine", lambda: self.text)
        return self.process.wait()

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)


class Project:
    """`steps`: the source of its one step file."""

    def __init__(self, folder: Path, steps: str) -> None:
        self.folder, self.engines = folder, list[EngineProcess]()
        (folder / "steps").mkdir()
        (folder / "steps" / "the_step.py").write_text(steps)
        (folder / "iii-config.yaml").write_text("store: {path: data}\nconsole: {port: 0}\n")

    def start(self, *, beat_s: float | None = None, group: int = 0) -> EngineProcess:
        """`group`: the process group it joins; 0 = one of its own."""
        output = self.folder / f"engine-{len(self.engines)}.txt"
        self.engines.append(EngineProcess(self.folder, output, beat_s=beat_s, group=group))
        return self.engines[-1]

    @asynccontextmanager
    async def store(self) -> AsyncIterator[LmdbStore]:
        """The store without a session, as commands open it."""
        store = LmdbStore(self.folder / "data")
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def clean_up(self) -> None:
        for engine in self.engines:
            engine.clean_up()


def descendants(pid: int) -> list[int]:
    """The children of a process that run, and theirs."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[1]) == pid and fields[0] not in b"ZX":
            child = int(status.parent.name)
            found += [child, *descendants(child)]
    return found


__all__ = ["EngineProcess", "Project", "descendants", "until"]
