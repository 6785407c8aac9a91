"""Real processes to watch, stop and kill: each runs a few lines of Python and says what it has done."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iii.store.lmdb.mapping import SharedWords

DEADLINE_S = 20.0

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from iii.store.lmdb.doorbell import Doorbell, Ringer
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import *
folder = Path(sys.argv[1])
def say(*words): print(*words, flush=True)
def rest():
    while True: signal.pause()
"""


class Child:
    """A process that runs `script` with `folder`, `say` and `rest` at hand."""

    def __init__(self, script: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(folder)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._unread = b""

    def hears(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
            assert ready, "the process said nothing in time"
            more = os.read(self._process.stdout.fileno(), 4096)
            assert more, f"the process ended ({self._process.wait()}) without a word"
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands."""
        os.kill(self.pid, signal.SIGSTOP)
        self.await_stop()

    def await_stop(self) -> None:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; returns when it has ended, not yet reaped."""
        pidfd = os.pidfd_open(self.pid)
        try:
            os.kill(self.pid, signal.SIGKILL)
            ended, _, _ = select.select([pidfd], [], [], DEADLINE_S)
            assert ended
        finally:
            os.close(pidfd)

    def exit_code(self) -> int:
        return self._process.wait(DEADLINE_S)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def clean_up(self) -> None:
        if self.runs:
            self._process.kill()
        self._process.wait(DEADLINE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    """spawn(script) -> Child, on the data folder `tmp_path`."""
    children: list[Child] = []

    def start(script: str) -> Child:
        children.append(Child(script, tmp_path))
        return children[-1]

    yield start
    for child in children:
        child.clean_up()


@pytest.fixture
def overwrite() -> Callable[[Path, int, int], None]:
    """overwrite(file, word index, word): as another boot, machine or process would have left it."""

    def write(path: Path, index: int, word: int) -> None:
        fd = os.open(path, os.O_RDWR)
        shared = SharedWords(fd, os.fstat(fd).st_size // 8)
        shared.words[index] = word
        shared.close()
        os.close(fd)

    return write
