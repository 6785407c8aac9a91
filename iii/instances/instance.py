"""One instance as its supervisor sees it: an OS process, from its start to its end. Restarts nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal, TextIO

import msgspec
from msgspec import Struct

from iii.instances.output import Numbered
from iii.instances.seat import Seat, Word
from iii.store.lmdb.liveness import mark_supervised

__all__ = ["QUARANTINE", "Command", "Instance"]

QUARANTINE = 0
"""The number of the one that runs suspects alone (quarantine.py)."""

CHUNK_BYTES = 1 << 16
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
_OF_BROKEN_PAGES = (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV)


class Command(Struct, frozen=True):
    """How an instance is started: `options` of `iii run`, and what its Seat holds. The first one, and who
    takes its place, serves the console."""

    options: tuple[str, ...]
    environment: dict[str, str]
    of: int
    sockets: tuple[int, ...]
    format: Literal["text", "json"]
    colour: bool
    console: tuple[int, ...] = ()
    stores: dict[str, int] = {}

    def inherited(self, number: int) -> tuple[int, ...]:
        """The sockets of instance `number`."""
        if number == QUARANTINE:
            return ()
        return (*self.sockets, *self.console) if number == 1 else self.sockets

    def argv(self, number: int, line: int) -> list[str]:
        console = self.console if number == 1 else ()
        kind = ("--quarantine",) if number == QUARANTINE else ()
        seat = Seat(
            number,
            self.of,
            self.sockets if number != QUARANTINE else (),
            line,
            self.format,
            self.colour,
            console,
            supervisor=os.getpid(),
            stores=self.stores,
            quarantines=True,
        )
        # `-m` puts the working folder first on the path, the console script does not: a queue.py there
        # must not hide the one of the standard library in the instances alone.
        safe = () if sys.path[:1] in ([""], [os.getcwd()]) else ("-P",)
        return [sys.executable, *safe, "-m", "iii", "run", *self.options, *kind, "--seat", seat.encoded()]


class Instance:
    """Started on construction (OSError: it cannot be). Made and used on the event loop."""

    def __init__(
        self,
        command: Command,
        number: int,
        on_ready: Callable[[Instance], object],
        on_suspects: Callable[[], object] = bool,
    ) -> None:
        self.number, self._on_ready, self._on_suspects = number, on_ready, on_suspects
        self.name = f"instance {number}" if number != QUARANTINE else "the quarantine"
        self.suspects = self.began = False  # what it said last of suspects; whether it was granted one
        self._loop = asyncio.get_running_loop()
        self._started, self._ended = asyncio.Event(), asyncio.Event()
        self.exit_code: int | None = None
        """As `subprocess` has it; None while it runs."""
        self.report: Sequence[str] = ()
        self.refused, self.for_good, self.gone = "", False, False
        self.store, self.made_ms = "", 0
        """Where its store lies, and when that was made."""
        self._begun_s = self._loop.time()
        self._ready_s: float | None = None
        self._words = b""
        self._line, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _spawn(command, number, theirs.fileno())
            except BaseException:
                self._line.close()
                raise
        self.pid = self._process.pid
        self._streams = [
            (self._process.stdout, Numbered(number, _writer(sys.stdout))),
            (self._process.stderr, Numbered(number, _writer(sys.stderr))),
        ]
        for pipe, numbered in self._streams:
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._loop.add_reader(pipe.fileno(), self._read, pipe, numbered)
        self._line.setblocking(False)
        self._loop.add_reader(self._line.fileno(), self._listen)

    @property
    def ready(self) -> bool:
        return self._ready_s is not None and self.exit_code is None

    @property
    def lived_s(self) -> float | None:
        """How long ago it became ready; None = it never did."""
        return None if self._ready_s is None else self._loop.time() - self._ready_s

    @property
    def start_s(self) -> float:
        """How long it took to become ready; 0 = it has not."""
        return 0.0 if self._ready_s is None else self._ready_s - self._begun_s

    @property
    def ended_from_outside(self) -> bool:
        """Killed, or asked to stop: with 0 ends only who was ready and has drained."""
        return self.exit_code in _FROM_OUTSIDE or (self._ready_s is not None and self.exit_code == 0)

    @property
    def cause(self) -> str:
        """Why it ended, in words."""
        code = self.exit_code
        assert code is not None, "it has ended"
        how = f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        said = self.refused or (self._streams[1][1].last if code > 0 else "")
        if code in _OF_BROKEN_PAGES:
            said = "run `iii check`: the store may be damaged"
        return f"{how}: {said}" if said else how

    async def until_started(self, limit_s: float | None = None) -> bool:
        """Whether it became ready, as soon as it has or never will. TimeoutError."""
        await asyncio.wait_for(self._started.wait(), limit_s)
        return self._ready_s is not None

    async def until_ended(self) -> None:
        await self._ended.wait()

    def reap(self) -> None:
        """A child has ended; see whether it was this one."""
        if self.exit_code is None and self._process.poll() is not None:
            self._listen()
            for pipe, numbered in self._streams:
                if pipe is not None and not pipe.closed:
                    self._read(pipe, numbered)
                    self._hang_up(pipe, numbered)
            self._loop.remove_reader(self._line.fileno())
            self._line.close()
            self.exit_code = self._process.returncode
            self._started.set()
            self._ended.set()

    def ask_to_stop(self) -> None:
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self, data: Path) -> None:
        """End it now. Nothing that it runs is to blame, so its messages come back as they were."""
        if self.exit_code is None:
            mark_supervised(data, self.pid)
            self._process.kill()

    def kill_blaming(self) -> None:
        """End it now, for what it runs: that counts a crash."""
        if self.exit_code is None:
            self._process.kill()

    # -- what it says

    def _listen(self) -> None:
        try:
            while chunk := self._line.recv(CHUNK_BYTES):
                self._words += chunk
        except BlockingIOError:
            pass
        except OSError:  # it was killed while it spoke
            self._loop.remove_reader(self._line.fileno())
        else:
            self._loop.remove_reader(self._line.fileno())
        *words, self._words = self._words.split(b"\n")
        for word in words:
            self._hear(msgspec.json.decode(word, type=Word))

    def _hear(self, word: Word) -> None:
        if word.suspects is not None:
            self.suspects = word.suspects
            self._on_suspects()
        elif word.began:
            self.began = True
        elif word.ready is None:
            self.refused, self.for_good, self.gone = word.refused, word.for_good, word.gone
        elif self._ready_s is None:
            self.store, self.made_ms = word.store, word.made_ms
            self.report, self._ready_s = word.ready, self._loop.time()
            self._started.set()
            self._on_ready(self)

    def _read(self, pipe: IO[bytes], numbered: Numbered) -> None:
        try:
            while chunk := os.read(pipe.fileno(), CHUNK_BYTES):
                numbered.feed(chunk)
        except BlockingIOError:
            return
        self._hang_up(pipe, numbered)

    def _hang_up(self, pipe: IO[bytes], numbered: Numbered) -> None:
        """A child of its own may hold the pipe open for as long as it likes."""
        if not pipe.closed:
            self._loop.remove_reader(pipe.fileno())
            pipe.close()
            numbered.end()


def _spawn(command: Command, number: int, line: int) -> subprocess.Popen[bytes]:
    """In a process group of its own: a Ctrl-C is the supervisor's to pass on."""
    return subprocess.Popen(
        command.argv(number, line),
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(*command.inherited(number), line),
        process_group=0,
    )


def _writer(stream: TextIO) -> Callable[[bytes], None]:
    """The stream is one of `iii run`, which waits for no reader that has gone (observe/streams.py)."""

    def write(lines: bytes) -> None:
        stream.buffer.write(lines)
        stream.buffer.flush()

    return write


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
