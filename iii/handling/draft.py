"""A handler's effects before they are committed, and its view of the store with them laid over.

Owns the buffered ops of one attempt. Reads are fresh snapshots with the own writes on top; `if_version`,
limits and merges are checked at the call already, so that a handler can catch what is refused. Per key the
buffer holds one write: what replaces a value drops what was to happen to it before. What `clear` takes away
is clearing.py's: it lies between the store and the writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from iii.errors import BadName, Conflict, HandlerEnded, TooLarge
from iii.formats import codec
from iii.formats.merge import encode_patch, merged
from iii.handling.clearing import CHUNK, CHUNK_BYTES, SCAN_PAGE, Cleared, Clears, all_but_last, chunks
from iii.handling.writes import Key, Patched, Replaced, Write
from iii.model import Checked, Delete, Enqueue, Entry, Merge, Op, Put, Txn
from iii.store.contract import Store
from iii.store.limits import check_namespace, check_op, check_plain, check_value

__all__ = ["LIST_MAX", "Draft", "StateEntry"]

LIST_MAX = 10_000
ROOM_OPS = 16  # kept free in a Txn for the settlement and its records
ROOM_BYTES = 64 << 10


class StateEntry(Struct, frozen=True):
    """A value with its version: what `if_version` compares, 0 for a key that is not committed yet."""

    namespace: str
    key: str
    value: Any
    version: int
    updated_at: datetime | None


class Draft:
    """The buffered Txn of one attempt. `ended` is set when the attempt settles: later use raises."""

    __slots__ = (
        "_bytes", "_clears", "_enqueues", "_limits", "_ops", "_sent_bytes", "_store", "_writes", "ended",
    )  # fmt: skip

    def __init__(self, store: Store, *, ended: bool = False) -> None:
        self._store, self._limits = store, store.limits
        self._writes: dict[Key, Write] = {}
        self._clears: Clears | None = None
        self._enqueues: list[Enqueue] = []
        self._ops = self._bytes = self._sent_bytes = 0  # _sent_bytes: the enqueues' part of _bytes
        self.ended = ended

    # ------------------------------------------------------------------------------------- reading

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        value, _ = self._read(namespace, key)
        return default if value is None else codec.decode(value)

    def entry(self, namespace: str, key: str) -> StateEntry | None:
        value, entry = self._read(namespace, key)
        return None if value is None else _shown(namespace, key, value, entry)

    def entries(self, namespace: str, prefix: str, after: str, limit: int | None) -> list[StateEntry]:
        """In key order; at most `limit`, or all of them where None: TooLarge beyond LIST_MAX."""
        self.check_open()
        if limit is not None and not 0 < limit <= LIST_MAX:
            message = f"bad limit {limit}: use 1 to {LIST_MAX}, and after= for the next page"
            raise BadName(message, field="limit", given=limit)
        for what, text in (("namespace", namespace), ("prefix", prefix), ("after", after)):
            check_plain(what, text)
        own = {
            key: write
            for (space, key), write in self._writes.items()
            if space == namespace and key.startswith(prefix) and key > after
        }
        most = limit or LIST_MAX
        found = self._scan(namespace, prefix, after, most + len(own) + 1)
        rows: dict[str, Entry | None] = {entry.key: entry for entry in found}
        for key in own:  # those beyond what was found lie beyond the limit too
            rows.setdefault(key, None)
        entries: list[StateEntry] = []
        for key in sorted(rows):
            entry = rows[key]
            value = own[key].over(entry) if key in own else entry.value if entry else None
            if value is None:
                continue
            if len(entries) == most:
                if limit is None:
                    raise TooLarge(
                        f"{namespace!r} holds more than {LIST_MAX} keys: list pages, limit=1000, after=key"
                    )
                break
            entries.append(_shown(namespace, key, value, entry))
        return entries

    def namespaces(self) -> list[str]:
        self.check_open()
        counts = dict(self._store.namespaces())
        for (namespace, key), write in self._writes.items():
            entry = self._store.get(namespace, key)
            created = (write.over(entry) is not None) - (entry is not None)
            counts[namespace] = counts.get(namespace, 0) + created
        if self._clears is not None:
            for namespace in self._clears.namespaces:
                counts[namespace] = len(self.entries(namespace, "", "", 1))
        return sorted(name for name, count in counts.items() if count > 0)

    def _read(self, namespace: str, key: str) -> tuple[bytes | None, Entry | None]:
        if self.ended:
            self.check_open()
        if type(namespace) is not str or type(key) is not str:
            check_plain("namespace", namespace)
            check_plain("key", key)
        try:
            entry = self._store.get(namespace, key)
        except UnicodeEncodeError as error:
            what = "key" if error.object == key else "namespace"
            message = f"bad {what} {error.object!r:.60}: it is not valid Unicode (a lone surrogate)"
            raise BadName(message, field=what, given=error.object) from None
        if self._clears is not None:
            entry = self._clears.shown(entry)
        write = self._writes.get((namespace, key)) if self._writes else None
        if write is not None:
            return write.over(entry), entry
        return (entry.value if entry is not None else None), entry

    def _scan(self, namespace: str, prefix: str, after: str, most: int) -> list[Entry]:
        """As the store's, without what is cleared."""
        if self._clears is None:
            return self._store.scan(namespace, prefix=prefix, after=after, limit=most)
        found: list[Entry] = []
        while len(found) < most:
            page = self._store.scan(namespace, prefix=prefix, after=after, limit=SCAN_PAGE)
            found += [entry for entry in page if not self._clears.hides(entry)]
            if len(page) < SCAN_PAGE:
                break
            after = page[-1].key
        return found[:most]

    # ------------------------------------------------------------------------------------- writing

    def set(self, namespace: str, key: str, value: object, if_version: int | None) -> None:
        self.check_open()
        op = Put(namespace, key, codec.encode(value), if_version)
        self._replace(op, self._check(op))

    def delete(self, namespace: str, key: str, if_version: int | None) -> bool:
        self.check_open()
        op = Delete(namespace, key, if_version)
        size = self._check(op)
        there = self._read(namespace, key)[0] is not None
        self._replace(op, size)
        return there

    def update(self, namespace: str, key: str, patch: object) -> Any:
        self.check_open()
        encoded = codec.encode(patch) if isinstance(patch, dict) else encode_patch(_plain(patch))
        op = Merge(namespace, key, encoded)
        size = self._check(op)
        committed = self._store.get(namespace, key)
        entry = committed if self._clears is None else self._clears.shown(committed)
        write = self._writes.get((namespace, key))
        before = write.over(entry) if write is not None else entry.value if entry is not None else None
        value, view = merged(before, encoded)
        check_value(value, self._limits)
        if isinstance(write, Replaced) or entry is not committed:
            self._replace(Put(namespace, key, value), size - len(encoded) + len(value))
            return view
        self._grow(1, size)
        if write is None:
            write = self._writes[namespace, key] = Patched()
        write.add(op, size, entry, value)
        return view

    def clear(self, namespace: str, prefix: str) -> Iterator[int]:
        """Take all keys (of a prefix) away; how many the handler saw, part by part, to be read to the end.

        From the first part on they are gone for the handler, and in the store when this is committed.
        """
        self.check_open()
        self._check(Delete(namespace, "-"))
        if self._clears is None:
            self._clears = Clears()
        cleared = Cleared(namespace, prefix, self._store.version(), {})
        own = [at for at in self._writes if cleared.covers(at)]
        taken = sum(self._read(*at)[0] is not None for at in own)
        for at in own:
            write = cleared.hidden[at] = self._writes.pop(at)
            self._ops -= len(write.ops)
            self._bytes -= write.size
        yield taken
        yield from self._clears.add(cleared, self._store)

    def enqueue(self, op: Enqueue) -> None:
        """InputError or TooLarge where the commit would refuse it."""
        if self.ended:
            self.check_open()
        size = check_op(op, self._limits)
        self._grow(1, size)
        self._sent_bytes += size
        self._enqueues.append(op)

    def _replace(self, op: Put | Delete, size: int) -> None:
        """What replaces a write that has an `if_version`, and says none itself, has it too."""
        at = op.namespace, op.key
        earlier = self._writes.get(at)
        if op.if_version is not None:
            self._check_version(op.namespace, op.key, op.if_version)
        if earlier is None:
            self._grow(1, size)
        else:
            self._grow(1 - len(earlier.ops), size - earlier.size)
        if op.if_version is None:
            if type(earlier) is Replaced:
                op = _as_of(op, earlier.ops[0].if_version)
            elif self._clears is not None:
                op = _as_of(op, self._clears.if_version(at))
        self._writes[at] = Replaced(op, size)

    def _check_version(self, namespace: str, key: str, if_version: int) -> None:
        entry = self._store.get(namespace, key)
        version = entry.version if entry is not None else 0
        if version != if_version:
            found = f"is at version {version}" if entry is not None else "does not exist"
            raise Conflict(f"{namespace}/{key} {found}, if_version says {if_version}: read it again")

    def _check(self, op: Put | Merge | Delete) -> int:
        check_namespace(op.namespace)
        return check_op(op, self._limits)

    def _grow(self, ops: int, size: int) -> None:
        """Count what is buffered; TooLarge, with nothing changed, beyond what one Txn holds."""
        if self._ops + ops > self._limits.ops_max - ROOM_OPS:
            raise TooLarge(
                f"more than {self._limits.ops_max - ROOM_OPS} writes in one Txn: flush() in between"
            )
        if self._bytes + size > self._limits.txn_bytes_max - ROOM_BYTES:
            most = self._limits.txn_bytes_max - ROOM_BYTES
            raise TooLarge(
                f"{self._bytes + size} bytes buffered, at most {most} in one Txn: flush() in between"
            )
        self._ops += ops
        self._bytes += size

    # ------------------------------------------------------------------------------------- settling

    @property
    def buffered(self) -> bool:
        return bool(self._writes or self._enqueues or self._clears)

    @property
    def clears(self) -> bool:
        """Whether something is cleared."""
        return self._clears is not None

    @property
    def clears_ahead(self) -> bool:
        """Whether more is cleared than a Txn with the rest may have room for."""
        if self._clears is None:
            return False
        ops, size = self._room()
        return self._clears.ops > ops or self._clears.size > size

    @property
    def enqueued(self) -> int:
        """How many enqueues are buffered."""
        return len(self._enqueues)

    def ahead(self, chunk: int = CHUNK) -> Iterator[list[Delete]]:
        """What is to be committed ahead of `take`, chunk by chunk: all that is cleared but the last of it."""
        clears = self._clears
        if clears is None:
            return
        ops, size = self._room()
        ops, size = min(chunk, ops), min(CHUNK_BYTES, size)
        doomed = clears.doomed(self._store, {*self._writes, *clears.conditions()})
        yield from chunks(all_but_last(doomed, ops, size), chunk)
        clears.ops, clears.size = ops, size

    def take(self, *, enqueues: bool = True, clears: bool = True) -> Txn:
        """What is buffered, with or without the enqueues and what is cleared; the buffer is empty then."""
        if self._clears is not None:
            cleared, self._clears = self._clears, None
            self._writes = self._with(cleared) if clears else self._without(cleared)
            return Txn(self.take(enqueues=enqueues).ops)  # which was not counted
        ops: list[Op] = []
        size = self._bytes
        if self._writes:
            for write in self._writes.values():
                ops += write.ops
            self._writes = {}
        if self._enqueues:
            if enqueues:
                ops += self._enqueues
            else:
                size -= self._sent_bytes
            self._enqueues = []
        self._ops = self._bytes = self._sent_bytes = 0
        return Txn(ops, checked=Checked(len(ops), size))

    def _with(self, clears: Clears) -> dict[Key, Write]:
        """The writes, and a Delete for each key that is cleared."""
        conditions = clears.conditions()
        deletes = [Delete(*at, version) for at, version in conditions.items()]
        deletes += [op for op, _ in clears.doomed(self._store, {*self._writes, *conditions})]
        return {(op.namespace, op.key): Replaced(op, 0) for op in deletes} | self._writes

    def _without(self, clears: Clears) -> dict[Key, Write]:
        """The writes as if nothing had been cleared; those from before only where there is room."""
        writes = clears.hidden() | self._writes
        count = sum(len(write.ops) for write in writes.values()) + len(self._enqueues)
        return writes if count <= self._limits.ops_max - ROOM_OPS else self._writes

    def _room(self) -> tuple[int, int]:
        """How many ops and bytes may be added."""
        limits = self._limits
        return limits.ops_max - ROOM_OPS - self._ops, limits.txn_bytes_max - ROOM_BYTES - self._bytes

    def check_open(self) -> None:
        if self.ended:
            raise HandlerEnded(
                "this context's attempt has settled, nothing was written: await all work before the handler "
                "returns (a handler that timed out is settled too)"
            )


def _shown(namespace: str, key: str, value: bytes, entry: Entry | None) -> StateEntry:
    decoded = codec.decode(value)
    if entry is None:
        return StateEntry(namespace, key, decoded, 0, None)
    updated = datetime.fromtimestamp(entry.updated_ms / 1000, UTC)
    return StateEntry(namespace, key, decoded, entry.version, updated)


def _as_of(op: Put | Delete, if_version: int | None) -> Put | Delete:
    return op if if_version is None else replace(op, if_version=if_version)


def _plain(patch: object) -> object:
    """A list of ops as plain JSON; what is no list is left for encode_patch to refuse."""
    return codec.decode(codec.encode(patch)) if isinstance(patch, Sequence) else patch
