"""The lock that proves a session alive: a POSIX record lock on a file of its own.

The kernel drops it with the process, however it ends, and a forked child does not inherit it (flock
would live on in a forked grandchild). Its trap: *any* close of *any* descriptor of the file in the
owning process drops it. So the owner opens the file once, and nothing here opens a file whose lock
this process owns. Peers ask with F_GETLK, which takes nothing: two peers that ask at the same time
do not see each other.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from iii.errors import StoreBusy
from iii.files import open_file
from iii.store.lmdb.mapping import poison_after_fork
from iii.store.lmdb.record_lock import is_locked

__all__ = ["SessionLock", "is_held", "remove_if_free"]

_WAIT_S, _WAITS_MAX = 0.001, 2000

Inode = tuple[int, int]


class _Owned:
    """The inodes whose lock this process owns, and the mutex that guards opening any lock file."""

    inodes: set[Inode]
    guard: threading.Lock

    def __init__(self) -> None:
        self.poison()

    def poison(self) -> None:
        self.inodes, self.guard = set(), threading.Lock()


_owned = _Owned()
poison_after_fork(_owned)


class SessionLock:
    """Held from construction to `release`. StoreBusy where another process, or this one, holds it already."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _acquire(path)
        self._inode = _inode(os.fstat(self._fd))
        poison_after_fork(self)

    def release(self, *, remove: bool) -> None:
        """Idempotent. `remove`: the file goes first, so that nobody sees it there and free."""
        if self._fd < 0:
            return
        with _owned.guard:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            _owned.inodes.discard(self._inode)
        self._fd = -1

    def is_in_place(self) -> bool:
        """Whether others that look at its path see this lock."""
        return _leads_to(self._path, self._fd)

    def poison(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # the child owns no lock that this could drop
            self._fd = -1


def is_held(path: Path) -> bool:
    """True while a living process holds the lock; a missing file is held by nobody."""
    with _owned.guard:
        if _is_own(path):
            return True
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return is_locked(fd, 0, 0, ask=fcntl.F_GETLK)
        finally:
            os.close(fd)


def remove_if_free(path: Path, companions: Iterable[Path]) -> bool:
    """Remove the companions, then the lock file, all under the lock. False while somebody else has it."""
    with _owned.guard:
        if _is_own(path):
            return False
        try:
            fd = open_file(path, os.O_RDWR)
        except FileNotFoundError:
            return True  # the lock file goes last
        try:
            if not _lock(fd) or not _leads_to(path, fd):
                return False
            for each in (*companions, path):
                each.unlink(missing_ok=True)
            return True
        finally:
            os.close(fd)


def _acquire(path: Path) -> int:
    """Make the file and lock it. A sweep may come between the two and remove it: then again."""
    for _ in range(_WAITS_MAX):
        with _owned.guard:
            if _is_own(path):
                break
            fd = open_file(path, os.O_RDWR | os.O_CREAT)
            if _lock(fd) and _leads_to(path, fd):
                _owned.inodes.add(_inode(os.fstat(fd)))
                return fd
            os.close(fd)
        time.sleep(_WAIT_S)
    raise StoreBusy(f"{path} is locked: another running session has this id")


def _is_own(path: Path) -> bool:
    try:
        return _inode(os.stat(path)) in _owned.inodes
    except FileNotFoundError:
        return False


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _leads_to(path: Path, fd: int) -> bool:
    try:
        return _inode(os.stat(path)) == _inode(os.fstat(fd))
    except FileNotFoundError:
        return False


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino
