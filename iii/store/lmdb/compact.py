"""Gives back the file that a drained backlog left large: a compact copy takes its place, or nothing changes.

    nobody else has it open -> shorten the change log -> take the write lock -> still nobody -> copy, fsync
    -> look at the copy's pages -> rename over the old file -> fsync the folder

Whoever opens the store meanwhile waits for the write lock, and finds then that the file is another one
(Environment refuses it). A copy that was left behind by a kill is in nobody's way, and the next one takes its
place.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import lmdb

from iii.clock import SystemClock
from iii.errors import StoreBusy, StoreError, StoreFull
from iii.files import open_file
from iii.store.contract import CHANGES_BYTES_MAX, Limits
from iii.store.lmdb import environment
from iii.store.lmdb.catalog import Counters
from iii.store.lmdb.changelog import ROWS_MAX, ChangeLog
from iii.store.lmdb.creation import sync
from iii.store.lmdb.damage import damaged, explaining, page_findings
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.keys import COUNTERS_KEY
from iii.store.lmdb.liveness import refuse_foreign
from iii.store.lmdb.machine import refuse_network_filesystem

__all__ = ["Compacted", "compact"]

COPY = "data.mdb.compact"
FREE_BYTES_MIN = 16 << 20


class Compacted(NamedTuple):
    """The bytes of the file before and after."""

    before: int
    after: int


def compact(folder: Path, map_bytes: int, changes_bytes_max: int = CHANGES_BYTES_MAX) -> Compacted:
    """StoreBusy while anybody has the store open, StoreDamaged, StoreFull: nothing was changed then."""
    refuse_network_filesystem(folder)
    refuse_foreign(folder)
    opened = environment.acquire(folder, "commit", map_bytes, checked_bytes_max=sys.maxsize, create=False)
    try:
        holder = Holder(folder)
        try:
            _require_alone(opened, holder)
            before = opened.file.stat().st_size
            _shorten(opened, Limits(changes_bytes_max=changes_bytes_max).within(map_bytes))
            return Compacted(before, _compact(opened, holder))
        finally:
            holder.close()
    finally:
        environment.release(opened)


def _shorten(opened: Environment, limits: Limits) -> None:
    """What of the change log is beyond its bound goes: nobody is there who could serve a trigger."""
    log = ChangeLog(opened.tables, limits, lambda session: False)
    while True:
        with explaining(opened.file), opened.env.begin(write=True) as txn:
            version = Counters(txn.get(COUNTERS_KEY, db=opened.tables.counter)).version
            log.grown(txn, version, ROWS_MAX, SystemClock().wall_ms())
        if not log.more:
            return


def _compact(opened: Environment, holder: Holder) -> int:
    copy = opened.path / COPY
    copy.unlink(missing_ok=True)
    _require_room(opened)
    with explaining(opened.file), opened.env.begin(write=True) as txn:
        _require_alone(opened, holder)  # who comes later waits for this transaction
        try:
            _write(opened, copy)
            if findings := page_findings(copy):
                raise damaged(copy, findings[0])
            copy.rename(opened.file)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        sync(opened.path)
        txn.abort()
    return opened.file.stat().st_size


def _write(opened: Environment, copy: Path) -> None:
    fd = open_file(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        opened.env.copyfd(fd, compact=True)
        os.fsync(fd)
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"the copy {copy} failed: {error}") from error
    finally:
        os.close(fd)


def _require_alone(opened: Environment, holder: Holder) -> None:
    others = holder.others()
    if others or opened.users > 1 or not opened.presence.is_alone():
        who = f"process {', '.join(map(str, others))}" if others else "this process"
        raise StoreBusy(f"{opened.path} is in use by {who}: stop it first")


def _require_room(opened: Environment) -> None:
    used, stat = opened.used_bytes(), os.statvfs(opened.path)
    free = stat.f_bavail * stat.f_frsize
    if free < used + FREE_BYTES_MIN:
        raise StoreFull(
            f"the compact copy needs {used >> 20} MiB beside the file in {opened.path}, and {free >> 20} MiB "
            "are free: free some disk space, or `iii backup` to another disk"
        )
