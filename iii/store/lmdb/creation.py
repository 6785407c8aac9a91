"""Makes the file of a new store, whole or not at all: a power cut leaves none, or one that opens.

    lock the folder -> drop what a killed process left -> write data.mdb.new, synced by LMDB
    -> fsync the folders above -> rename to data.mdb -> unlock

The file's name is on disk after the folder's own fsync, which everybody who opens the store sees to
(environment.py): another process may use the file before its maker comes to that. Must not know the tables.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from iii.errors import StoreBusy
from iii.store.lmdb.holder import FILE as HOLDER
from iii.store.lmdb.presence import gone

__all__ = ["make", "sync"]

NEW = "data.mdb.new"
WAIT_S = 10.0
POLL_S = 0.005


def make(file: Path, map_bytes: int, tables_max: int, fill: Callable[[lmdb.Environment], object]) -> None:
    """`file`, with what `fill` commits, unless it is there; its folder is. lmdb.Error, OSError, StoreBusy."""
    with _alone(file):
        new = file.with_name(NEW)
        new.unlink(missing_ok=True)
        if not file.exists():
            # Who makes `holder` has found the file there: one that made it just now is no loss.
            if (file.parent / HOLDER).exists() and not file.exists():
                raise gone(file)
            try:
                _write(new, map_bytes, tables_max, fill)
                _sync_above(file.parent)
                new.rename(file)
            except BaseException:
                new.unlink(missing_ok=True)
                raise


def sync(path: Path) -> None:
    """fsync a file or folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(new: Path, map_bytes: int, tables_max: int, fill: Callable[[lmdb.Environment], object]) -> None:
    """Nobody else has this file, so it needs no lock of LMDB's beside it."""
    with lmdb.open(
        str(new), subdir=False, lock=False, map_size=map_bytes, max_dbs=tables_max, mode=0o600
    ) as env:
        fill(env)


def _sync_above(folder: Path) -> None:
    """The names of the folder and of those above it, which were made a moment ago perhaps, and by whoever.

    A folder that this user may not write has held its names for longer.
    """
    for above in folder.parents:
        if not os.access(above, os.R_OK | os.W_OK, effective_ids=True):
            break
        sync(above)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time; the lock ends with its owner. StoreBusy: another one stands still with it."""
    fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + WAIT_S
        while not _lock(fd):
            if time.monotonic() > deadline:
                raise StoreBusy(f"another process has been making {file} for {WAIT_S:.0f} s: end it")
            time.sleep(POLL_S)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing would not do: a child forked meanwhile shares it
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
