"""Which epoch a message's number was given in, and when a new epoch begins.

    first write of a process  ->  does anybody beside it write in the newest epoch?  yes: it goes on in that
                                  no: a new one begins, with the next message and the next change

So whoever is first to write to a copy of the file (a restored backup, a folder that was copied) gives its
numbers in an epoch that no other copy has; nobody needs to know that it is one. To write in an epoch is
a lock on the holder's file (holder.py), for this file alone: it ends with its process, however that ends, and
is in no backup. A process of the first release shares nothing and gives numbers all the same, so none begins
beside it: its messages keep the ids that it shows.

The row is written with the first group, or not at all. One in which nothing was given is overwritten by the
next. Every PRUNED_EVERY epochs those go of whose messages none is left; of what is there then, the newest
ROWS_MAX are kept.
"""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import lmdb
from msgspec import Struct

from iii.store.lmdb.catalog import Counters
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.holder import SHARED_BITS, Holder
from iii.store.lmdb.keys import (
    BEHIND,
    COUNTERS_KEY,
    EPOCH,
    EPOCH_VALUE,
    EPOCHS_KEY,
    LATER,
    LEASE,
    READY,
    UNIQUE_VALUE,
)
from iii.store.message_ids import EPOCH_BITS, prefix_of

__all__ = ["Epochs"]

PRUNED_EVERY = 4_096
ROWS_MAX = 61_440
_BEHIND_EPOCHS = b"epoch0"


class _Row(NamedTuple):
    """`id`, `version`: the first ones given in it. `ordinal`: how many began before it."""

    id: int
    version: int
    epoch: int
    ordinal: int


_NONE = _Row(0, 0, 0, -1)  # the newest where none has begun


class Known(Struct, frozen=True):
    """As of a commit: the first number of each epoch, and what stands before its numbers. No epoch that is
    not here begins at or below the number `to`; `newest` and `prefix`: of the last epoch."""

    commit: int = 0
    to: int = 0
    newest: int = 1
    prefix: str = ""
    firsts: tuple[int, ...] = ()
    prefixes: tuple[str, ...] = ()
    last: _Row = _NONE

    def prefix_of(self, number: int) -> str:
        """What stands before this number, up to `to`; "" before the first epoch."""
        at = bisect_right(self.firsts, number)
        return self.prefixes[at - 1] if at else ""

    def at(self, counters: Counters) -> Known:
        """The same, as of this commit."""
        return Known(
            counters.commit, counters.id, self.newest, self.prefix, self.firsts, self.prefixes, self.last
        )

    def adding(self, rows: Iterable[_Row]) -> Known:
        """And these. One that was overwritten stays before what took its place, which is found first."""
        new = [row for row in rows if row != self.last]
        if not new:
            return self
        prefixes = (*self.prefixes, *(prefix_of(row.epoch) for row in new))
        firsts = (*self.firsts, *(row.id for row in new))
        return Known(self.commit, self.to, firsts[-1], prefixes[-1], firsts, prefixes, new[-1])


class Epochs:
    """One store's. `settle`, `landed`: the writer's; `load`: with any transaction; `known`: any thread."""

    def __init__(self, environment: Environment, holder: Holder) -> None:
        self._tables, self._holder = environment.tables, holder
        stat = environment.file.stat()
        self._file = f"{stat.st_dev} {stat.st_ino}"
        self._lock = threading.Lock()
        self.known = Known()
        self._own = secrets.randbits(EPOCH_BITS) or 1
        self._joined: int | None = None
        self._begun: _Row | None = None

    # ---------------------------------------------------------------------------------- what is known

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """See what other processes began. A snapshot from before this process's last commit tells nothing."""
        counters = Counters(txn.get(COUNTERS_KEY, db=self._tables.counter))
        with self._lock:
            if counters.commit >= self.known.commit:
                self.known = self.known.adding(self._rows(txn, self.known.last)).at(counters)

    def landed(self, counters: Counters) -> None:
        """This process's group is in the file, and with it the epoch that it began."""
        begun, self._begun = self._begun, None
        with self._lock:
            known = self.known if begun is None else self.known.adding([begun])
            self.known = known.at(counters)

    # -------------------------------------------------------------------------------- when one begins

    def settle(self, txn: lmdb.Transaction[bytes], counters: Counters) -> None:
        """Before a process's first write lands. Again where that did not; once it has, it changes nothing."""
        self._begun = None
        newest = self._newest(txn)
        if newest.epoch == self._joined:
            return
        if self._holder.is_shared(self._shared(newest.epoch)) or self._holder.beside_older():
            self._joined = newest.epoch
        else:
            self._joined = self._own
            self._begin(txn, newest)
            counters.catalog += 1  # so that others look
        self._holder.share(self._shared(self._joined))

    def _begin(self, txn: lmdb.Transaction[bytes], newest: _Row) -> None:
        stored = Counters(txn.get(COUNTERS_KEY, db=self._tables.counter))
        first = (stored.id + 1, stored.version + 1)
        is_new = newest[:2] != first
        row = self._begun = _Row(*first, self._own, newest.ordinal + is_new)
        if is_new and row.ordinal and row.ordinal % PRUNED_EVERY == 0:
            self._prune(txn)
        value = EPOCH_VALUE.pack(row.epoch, row.ordinal)
        txn.put(EPOCH.pack(EPOCHS_KEY, *first), value, db=self._tables.meta)

    def _prune(self, txn: lmdb.Transaction[bytes]) -> None:
        rows = list(self._rows(txn, _NONE))
        firsts = [row.id for row in rows]
        left = {bisect_right(firsts, id) - 1 for id in self._ids(txn)}
        kept = sorted(at for at in left if at >= 0)[-ROWS_MAX:]
        for at in set(range(len(rows))) - set(kept):
            txn.delete(EPOCH.pack(EPOCHS_KEY, *rows[at][:2]), db=self._tables.meta)

    def _ids(self, txn: lmdb.Transaction[bytes]) -> Iterator[int]:
        """Of all that may still be asked for."""
        tables = self._tables
        keys = (
            (tables.ready, READY, 2), (tables.later, LATER, 1), (tables.behind, BEHIND, 2),
            (tables.lease, LEASE, 1),
        )  # fmt: skip
        for table, layout, at in keys:
            for key in txn.cursor(table).iternext(values=False):
                yield layout.unpack(key)[at]
        for value in txn.cursor(tables.unique).iternext(keys=False):
            yield UNIQUE_VALUE.unpack(value)[0]

    # ---------------------------------------------------------------------------------------- its rows

    def _newest(self, txn: lmdb.Transaction[bytes]) -> _Row:
        cursor = txn.cursor(self._tables.meta)
        found = cursor.prev() if cursor.set_range(_BEHIND_EPOCHS) else cursor.last()
        return _row(*cursor.item()) if found and cursor.key().startswith(EPOCHS_KEY) else _NONE

    def _rows(self, txn: lmdb.Transaction[bytes], start: _Row) -> Iterator[_Row]:
        """From `start` on, which another one may have overwritten."""
        cursor = txn.cursor(self._tables.meta)
        found = cursor.set_range(EPOCH.pack(EPOCHS_KEY, *start[:2]))
        while found and cursor.key().startswith(EPOCHS_KEY):
            yield _row(*cursor.item())
            found = cursor.next()

    def _shared(self, epoch: int) -> int:
        """What stands for writing in this epoch of this file."""
        return int.from_bytes(
            blake2b(f"{epoch} {self._file}".encode(), digest_size=SHARED_BITS // 8).digest()
        )


def _row(key: bytes, value: bytes) -> _Row:
    _, id, version = EPOCH.unpack(key)
    return _Row(id, version, *EPOCH_VALUE.unpack(value))
