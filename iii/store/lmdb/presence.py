"""What has to stay where it is while a store is open: data.mdb and lock.mdb, the very files that were opened.

LMDB's write lock lies in lock.mdb, and whoever finds none makes a new one. Where it is removed under somebody
who runs, two processes would hold two locks and write at once.

    who runs      looks once a second, before a group or idle: nothing is committed any more where one of the
                  files was removed, replaced or cut off (StoreDamaged). Until then nobody writes beside it,
                  since no newcomer gets in
    a newcomer    makes no fresh lock.mdb while a slot of `holder` is taken, nor does it use one that others
                  do not use (witness.py): StoreBusy. It makes no data.mdb where there is a `holder`, which
                  says that there was one: StoreGone

With nobody running a missing lock.mdb is made anew, as at the first start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from iii.errors import StoreBusy, StoreDamaged, StoreError, StoreGone
from iii.files import open_file
from iii.store.lmdb.holder import FILE as HOLDER
from iii.store.lmdb.holder import users
from iii.store.lmdb.witness import Inode, Witness, inode

__all__ = ["LOCK", "Presence", "gone", "refuse_to_replace", "require_the_expected"]

LOCK: Final = "lock.mdb"
_READER_BYTES = 64
"""LMDB's place for a reader in lock.mdb: a file that holds less than its readers was cut off."""


class Presence:
    """Made before LMDB opens the two files; `opened` is called after it has."""

    def __init__(self, data: Path, readers_max: int) -> None:
        """Makes lock.mdb where there is none. StoreBusy, OSError."""
        self.data, self.lock = data, data.with_name(LOCK)
        self._bytes_min = readers_max * _READER_BYTES
        self._make_lock()
        self._data_inode, self._lock_inode = inode(data), inode(self.lock)
        self._data_name, self._lock_name = str(data), str(self.lock)  # a Path takes longer to look at
        self._witness: Witness | None = None

    def opened(self) -> None:
        """StoreBusy where a file was replaced meanwhile, or others use another lock.mdb."""
        if inode(self.lock) != self._lock_inode:
            raise StoreBusy(f"{self.lock} was replaced while it was opened: try again")
        self._witness = Witness(self.data, LOCK, self._lock_inode)
        if self._witness.is_contradicted():
            raise refuse_to_replace(self.lock, users(self.data.parent))

    def close(self) -> None:
        """Idempotent."""
        if self._witness is not None:
            self._witness.close()

    def is_alone(self) -> bool:
        """Whether no other process has opened the store (one of an older version may, without a trace)."""
        return self._witness is None or self._witness.is_alone()

    def is_same_data(self) -> bool:
        return inode(self.data) == self._data_inode

    def require(self) -> None:
        """StoreDamaged: a file is not the one any more that was opened."""
        if (how := _gone(self._data_name, self._data_inode, 0)) is not None:
            raise StoreDamaged(
                f"{self.data} {how} while in use: put it back, or a backup in its place, and start again"
            )
        if (how := _gone(self._lock_name, self._lock_inode, self._bytes_min)) is not None:
            raise StoreDamaged(
                f"{self.lock} {how} while in use, and without it two processes would write at once: this one "
                "writes nothing more (nothing acknowledged is lost); stop all that use the store, start again"
            )

    def _make_lock(self) -> None:
        """LMDB fills it. Whoever has a slot in `holder` took it when lock.mdb was there and whole."""
        if self._is_whole():
            return
        found = users(self.data.parent)
        if found and not self._is_whole():
            raise refuse_to_replace(self.lock, found)
        os.close(open_file(self.lock, os.O_RDWR | os.O_CREAT))

    def _is_whole(self) -> bool:
        try:
            return os.stat(self.lock).st_size >= self._bytes_min
        except FileNotFoundError:
            return False


def _gone(file: str, opened: Inode, bytes_min: int) -> str | None:
    try:
        stat = os.stat(file)
    except FileNotFoundError:
        return "was removed"
    except OSError as error:
        return f"can no longer be reached ({error.strerror})"
    if stat.st_ino != opened[1] or stat.st_dev != opened[0]:
        return "was replaced"
    return "was cut off" if stat.st_size < bytes_min else None


def gone(data: Path) -> StoreError:
    """There is no data.mdb where one has to be."""
    if found := users(data.parent):
        return refuse_to_replace(data, found)
    holder = data.with_name(HOLDER)
    anew = f"remove {holder} too" if holder.exists() else "stop and start again"
    return StoreGone(
        f"{data} is gone, and no empty store is made in its place: put it back, or a backup; to begin with "
        f"nothing, {anew}"
    )


def require_the_expected(data: Path, made_ms: int, expected_ms: int) -> None:
    """StoreGone where this store is another than the one made at `expected_ms`, 0 = any will do."""
    if expected_ms not in (0, made_ms):
        raise StoreGone(
            f"{data} is not the store that ran here: it was made at {made_ms}, that one at {expected_ms} (ms "
            "since 1970); put that one back, or its backup, or stop and start again to go on with this one"
        )


def refuse_to_replace(file: Path, pids: Sequence[int]) -> StoreBusy:
    """A file that others still use was removed."""
    who = f"process {', '.join(map(str, pids))}" if pids else "another process"
    return StoreBusy(
        f"{file} was removed or replaced while {who} uses the store, and with another one two would write at "
        "once: end that process (it stops by itself when it notices), then try again"
    )
