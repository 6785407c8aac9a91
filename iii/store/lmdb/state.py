"""The state ops of a Txn: values, versions, change rows and marks, inside the open write transaction.

A Txn makes one change per key whatever it did on the way there: its writes wait until its last op has passed.
What Txns have landed waits in memory for the end of the group, which writes each key once.
"""

from __future__ import annotations

from iii.errors import Conflict, TooLarge
from iii.formats import merge
from iii.model import Change, Delete, Mark, Merge, Put
from iii.store.contract import Limits
from iii.store.lmdb.keys import STATE_HEAD, state_key, u64
from iii.store.lmdb.moves import Moves
from iii.store.lmdb.recent import Recent
from iii.store.lmdb.rows import encode

Stored = tuple[bytes | None, int, int]
"""What is there of a key: value (None: nothing), version, wall clock of the write in ms."""

_ABSENT: Stored = (None, 0, 0)

GATHERED_BYTES_MAX = 8 << 20
"""Of a group's changes: a patch of a few bytes leaves the whole value, before and after it."""

_text = str.__str__  # of a str Enum, say, the text that the log will tell


class Written:
    """A key this Txn touched: what was there before it, at which version, and what is there now."""

    __slots__ = ("now", "old", "row_key", "version")

    def __init__(self, row_key: bytes, stored: Stored) -> None:
        self.row_key = row_key
        self.old, self.version, _ = stored
        self.now = self.old


class StateWrites:
    def __init__(self, moves: Moves, limits: Limits) -> None:
        self._moves, self._limits = moves, limits
        self.written: dict[tuple[str, str], Written] = {}
        self.changes: list[tuple[bytes, bytes]] = []  # rows of the group that its table does not hold yet
        self.changed = 0  # rows of the group
        self._gathered = 0  # bytes in them that are in memory
        self._landed: dict[
            bytes, Stored
        ] = {}  # by row key: what the group's Txns left, to be written with them
        self.recent = Recent(limits.changes_max)
        self._begun = 0  # the version before the group, once it has landed something
        self._noted: list[Change] | None = None  # the group's, where somebody follows
        self._noted_bytes = 0

    def begin(self) -> None:
        self.written.clear()  # of a Txn in whose midst the group before failed
        self.changes.clear()
        self.changed = self._gathered = 0
        self._landed.clear()
        self._noted = [] if self.recent.followed else None

    def put(self, op: Put) -> None:
        self._seen_at(op).now = op.value

    def delete(self, op: Delete) -> None:
        self._seen_at(op).now = None

    def merge(self, op: Merge) -> None:
        written = self._seen(op.namespace, op.key)
        value = merge.evaluate(written.now, op.patch)
        most = self._limits.value_bytes_max
        if len(value) > most:
            raise TooLarge(f"{op.namespace}/{op.key} would have {len(value)} bytes, at most {most}")
        written.now = value

    def _seen_at(self, op: Put | Delete) -> Written:
        """The key as this Txn sees it; Conflict unless it was at `if_version` before the Txn."""
        written = self._seen(op.namespace, op.key)
        if op.if_version is not None and op.if_version != written.version:
            raise Conflict(
                f"{op.namespace}/{op.key} is at version {written.version}, expected {op.if_version}"
            )
        return written

    def _seen(self, namespace: str, key: str) -> Written:
        written = self.written.get((namespace, key))
        if written is None:
            row_key = state_key(namespace, key)
            stored = self._landed.get(row_key) or self._stored(row_key)
            written = self.written[namespace, key] = Written(row_key, stored)
        return written

    def _stored(self, row_key: bytes) -> Stored:
        raw = self._moves.txn.get(row_key, None, self._moves.tables.state)
        return (raw[STATE_HEAD.size :], *STATE_HEAD.unpack_from(raw)) if raw is not None else _ABSENT

    def mark(self, op: Mark) -> None:
        moves, key = self._moves, op.name.encode()
        raw = moves.txn.get(key, db=moves.tables.mark)
        found = u64.unpack(raw)[0] if raw else None
        if found != op.expected:
            raise Conflict(f"mark {op.name} is {found}, expected {op.expected}")
        if found != op.value:
            moves.put(moves.tables.mark, key, u64.pack(op.value), raw)

    def land(self, headers: dict[str, str]) -> None:
        """The Txn has passed: one version and one change row per key that differs now."""
        moves, noted = self._moves, self._noted
        catalog = moves.catalog
        if not self._landed:
            self._begun = catalog.counters.version
        if noted is not None:
            headers = dict(headers)
        for (namespace, key), written in self.written.items():
            old, new = written.old, written.now
            if old == new:
                continue
            moves.wrote = True
            catalog.counters.version = version = catalog.counters.version + 1
            self._landed[written.row_key] = _ABSENT if new is None else (new, version, moves.wall_ms)
            if old is None or new is None:
                catalog.count_key(moves.txn, namespace, 1 if old is None else -1)
            if namespace[0] != "$":
                row = encode((namespace, key, old, new, headers))
                self.changes.append((u64.pack(version), row))
                self.changed += 1
                self._gathered += len(row)
                if noted is not None:
                    noted.append(Change(version, _text(namespace), _text(key), old, new, headers))
        self.written.clear()
        if self._gathered > GATHERED_BYTES_MAX:
            self._append_changes()
            self._noted = None  # who follows reads them there

    def _append_changes(self) -> None:
        if self.changes:
            self._moves.txn.cursor(self._moves.tables.change).putmulti(self.changes, append=True)
        self._gathered = 0
        self.changes.clear()

    def flush(self) -> None:
        """Write what the group's Txns left of each key, and the changes."""
        if self._noted is not None:
            self._noted_bytes = self._gathered
        self._append_changes()
        txn, table, pack = self._moves.txn, self._moves.tables.state, STATE_HEAD.pack
        rows = []
        for row_key, (value, version, updated_ms) in sorted(self._landed.items()):
            if value is None:
                txn.delete(row_key, b"", table)
            else:
                rows.append((row_key, pack(version, updated_ms) + value))
        if rows:
            txn.cursor(table).putmulti(rows)

    def committed(self) -> None:
        """The group is durable."""
        if self._landed and self._noted is not None:
            version = self._moves.catalog.counters.version
            self.recent.add(self._begun, version, self._noted, self._noted_bytes)

    def drop(self) -> None:
        """The Txn was refused."""
        self.written.clear()
