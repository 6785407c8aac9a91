"""The changes this process committed last, for who follows them here: they need no reading and no decoding.

    writer   `add` a group once it is durable; nothing where nobody follows
    loop     `since`: the changes above a version, or None where only the log can tell

Kept is a run of this process's own groups with no version of anybody else's in between: versions are given
one by one, so a group goes on with the run exactly if it begins where the last one ended. While the store's
version is the run's end, the run is all that came after the run's beginning. The log may hold less of it,
where what was read had to give way; the run is no longer than `changes_max` versions.

The loop reads one tuple, which the writer alone replaces: no lock. What was read before goes with the next
group; where BYTES_MAX have gathered nobody seems to follow, and nothing is kept until somebody asks again.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from msgspec import Struct

from iii.model import Change

__all__ = ["BYTES_MAX", "CHANGE_BYTES", "Recent"]

BYTES_MAX = 1 << 20
CHANGE_BYTES = 512
"""What a change, or a group, counts beside what it holds."""

_version = attrgetter("version")


class _Group(Struct, frozen=True):
    """What lies above version `begin`, up to and with `end`."""

    begin: int
    end: int
    changes: list[Change]
    size: int


class Recent:
    """`changes_max`: as in Limits. A change handed out is shared by all who read it."""

    def __init__(self, changes_max: int) -> None:
        self.followed = False  # set by the loop, cleared by the writer; without it the run is empty
        self._changes_max = changes_max
        self._run: tuple[_Group, ...] = ()
        self._read_to = 0  # who asked last has the changes up to it

    def __len__(self) -> int:
        """How many changes are kept."""
        return sum(len(group.changes) for group in self._run)

    def since(self, after: int, version: int, limit: int) -> list[Change] | None:
        """Up to `limit` changes above `after` of a store that is at `version` now; None: read the log."""
        self.followed, self._read_to = True, after
        if version <= after:
            return []
        run = self._run
        if not run or run[-1].end != version or run[0].begin > after:
            return None
        found: list[Change] = []
        for group in run:
            if group.end > after:
                found += group.changes[bisect_right(group.changes, after, key=_version) :]
        return found[:limit]

    def add(self, begin: int, end: int, changes: list[Change], size: int) -> None:
        """A group that brought the store from version `begin` to `end` is durable. `size`: of its changes."""
        run = self._run
        if run and run[-1].end != begin:
            run = ()
        added = _Group(begin, end, changes, size + CHANGE_BYTES * (1 + len(changes)))
        least = end - self._changes_max
        run = tuple(group for group in (*run, added) if group.end > self._read_to and group.begin >= least)
        if sum(group.size for group in run) > BYTES_MAX:
            run, self.followed = (), False
        self._run = run
