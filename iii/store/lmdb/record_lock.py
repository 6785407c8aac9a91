"""Record locks on the bytes of a file, as fcntl(2) has them; a byte need not exist to be locked.

Those of an open file description (F_OFD_*) end with its descriptor, and so with the process, and keep two
descriptors of one process apart as well.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

__all__ = ["is_locked", "lock", "record"]

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, len, pid


def record(kind: int, start: int, length: int = 1) -> bytes:
    """What fcntl(2) takes. length 0: to the end of every possible file."""
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


def lock(fd: int, byte: int, kind: int = fcntl.F_WRLCK) -> bool:
    """Lock or unlock a byte. False where another descriptor holds what is in the way."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, record(kind, byte))
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(fd: int, start: int, length: int = 1, *, ask: int = fcntl.F_OFD_GETLK) -> bool:
    """Whether others hold a lock in this range. ask: F_GETLK for those of other processes alone."""
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, ask, record(fcntl.F_WRLCK, start, length)))[0]
    return kind != fcntl.F_UNLCK
