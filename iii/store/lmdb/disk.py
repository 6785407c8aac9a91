"""What the system has against a file of the store, in words: rights, room, memory, a disk that fails.

EIO is ambiguous: LMDB says so too where the disk took only the first part of a write, as a full one does.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import lmdb

from iii.errors import StoreError, StoreFailing, StoreFull
from iii.files import Unsafe

__all__ = ["failing", "no_access", "refused"]

ROOM_BYTES = 16 << 20
"""Where so much more could be written, a write that failed did not fail for want of room."""


def no_access(path: Path, error: OSError | lmdb.Error, map_bytes: int = 0) -> StoreError:
    """A file or folder cannot be opened, made or read."""
    code, reason = _code(error), getattr(error, "strerror", None) or str(error)
    if isinstance(error, Unsafe):
        return StoreError(f"cannot use {path}: {reason}")
    if code == errno.EIO:
        return failing(path, reason)
    if code == errno.ENOMEM:
        return StoreError(
            f"cannot use {path}: there is no address space for its map ({reason}); store.map_size is "
            f"{map_bytes} bytes, and {_limit()}: set a smaller store.map_size, or raise that limit"
        )
    return StoreError(
        f"cannot use {path}: {reason}; the store needs a folder that this user may read and write"
    )


def refused(file: Path, error: Exception) -> StoreFull:
    """A commit failed for want of room, or of a disk that works. Nothing was written."""
    if _code(error) == errno.EIO and _has_room(file):
        return failing(file, str(error))
    return StoreFull(f"no room in {file.parent} ({error}): grow the map or the disk")


def failing(path: Path, reason: str) -> StoreFailing:
    return StoreFailing(
        f"the disk reports an I/O error on {path} ({reason}), it is not full: check it (`dmesg`), and put a "
        "backup of the store on another one"
    )


def _code(error: Exception) -> int:
    return getattr(error, "errno", None) or getattr(error, "code", None) or 0


def _limit() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return (
        "the system has no more" if limit == resource.RLIM_INFINITY else f"`ulimit -v` is {limit >> 10} KiB"
    )


def _has_room(file: Path) -> bool:
    """As far as a try tells; True where none can be made."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if limit != resource.RLIM_INFINITY and os.stat(file).st_size + ROOM_BYTES > limit:
            return False
        fd = os.open(file.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, ROOM_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return True
