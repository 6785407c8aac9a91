"""The state ops of a Txn: values, versions, change rows and marks, inside the open write transaction.

A Txn makes one change per key whatever it did on the way there: its writes wait until its last op has passed.
"""

from __future__ import annotations

from iii.errors import Conflict, TooLarge
from iii.formats import merge
from iii.model import Delete, Mark, Merge, Put
from iii.store.contract import Limits
from iii.store.lmdb.keys import STATE_HEAD, state_key, u64
from iii.store.lmdb.moves import Moves
from iii.store.lmdb.rows import ChangeRow, encode


class Written:
    """A key this Txn touched: what was there before it, at which version, and what is there now."""

    __slots__ = ("now", "old", "version")

    def __init__(self, old: bytes | None, version: int) -> None:
        self.old = self.now = old
        self.version = version


class StateWrites:
    def __init__(self, moves: Moves, limits: Limits) -> None:
        self._moves, self._limits = moves, limits
        self._written: dict[tuple[str, str], Written] = {}
        self.changes: list[tuple[bytes, bytes]] = []  # rows of the group, to be appended before its commit

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
        written = self._written.get((namespace, key))
        if written is None:
            moves = self._moves
            raw = moves.txn.get(state_key(namespace, key), db=moves.tables.state)
            if raw is None:
                written = Written(None, 0)
            else:
                written = Written(raw[STATE_HEAD.size :], STATE_HEAD.unpack_from(raw)[0])
            self._written[namespace, key] = written
        return written

    def mark(self, op: Mark) -> None:
        moves, key = self._moves, op.name.encode()
        raw = moves.txn.get(key, db=moves.tables.mark)
        found = u64.unpack(raw)[0] if raw else None
        if found != op.expected:
            raise Conflict(f"mark {op.name} is {found}, expected {op.expected}")
        if found != op.value:
            moves.put(moves.tables.mark, key, u64.pack(op.value))

    def land(self, headers: dict[str, str]) -> None:
        """The Txn has passed: one version and one change row per key that differs now."""
        if not self._written:
            return
        moves = self._moves
        txn, catalog, table = moves.txn, moves.catalog, moves.tables.state
        for (namespace, key), written in self._written.items():
            old, new = written.old, written.now
            if old == new:
                continue
            moves.wrote = True
            catalog.counters.version = version = catalog.counters.version + 1
            row_key = state_key(namespace, key)
            if new is None:
                txn.delete(row_key, db=table)
                catalog.count_key(txn, namespace, -1)
            else:
                txn.put(row_key, STATE_HEAD.pack(version, moves.wall_ms) + new, db=table)
                if old is None:
                    catalog.count_key(txn, namespace, 1)
            if namespace[0] != "$":
                change = ChangeRow(namespace, key, old, new, headers)
                self.changes.append((u64.pack(version), encode(change)))
        self._written.clear()

    def drop(self) -> None:
        """The Txn was refused."""
        self._written.clear()
