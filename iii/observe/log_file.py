"""The newest log lines, as JSON, in the data folder: written by every engine on it, read by `iii logs`.

    <data>/logs/iii.jsonl      lines are appended, each by one write, by whoever has something to say
    <data>/logs/iii.1.jsonl    what was there before; together they hold at most `log.max_file`

Owns the files and their bound. Not durable and not waited for: a full disk loses lines, never work.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from iii.config import Config
from iii.errors import StoreError
from iii.files import Unsafe, make_folder, open_file

__all__ = ["LEVELS", "LogFile", "LogTail", "TailedLine", "log_file_of"]

LEVELS = ("debug", "info", "warning", "error", "critical")
LOOK_S = 1.0
NEW, OLD, LOCK = "iii.jsonl", "iii.1.jsonl", "lock"


class TailedLine(Struct, frozen=True, omit_defaults=True):
    """A line of the log. `time`: ISO 8601, UTC; `error`: the traceback."""

    time: str = ""
    level: str = ""
    logger: str = ""
    message: str = ""
    step: str = ""
    attempt: int = 0
    trace_id: str = ""
    fields: dict[str, Any] = {}
    error: str = ""


_decode = msgspec.json.Decoder(TailedLine).decode


class LogFile(logging.Handler):
    """A handler for `configure`. bytes_max: of both files together.

    The data folder is its store's to make: what is told where there is none, as after it was moved away, is
    not kept. A folder made here would be in the way of who puts it back."""

    def __init__(self, data: Path, bytes_max: int) -> None:
        super().__init__()
        self._folder, self._half = data / "logs", bytes_max * 2 // 5
        self._fd = -1
        self._written = 0
        self._look_at = 0.0

    def require_own(self) -> None:
        """Before the first line: StoreError where the file is none of our own, as one behind a link."""
        try:
            self._open()
            with _locked(self._folder):
                pass
        except Unsafe as error:
            self.close_file()
            raise StoreError(f"cannot keep the log in {error.filename}: {error.strerror}") from error
        except OSError:  # a first start has no folder yet; a full disk loses lines
            self.close_file()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode() + b"\n"
            now = time.monotonic()
            if now >= self._look_at or self._written > self._half // 8:
                self._look_at, self._written = now + LOOK_S, 0
                self._look()
            os.write(self._fd, line)
            self._written += len(line)
        except OSError:
            self.close_file()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self.close_file()
        super().close()

    def close_file(self) -> None:
        """Let go of it until the next line."""
        fd, self._fd, self._look_at = self._fd, -1, 0.0
        if fd >= 0:
            os.close(fd)

    def _look(self) -> None:
        """See that lines go to the newest file, and that it does not become too long."""
        if not self._is_current():
            self._open()
        if os.fstat(self._fd).st_size > self._half:
            with _locked(self._folder) as mine:
                path = self._folder / NEW
                if mine and path.stat().st_size > self._half:
                    path.replace(self._folder / OLD)
            self._open()

    def _open(self) -> None:
        if not self._folder.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder.parent))
        make_folder(self._folder)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._fd = open_file(self._folder / NEW, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _is_current(self) -> bool:
        if self._fd < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), (self._folder / NEW).stat())
        except FileNotFoundError:
            return False


def log_file_of(config: Config) -> LogFile | None:
    """What `iii logs` reads; nothing where there is no data folder."""
    if config.store.kind == "memory" or not config.log.file_bytes_max:
        return None
    return LogFile(config.store.path, config.log.file_bytes_max)


class LogTail:
    """What the files hold, and then, call by call, what has come since. `step`, `level` (at least):
    filters."""

    def __init__(self, data: Path, *, step: str | None = None, level: str | None = None) -> None:
        self._folder, self._step = data / "logs", step
        self._rank = LEVELS.index(level) if level else 0
        self._inode = 0
        self._offset = 0

    def last(self, count: int) -> list[TailedLine]:
        """The newest `count` lines, the oldest first; `read` goes on after them."""
        found: list[TailedLine] = []
        older = _content(self._folder / OLD, 0)[1]
        self._inode, newer = _content(self._folder / NEW, 0)
        self._offset = len(newer)
        for content in (newer, older):
            for line in reversed(content.splitlines()):
                if len(found) == count:
                    return found[::-1]
                if (shown := self._shown(line)) is not None:
                    found.append(shown)
        return found[::-1]

    def read(self) -> list[TailedLine]:
        """The lines since the last call."""
        inode, content = _content(self._folder / NEW, self._offset)
        before = b""
        if inode != self._inode:
            old_inode, rest = _content(self._folder / OLD, self._offset)
            before = rest if old_inode == self._inode else b""
            self._offset = 0
            self._inode, content = _content(self._folder / NEW, 0)
        self._offset += len(content)
        shown = (self._shown(line) for line in (before + content).splitlines())
        return [line for line in shown if line is not None]

    def _shown(self, line: bytes) -> TailedLine | None:
        try:
            read = _decode(line)
        except msgspec.DecodeError:  # cut off by a full disk
            return None
        if self._step is not None and read.step != self._step:
            return None
        rank = LEVELS.index(read.level) if read.level in LEVELS else len(LEVELS)
        return read if rank >= self._rank else None


def _content(path: Path, offset: int) -> tuple[int, bytes]:
    """(inode, whole lines from `offset` on); (0, b"") where there is no such file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        content = file.read()
        return os.fstat(file.fileno()).st_ino, content[: content.rfind(b"\n") + 1]
    return 0, b""


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether nobody else has the lock; a process stopped while it had it must not stop the others."""
    fd = open_file(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(fd)
