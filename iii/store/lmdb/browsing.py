"""Messages as people look at them: a page of a lane at a time, one by its id, the head of a group.

Each page is a read transaction of its own, and short: whoever looks holds up nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from iii.model import MessageState, Page, Waiting
from iii.store.lmdb.keys import (
    BEHIND,
    BEHIND_HEAD,
    GROUP,
    LATER,
    LEASE,
    LEASE_HEAD,
    READY,
    hash16,
    u32,
    u64,
)
from iii.store.lmdb.reads import Reads, Txn, under
from iii.store.lmdb.rows import LaneRow

__all__ = ["Browsing"]

PAGE_BYTES_MAX = 1 << 20


class Browsing(Reads):
    """The store's looking half."""

    def browse(
        self, topic: str, step: str, state: MessageState, *, after: bytes = b"", limit: int = 256
    ) -> Page:
        found: list[tuple[bytes, Waiting]] = []
        looked_at = size = 0
        with self._read() as txn:
            number, lane = self._lane(txn, topic, step)
            if lane is None:
                return Page([], 0, None)
            table = getattr(self._tables, "lease" if state == "leased" else state)
            prefix = u32.pack(number) if state in ("ready", "behind") else b""
            for key, value in under(txn, table, prefix, after + b"\0" if after else b""):
                if looked_at == limit or size > PAGE_BYTES_MAX:
                    return Page(found, looked_at, after)
                looked_at, after = looked_at + 1, key
                message = self._at(txn, state, {number: lane}, key, value)
                if message is not None:
                    found.append((key, message))
                    size += len(message.payload)
        return Page(found, looked_at, None)

    def find(self, id: int, *, after: bytes = b"", limit: int = 4096) -> tuple[Waiting | None, bytes | None]:
        with self._read() as txn:
            lanes = dict(self._lanes(txn))
            if not after:
                quick = self._leased_with(txn, id, lanes) or self._ready_with(txn, id, lanes)
                if quick is not None:
                    return quick, None
            for state, key, value in self._slow_rows(txn, after or b"l"):
                if limit == 0:
                    return None, after
                limit, after = limit - 1, state[:1].encode() + key
                if (LATER.unpack(key)[1] if state == "later" else BEHIND.unpack(key)[2]) == id:
                    return self._at(txn, state, lanes, key, value), None
        return None, None

    def head(self, topic: str, step: str, group: str) -> int | None:
        with self._read() as txn:
            number, lane = self._lane(txn, topic, step)
            raw = txn.get(GROUP.pack(number, hash16(group)), db=self._tables.group) if lane else None
        return None if raw is None else int(u64.unpack(raw)[0])

    def _lane(self, txn: Txn, topic: str, step: str) -> tuple[int, LaneRow | None]:
        for number, row in self._lanes(txn):
            if (row.topic, row.step) == (topic, step):
                return number, row
        return 0, None

    def _at(
        self, txn: Txn, state: MessageState, lanes: dict[int, LaneRow], key: bytes, value: bytes
    ) -> Waiting | None:
        """The message of a row; None where it is of none of these lanes."""
        due_ms: int | None = None
        session = 0
        match state:
            case "ready":
                number, rank, id = READY.unpack(key)
                priority, record = 255 - rank, value
            case "later":
                due_ms, id, number = LATER.unpack(key)
                priority, record = value[0], value[1:]
            case "behind":
                number, _, id = BEHIND.unpack(key)
                _, priority = BEHIND_HEAD.unpack_from(value)
                record = value[BEHIND_HEAD.size :]
            case _:
                session, id = LEASE.unpack(key)
                _, number, priority = LEASE_HEAD.unpack_from(value)
                record = value[LEASE_HEAD.size :]
        lane = lanes.get(number)
        if lane is None:
            return None
        return self._waiting(txn, number, lane, id, state, priority, record, due_ms, session)

    def _leased_with(self, txn: Txn, id: int, lanes: dict[int, LaneRow]) -> Waiting | None:
        for session, _ in under(txn, self._tables.session, b""):
            key = LEASE.pack(u32.unpack(session)[0], id)
            if (raw := txn.get(key, db=self._tables.lease)) is not None:
                return self._at(txn, "leased", lanes, key, raw)
        return None

    def _ready_with(self, txn: Txn, id: int, lanes: dict[int, LaneRow]) -> Waiting | None:
        """By one look at each priority that a lane has messages of."""
        cursor = txn.cursor(self._tables.ready)
        for number in lanes:
            rank = 0
            while rank < 256 and cursor.set_range(READY.pack(number, rank, id)):
                key = cursor.key()
                lane, there, at = READY.unpack(key)
                if (lane, at) == (number, id):
                    return self._at(txn, "ready", lanes, key, cursor.value())
                if lane != number:
                    break
                rank = there if there > rank and at < id else there + 1
        return None

    def _slow_rows(self, txn: Txn, after: bytes) -> Iterator[tuple[MessageState, bytes, bytes]]:
        """The rows whose keys do not lead to an id: later, then behind, from the cursor on."""
        if after[:1] == b"l":
            for key, value in under(txn, self._tables.later, b"", _next(after)):
                yield "later", key, value
            after = b"b"
        for key, value in under(txn, self._tables.behind, b"", _next(after)):
            yield "behind", key, value


def _next(after: bytes) -> bytes:
    return after[1:] + b"\0" if len(after) > 1 else b""
