"""A generated project folder, and `iii` on it as a user calls it.

    folder/iii-config.yaml  steps/  data/      ledgers/ what the handlers saw

The processes of `iii run` listen on free ports, and are asked to stop by SIGTERM: one that does not drain and
exit 0, or logs an error, fails its scenario.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from bench.child import environment
from bench.ledger import Ledger, collect
from bench.machine import ROOT
from bench.settings import Round, WrongResult

PROJECTS = Path(__file__).parent / "projects"
UP_S, STOP_S = 60, 30
CONFIG = """\
store: {{path: data, fsync: {fsync}}}
http: {{host: 127.0.0.1, port: 0, lane: {lane}}}
console: {{enabled: false}}
history: {{keep: {history_keep}}}
log: {{level: error}}
queues: {{{queues}}}
"""


BESIDE = """\
store: {{path: "{data}", fsync: {fsync}}}
http: {{enabled: false}}
console: {{enabled: false}}
log: {{level: error}}
"""


class Project:
    """`concurrency` by topic; a topic that is not named has the default. history_keep: run records. lane:
    `http.lane`."""

    def __init__(
        self,
        round: Round,
        *sources: Path,
        name: str = "project",
        concurrency: dict[str, int] | None = None,
        history_keep: int = 0,
        lane: bool = True,
    ) -> None:
        self.folder = round.folder / name
        self.config, self.ledgers = self.folder / "iii-config.yaml", self.folder / "ledgers"
        self._fsync = round.settings.fsync
        self.ledgers.mkdir(parents=True)
        for source in sources:
            shutil.copytree(
                source,
                self.folder / "steps",
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )
        queues = ", ".join(
            f"{topic}: {{concurrency: {slots}}}" for topic, slots in (concurrency or {}).items()
        )
        self.config.write_text(
            CONFIG.format(
                fsync=self._fsync,
                queues=queues,
                history_keep=history_keep,
                lane=str(lane).lower(),
            )
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def beside(self, name: str) -> Path:
        """The configuration of an engine on the same store that has no steps and serves nothing."""
        folder = self.folder / name
        (folder / "steps").mkdir(parents=True)
        config = folder / "iii-config.yaml"
        config.write_text(BESIDE.format(data=self.data, fsync=self._fsync))
        return config

    def call(self, *args: str) -> str:
        """Run an `iii` command to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "iii", "-c", str(self.config), *args],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=environment(),
        )
        if done.returncode:
            raise WrongResult(f"iii {' '.join(args)} exited {done.returncode}: {done.stderr}")
        return done.stdout

    def ledger(self) -> Ledger:
        """What all processes that have ended saw."""
        return collect(self.ledgers)


class Running:
    """An `iii run`, of one instance or several, that is up when made. `host` and `port`: where it listens."""

    def __init__(self, project: Project, *args: str) -> None:
        spawned = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "iii", "run", "-c", str(project.config), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=project.folder,
            env=environment(project.ledgers),
        )
        self.pid = self._child.pid
        hurry = threading.Timer(UP_S, self._child.kill)
        hurry.start()
        try:
            report = self._report()
        finally:
            hurry.cancel()
        self.up_ms = (time.perf_counter() - spawned) * 1000
        found = re.search(r"^ *address +http://(\S+):(\d+)$", report, re.MULTILINE)
        self.host, self.port = (found[1], int(found[2])) if found else ("", 0)

    def _report(self) -> str:
        """What it prints when it is up, to the empty line that ends it."""
        assert self._child.stdout is not None
        said = ""
        for line in self._child.stdout:
            said += line
            if said.startswith("iii ") and not line.strip():
                return said
        raise WrongResult(f"iii run was not up within {UP_S} s, or ended ({self._child.wait()}):\n{said}")

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def stop(self) -> None:
        """Ask it to drain; WrongResult where it had something to say or did not exit 0."""
        self._child.send_signal(signal.SIGTERM)
        try:
            said, _ = self._child.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            raise WrongResult(f"iii run still runs {STOP_S} s after SIGTERM") from None
        if self._child.returncode or said.strip():
            raise WrongResult(f"iii run exited {self._child.returncode} and said:\n{said[-4000:]}")

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()


@contextmanager
def iii_run(project: Project, instances: int = 1, *, http: bool = True) -> Iterator[Running]:
    """`iii run` that is up, and is stopped on leaving."""
    args = [*([] if http else ["--no-http"]), *(["--instances", str(instances)] if instances > 1 else [])]
    running = Running(project, *args)
    try:
        yield running
        running.stop()
    finally:
        running.end()


def peers(project: Project, count: int) -> AbstractContextManager[object]:
    """`count` instances beside a program that embeds one."""
    return iii_run(project, count, http=False) if count else nullcontext()


def example(round: Round) -> Path:
    """The steps of the example, their simulated work taken out."""
    steps = round.folder / "example-steps"
    shutil.copytree(ROOT / "steps", steps, ignore=shutil.ignore_patterns("__pycache__"))
    worker = steps / "process_message_step.py"
    idle, found = re.subn(
        r"^WORK_MS = .*$", 'WORK_MS = {"high": 0, "normal": 0, "low": 0}', worker.read_text(), flags=re.M
    )
    if found != 1:
        raise WrongResult(f"{worker.name} of the example names its simulated work otherwise than WORK_MS")
    worker.write_text(idle)
    return steps
