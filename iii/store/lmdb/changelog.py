"""How large the change log is, what of it goes, and who is refused while it is held (keeping.py's rule).

    begin of a group   where the log was over its bound, or another process wrote: look, and shorten it
    end of a group     that made it longer: rows beyond `changes_max` go, then what is over the bound
    short of room      everything below the tail goes, before anybody is refused (Writer)

Counted by the table's pages, one `stat` a group. At most ROWS_MAX rows go at once: `more` says that there are
others, for the next group. Must not know the groups, nor Txns beyond what they write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import lmdb

from iii.store import keeping
from iii.store.contract import Limits
from iii.store.lmdb.environment import Tables
from iii.store.lmdb.keys import u64
from iii.store.lmdb.rows import decode_session
from iii.store.lmdb.trimming import remove_oldest, size_of

__all__ = ["ROWS_MAX", "ChangeLog"]

ROWS_MAX = 4_000
STRIDE_MAX = 16
"""Rows between two looks at the size: the newest rows may be a thousand times as large as the oldest."""

_TAIL = keeping.TAIL.encode()
_LEFT = keeping.LEFT.encode()

_log = logging.getLogger("iii.store")


class ChangeLog:
    """`lives(session)`: whether a session on record has a process; asked where the log would be refused.

    over: what is there is more than the bound, as of the last look; each Txn is weighed then.
    spare: something may lie below the tail that can go.
    """

    def __init__(self, tables: Tables, limits: Limits, lives: Callable[[int], bool]) -> None:
        self._tables, self._limits, self._lives = tables, limits, lives
        self._most = limits.changes_bytes_max
        self.over = self.spare = True  # until the first look
        self.more = False
        self.size = 0
        self.held_by: str | None = None
        """The step whose trigger holds what is over the bound."""

    def look(self, txn: lmdb.Transaction[bytes], wall_ms: int) -> bool:
        """At the begin of a group; whether it wrote."""
        self.size = size_of(txn, self._tables.change).bytes
        if self.size > self._most:
            return self._shorten(txn, self._most, wall_ms)
        return self._is_within(txn)

    def grown(self, txn: lmdb.Transaction[bytes], version: int, rows: int, wall_ms: int) -> None:
        """At the end of a group: it appended so many rows. Twice as many go, so that an excess goes away."""
        table = self._tables.change
        if rows:
            tail = self._mark(txn, _TAIL)
            last = min(version if tail is None else tail, version - self._limits.changes_max) - 1
            remove_oldest(txn, table, last, 2 * rows + 16)
            self.spare = True
        self.look(txn, wall_ms)

    def give_way(self, txn: lmdb.Transaction[bytes], rows_max: int, wall_ms: int) -> bool:
        """Let up to `rows_max` rows below the tail go, whatever the bound; whether some did."""
        before = size_of(txn, self._tables.change).rows
        self._shorten(txn, 0, wall_ms, rows_max)
        self.spare = self.more
        return size_of(txn, self._tables.change).rows < before

    def note_sessions(self, txn: lmdb.Transaction[bytes]) -> None:
        """Sessions came or left: what nobody serves now is waited for until as much again has come."""
        if self.over and self.size > self._most:
            txn.put(_LEFT, u64.pack(self.size), db=self._tables.mark)

    # ---------------------------------------------------------------------------------------- shortening

    def _is_within(self, txn: lmdb.Transaction[bytes]) -> bool:
        was, self.over, self.more, self.held_by = self.over, False, False, None
        return was and bool(txn.delete(_LEFT, db=self._tables.mark))

    def _shorten(
        self, txn: lmdb.Transaction[bytes], most: int, wall_ms: int, rows_max: int = ROWS_MAX
    ) -> bool:
        """Until the log takes `most` bytes, or a trigger holds the rest; whether anything was written."""
        waited = self._waited_for(txn)
        left, wrote, held_by = rows_max, False, None
        while True:
            gone = self._remove(txn, waited[0][0] if waited else None, most, left)
            left, wrote = left - gone, wrote or gone > 0
            if self.size <= most or not left or not waited:
                break
            if self._is_kept_for(txn, waited[0][1]):
                held_by = keeping.step_of(waited[0][1]) if self._lives_for(txn, waited[0][1]) else None
                break
            self._forget(txn, waited, wall_ms)
            wrote = True
        self.more = self.size > most and not left
        if self.size <= self._most:
            return self._is_within(txn) or wrote
        self.over, self.held_by = True, held_by
        return wrote

    def _remove(self, txn: lmdb.Transaction[bytes], last: int | None, most: int, rows_max: int) -> int:
        """The oldest rows up to `last`, while the log is over `most`; how many went."""
        table, gone = self._tables.change, 0
        size = size_of(txn, table)
        while size.bytes > most and gone < rows_max:
            excess = (size.bytes - most) * size.rows // size.bytes
            stride = min(STRIDE_MAX, rows_max - gone, max(1, excess))
            went = remove_oldest(txn, table, (1 << 64) - 1 if last is None else last, stride)
            gone += went
            size = size_of(txn, table)
            if went < stride:
                break
        self.size = size.bytes
        return gone

    def _is_kept_for(self, txn: lmdb.Transaction[bytes], mark: str) -> bool:
        """Whether what lies above the mark of this trigger stays, although it is over the bound."""
        if self.size <= self._most or self._lives_for(txn, mark):
            return True
        left = self._mark(txn, _LEFT)
        if left is None and self._serving(txn, mark):  # they died, and nobody has buried them yet
            left = self.size
            txn.put(_LEFT, u64.pack(left), db=self._tables.mark)
        return self.size <= keeping.waited_bytes(self._most, left)

    def _lives_for(self, txn: lmdb.Transaction[bytes], mark: str) -> bool:
        """Whether a session serves it; one that may be dead counts until the log would be refused for it."""
        sessions = self._serving(txn, mark)
        if self.size <= keeping.HELD_TIMES * self._most:
            return bool(sessions)
        return any(self._lives(session) for session in sessions)

    def _serving(self, txn: lmdb.Transaction[bytes], mark: str) -> list[int]:
        """The sessions on record that serve the trigger; a quarantine subscribes to nothing."""
        lane = keeping.lane_of(mark)
        sessions = (
            (int.from_bytes(key, "big"), decode_session(value))
            for key, value in txn.cursor(self._tables.session)
        )
        return [
            id
            for id, entry in sessions
            if entry.suspects != "only"
            and any((policy.topic, policy.step) == lane for policy in entry.policies)
        ]

    def _forget(self, txn: lmdb.Transaction[bytes], waited: list[tuple[int, str]], wall_ms: int) -> None:
        """The trigger that is furthest behind is waited for no more."""
        at, name = waited.pop(0)
        newest = txn.cursor(self._tables.change)
        end = u64.unpack(newest.key())[0] if newest.last() else at
        tail = waited[0][0] if waited else max(at, end)
        txn.put(_TAIL, u64.pack(tail), db=self._tables.mark)
        txn.put(keeping.forgotten_mark(name).encode(), u64.pack(wall_ms), db=self._tables.mark)
        _log.warning("%s", keeping.forgotten_reason(name, at, self.size, self._most))

    def _waited_for(self, txn: lmdb.Transaction[bytes]) -> list[tuple[int, str]]:
        marks, forgotten = (self._marks(txn, each) for each in (keeping.MARKS, keeping.FORGOTTEN))
        return keeping.waited_for(marks, forgotten, self._mark(txn, _TAIL))

    def _marks(self, txn: lmdb.Transaction[bytes], prefix: str) -> dict[str, int]:
        marks: dict[str, int] = {}
        cursor = txn.cursor(self._tables.mark)
        found = cursor.set_range(prefix.encode())
        while found and cursor.key().startswith(prefix.encode()):
            marks[cursor.key().decode()] = u64.unpack(cursor.value())[0]
            found = cursor.next()
        return marks

    def _mark(self, txn: lmdb.Transaction[bytes], name: bytes) -> int | None:
        raw = txn.get(name, db=self._tables.mark)
        return None if raw is None else u64.unpack(raw)[0]
