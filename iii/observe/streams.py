"""The standard streams of a process that runs engines: what becomes of them never stops it or fails its end.

    closed at start (`>&-`)       /dev/null in their place, before a socket or file gets their number
    the reader went away (EPIPE)  what is written is lost
    a full pipe nobody reads      waited for PATIENCE_S once; then lines are lost until there is room again,
                                  and their number is told
    a full disk                   what is written is lost

The log file in the data folder has the engine's lines all the same.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Patient", "own", "replace_closed"]

PATIENCE_S = 0.5
_CHUNK_BYTES = 4096  # PIPE_BUF: so much a pipe that is ready takes at once


def replace_closed() -> None:
    """Call it before anything is opened."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            stream = os.fdopen(fd, mode, closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def own() -> None:
    """From here on `sys.stdout` and `sys.stderr` are patient, and written line by line; one that is no file
    (a program that calls the command gave its own) stays."""
    for name in ("stdout", "stderr"):
        given = getattr(sys, name)
        with suppress(OSError):
            given.flush()
        try:
            fd = given.fileno()
        except io.UnsupportedOperation:
            continue
        patient = io.BufferedWriter(Patient(fd))
        errors = "backslashreplace" if name == "stderr" else given.errors
        text = io.TextIOWrapper(patient, given.encoding, errors, line_buffering=True)
        setattr(sys, name, text)


class Patient(io.RawIOBase):
    """Writes to a descriptor that it does not own: as much as there is room for, and never an error."""

    def __init__(self, fd: int, *, patience_s: float = PATIENCE_S) -> None:
        super().__init__()
        self._fd, self._patience_s = fd, patience_s
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)
        self._stalled = False
        self.lost = 0
        """Lines, since the last time there was room."""

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, given: ReadableBuffer, /) -> int:
        content = bytes(given)
        try:
            if self.lost and self._put(b"\niii: %d lines were lost here: nobody read them\n" % self.lost):
                self.lost = 0
            if self.lost or not self._put(content):
                self.lost += max(content.count(b"\n"), 1)
        except OSError:  # nobody reads it any more, or the disk is full
            pass
        return len(content)

    def _put(self, content: bytes) -> bool:
        """False where there is no room for all of it."""
        view = memoryview(content)
        while view:
            if not self._has_room():
                return False
            view = view[os.write(self._fd, view[:_CHUNK_BYTES]) :]
        return True

    def _has_room(self) -> bool:
        """Who reads slowly is waited for; who does not read at all only once."""
        self._stalled = not self._room.poll(0 if self._stalled else self._patience_s * 1000)
        return not self._stalled
