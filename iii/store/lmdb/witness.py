"""Shows other processes which `lock.mdb` and which `holder` this one uses, by locks on data.mdb itself.

Whoever finds one of these files missing makes it anew, and two processes with two of them do not see each
other. So each takes a shared OFD lock on one byte of data.mdb, far beyond its end: the file's inode says
which byte. Such a lock ends with its process and is lost only with the data that it protects. A process that
takes its own first and then looks for others cannot be missed by one that does the same.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Literal

from iii.store.lmdb.mapping import poison_after_fork
from iii.store.lmdb.record_lock import is_locked, record

__all__ = ["Inode", "Witness", "inode"]

_REGION_BYTES = 1 << 60
_REGIONS: Final = {"lock.mdb": 1 << 61, "holder": 1 << 62}

Inode = tuple[int, int]


def inode(file: Path) -> Inode:
    """OSError where there is none."""
    stat = os.stat(file)
    return stat.st_dev, stat.st_ino


class Witness:
    """Says until `close` that this process uses the file `companion` with the data.mdb `data`."""

    def __init__(self, data: Path, name: Literal["lock.mdb", "holder"], companion: Inode) -> None:
        self._start = _REGIONS[name]
        self._at = self._start + companion[1] % _REGION_BYTES
        self._fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, record(fcntl.F_RDLCK, self._at))
        except BaseException:
            os.close(self._fd)
            raise
        poison_after_fork(self)

    def is_contradicted(self) -> bool:
        """Whether somebody uses the same data.mdb with another file than `companion`."""
        after = self._at + 1
        below = self._is_locked(self._start, self._at - self._start)
        return below or self._is_locked(after, self._start + _REGION_BYTES - after)

    def is_alone(self) -> bool:
        """Whether nobody else uses this data.mdb."""
        return not self._is_locked(self._start, _REGION_BYTES)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def poison(self) -> None:
        self.close()  # the parent's descriptor keeps the lock

    def _is_locked(self, start: int, length: int) -> bool:
        if not length:  # 0 would mean: to the end
            return False
        return is_locked(self._fd, start, length)
