"""The rows of every table in one snapshot, decoded for verify.py. What cannot be decoded is a finding."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import lmdb
import msgspec

from iii.store.lmdb.environment import Tables
from iii.store.lmdb.keys import BEHIND, BEHIND_HEAD, LATER, LEASE, LEASE_HEAD, READY
from iii.store.lmdb.rows import Row, decode_row

__all__ = ["Found", "Rows"]

FINDINGS_MAX = 1_000

T = TypeVar("T")


class Found(NamedTuple):
    """A message where it lies. `rank` if ready, `hashed` group if behind, session and token if leased."""

    table: str
    lane: int
    id: int
    row: Row
    rank: int = 0
    hashed: bytes = b""
    session: int = 0
    token: int = 0


class Rows:
    def __init__(self, txn: lmdb.Transaction[bytes], tables: Tables) -> None:
        self.txn, self.tables = txn, tables
        self._findings: dict[str, None] = {}

    @property
    def findings(self) -> list[str]:
        return list(self._findings)

    def say(self, finding: str) -> None:
        """Once, whoever finds it how often."""
        more = len(self._findings) >= FINDINGS_MAX
        self._findings["and more: only the first are told" if more else finding] = None

    def of(self, table: str, decode: Callable[[bytes, bytes], T]) -> Iterator[T]:
        """What `decode` makes of each row's key and value."""
        for key, value in self.txn.cursor(getattr(self.tables, table)):
            try:
                content = decode(key, value)
            except (msgspec.DecodeError, struct.error, ValueError, IndexError) as error:
                self.say(f"{table}: the row {key.hex()} cannot be read ({error})")
                continue
            yield content

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.txn.get(key, db=getattr(self.tables, table))

    def messages(self) -> Iterator[Found]:
        """Every message, table by table; one that lies in two comes twice."""
        yield from self.of("ready", _ready)
        yield from self.of("later", _later)
        yield from self.of("behind", _behind)
        yield from self.of("lease", _leased)


def _ready(key: bytes, record: bytes) -> Found:
    number, rank, id = READY.unpack(key)
    return Found("ready", number, id, decode_row(record), rank)


def _later(key: bytes, value: bytes) -> Found:
    _, id, number = LATER.unpack(key)
    return Found("later", number, id, decode_row(value[1:]))


def _behind(key: bytes, value: bytes) -> Found:
    number, hashed, id = BEHIND.unpack(key)
    return Found("behind", number, id, decode_row(value[BEHIND_HEAD.size :]), hashed=hashed)


def _leased(key: bytes, value: bytes) -> Found:
    session, id = LEASE.unpack(key)
    token, number, _ = LEASE_HEAD.unpack_from(value)
    return Found("lease", number, id, decode_row(value[LEASE_HEAD.size :]), session=session, token=token)
