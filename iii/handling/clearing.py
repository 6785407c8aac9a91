"""What an attempt has cleared and not committed: a mark over the keys that were there, which stay until then.

    at the call         what lies under the mark is gone for the handler; what others write later is not
    the attempt fails   the mark is dropped and everything stays; the handler's own earlier writes stand again
    it is committed     a Delete for each of those keys, in the Txn of the outcome as far as that has room;
                        those before them in chunks, just before it (Draft.ahead)

A mark costs nothing per key. What a Delete takes of a Txn is counted with the old value, which goes into the
change log. Owns no buffer and commits nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from iii.handling.writes import Key, Replaced, Write
from iii.model import Delete, Entry
from iii.store.contract import Store

__all__ = [
    "CHUNK",
    "CHUNK_BYTES",
    "SCAN_PAGE",
    "Cleared",
    "Clears",
    "Sized",
    "all_but_last",
    "chunks",
    "doomed",
]

Sized: TypeAlias = tuple[Delete, int]
"""A Delete, and the bytes that it takes."""

CHUNK = 1_000
CHUNK_BYTES = 4 << 20
SCAN_PAGE = 256
UNCOUNTED = 1 << 40


class Cleared(Struct, eq=False):
    """One `clear`. version: the newest change at the call; hidden: the handler's own writes from before."""

    namespace: str
    prefix: str
    version: int
    hidden: dict[Key, Write]

    def covers(self, at: Key) -> bool:
        return at[0] == self.namespace and at[1].startswith(self.prefix)

    def hides(self, entry: Entry) -> bool:
        return entry.version <= self.version and self.covers((entry.namespace, entry.key))


class Clears:
    """All of one attempt. `ops`, `size`: of the Deletes that they come to, at most."""

    __slots__ = ("_all", "ops", "size")

    def __init__(self) -> None:
        self._all: tuple[Cleared, ...] = ()
        self.ops = self.size = 0

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def namespaces(self) -> set[str]:
        return {cleared.namespace for cleared in self._all}

    def hides(self, entry: Entry) -> bool:
        return any(cleared.hides(entry) for cleared in self._all)

    def shown(self, entry: Entry | None) -> Entry | None:
        """What is there for the handler, where `entry` is committed."""
        return None if entry is None or self.hides(entry) else entry

    def add(self, cleared: Cleared, store: Store) -> Iterator[int]:
        """Lay it over the rest; how many committed keys it takes from the handler's view, part by part."""
        earlier = self._all
        own = set(cleared.hidden)
        beneath = [each for each in earlier if cleared.covers((each.namespace, each.prefix))]
        for each in reversed(beneath):
            cleared.hidden = each.hidden | cleared.hidden
        self._all = (*(each for each in earlier if each not in beneath), cleared)
        self.ops += UNCOUNTED  # until all are: whoever gives up in between has cleared them all the same
        for page in _pages(store, cleared.namespace, cleared.prefix):
            taken = 0
            for entry in page:
                if not cleared.hides(entry) or any(each.hides(entry) for each in earlier):
                    continue
                self.ops += 1
                self.size += _size(entry)
                taken += (entry.namespace, entry.key) not in own
            yield taken
        self.ops -= UNCOUNTED

    def doomed(self, store: Store, left_alone: Iterable[Key]) -> Iterator[Sized]:
        """Each key that is hidden but for those, read as they are asked for."""
        for cleared in self._all:
            for op, size in doomed(store, cleared.namespace, cleared.prefix, cleared.version):
                if (op.namespace, op.key) not in left_alone:
                    yield op, size

    def if_version(self, at: Key) -> int | None:
        """What a write said of the version of this key before it was hidden."""
        for cleared in reversed(self._all):
            write = cleared.hidden.get(at)
            if isinstance(write, Replaced):
                return write.ops[0].if_version
        return None

    def conditions(self) -> dict[Key, int]:
        """`if_version` of each key that has one."""
        found = {at: self.if_version(at) for cleared in self._all for at in cleared.hidden}
        return {at: version for at, version in found.items() if version is not None}

    def hidden(self) -> dict[Key, Write]:
        """The writes that stand again where nothing is cleared after all."""
        found: dict[Key, Write] = {}
        for cleared in self._all:
            found |= cleared.hidden
        return found


def doomed(store: Store, namespace: str, prefix: str, version: int) -> Iterator[Sized]:
    """The keys that were not written after `version`: a producer that goes on writing is not waited for."""
    for page in _pages(store, namespace, prefix):
        yield from ((Delete(namespace, each.key), _size(each)) for each in page if each.version <= version)


def chunks(deletes: Iterable[Sized], ops_max: int = CHUNK) -> Iterator[list[Delete]]:
    """In Txns of bounded size."""
    chunk: list[Delete] = []
    left = CHUNK_BYTES
    for op, size in deletes:
        chunk.append(op)
        left -= size
        if len(chunk) == ops_max or left <= 0:
            yield chunk
            chunk, left = [], CHUNK_BYTES
    if chunk:
        yield chunk


def all_but_last(deletes: Iterable[Sized], ops: int, size: int) -> Iterator[Sized]:
    """`deletes` without the last `ops` of them, or as many as have `size` bytes."""
    last: deque[Sized] = deque()
    for each in deletes:
        last.append(each)
        size -= each[1]
        while len(last) > ops or (size < 0 and last):
            size += last[0][1]
            yield last.popleft()


def _size(entry: Entry) -> int:
    return len(entry.namespace.encode()) + len(entry.key.encode()) + len(entry.value)


def _pages(store: Store, namespace: str, prefix: str) -> Iterator[list[Entry]]:
    after = ""
    while True:
        page = store.scan(namespace, prefix=prefix, after=after, limit=SCAN_PAGE)
        yield page
        if len(page) < SCAN_PAGE:
            return
        after = page[-1].key
