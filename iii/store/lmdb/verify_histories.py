"""What verify.py says of the histories: each row has a number that was given and is counted in its place.

A row that was counted and is gone is no fault: a process of an earlier version takes rows away without a
word, and the next group that keeps one sees to it. Neither is one newer than what is counted.
"""

from __future__ import annotations

from iii.store.lmdb.keys import HELD, u32, u64
from iii.store.lmdb.snapshot import Rows
from iii.store.quotas import KINDS, PARTS, Kind, Place, place_of

__all__ = ["HistoryCounts"]


class HistoryCounts:
    """What `counter` says of them."""

    def __init__(self) -> None:
        self._held: dict[Place, tuple[int, int]] = {}
        self._listed: dict[Place, tuple[int, int]] = {}
        self._places: dict[tuple[int, int], tuple[Place, int]] = {}  # by first part and number
        self._up_to: dict[int, int] = {}

    def read(self, key: bytes, value: bytes) -> None:
        """A row "h", "i" or "j"."""
        part = key[1]
        if key[:1] == b"h":
            self._held[Place(part, key[2:].decode())] = HELD.unpack(value)
        elif key[:1] == b"i":
            place, number, size = (
                Place(part, key[2:-9].decode()),
                u64.unpack(key[-8:])[0],
                u32.unpack(value)[0],
            )
            rows, total = self._listed.get(place, (0, 0))
            self._listed[place] = rows + 1, total + size
            self._places[part & ~1, number] = place, size
        else:
            self._up_to[part] = u64.unpack(value)[0]

    def check(self, rows: Rows, newest: dict[Kind, int]) -> None:
        for kind in KINDS:
            self._check_rows(rows, kind, newest[kind])
        for place in self._held.keys() | self._listed.keys():
            held, listed = self._held.get(place, (0, 0)), self._listed.get(place, (0, 0))
            if held != listed:
                rows.say(f"{place} counts {held}, listed are {listed}")

    def _check_rows(self, rows: Rows, kind: Kind, newest: int) -> None:
        first_part = PARTS[kind][0]
        up_to = self._up_to.get(first_part, 0)
        for number, content in rows.of(kind, lambda key, value: (int(u64.unpack(key)[0]), value)):
            if number > newest:
                rows.say(f"{kind}: record {number} is newer than the newest number {newest}")
            listed = self._places.get((first_part, number))
            if listed is None:
                if number <= up_to:
                    rows.say(f"{kind}: record {number} is counted nowhere")
            elif listed != (place_of(kind, content), len(content)):
                rows.say(f"{kind}: record {number} is counted as {listed}")
