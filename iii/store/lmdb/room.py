"""Who is let in while there is little room, and in which order where a commit failed for want of it.

    used of the map, free on the disk       refused
    over 95 %, under 64 MiB                 new work: whatever settles no message
    over 98 %, under 24 MiB                 also what settlements bring along: effects, dead letters, records
    all, none                               settlements alone still land, on pages that others gave back

So what is there can be finished, and room comes back, although handlers write and enqueue as they do.
"""

from __future__ import annotations

import errno
import time
from typing import Final

import lmdb

from iii.model import Ack, Delete, Discard, Hold, Mark, Pause, Release, Retry, Return, Txn
from iii.store.contract import Limits
from iii.store.limits import check
from iii.store.lmdb.environment import TIGHT_BYTES, Environment
from iii.store.lmdb.group import OP_BYTES

__all__ = ["LEVELS", "NEW_WORK", "Room", "ShortOfRoom", "is_no_room", "rank"]

LOOK_GROUPS, LOOK_S = 32, 1.0
REQUIRE_S = 1.0
"""Between two looks at the store's files. Each lets go of the interpreter's lock, which a busy loop takes."""
LEVELS: Final = ((0.95, 64 << 20), (0.98, 24 << 20))
"""(most of the map that may be used, least of the disk that stays free): for new work, for effects."""
ROOM_PER_BYTE = 3
"""A value lies in its row and, as old and as new one, in the change log."""

SETTLEMENT, WITH_EFFECTS, NEW_WORK = range(3)

_NEUTRAL = frozenset({Ack, Retry, Release, Return, Hold, Discard, Delete, Pause, Mark})
_ENDING = frozenset({Ack, Retry, Release, Return, Discard})
_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""EIO is what LMDB says where the disk took only the first part of a write, as a full one does."""


class ShortOfRoom(Exception):
    """Something of a group would be refused, and the change log may give room: nothing of it was done."""


def rank(txn: Txn) -> int:
    """SETTLEMENT needs next to no room, WITH_EFFECTS some but a message ends, NEW_WORK is the rest."""
    kinds = {type(op) for op in txn.ops}
    if kinds <= _NEUTRAL:
        return SETTLEMENT
    return NEW_WORK if kinds.isdisjoint(_ENDING) else WITH_EFFECTS


class Room:
    """The writer thread's. While it is `tight`, `refusal` is asked for each Txn."""

    def __init__(self, environment: Environment, limits: Limits) -> None:
        self._environment, self._limits = environment, limits
        self._groups, self._looked_s, self._required_s = 0, 0.0, 0.0
        self._left: list[int] = []
        self._reasons: list[str] = []
        self.tight = False

    def before_group(self) -> None:
        """Look where it is time to. StoreDamaged where the store's files are not there any more."""
        self._groups += 1
        now_s = time.monotonic()
        if now_s >= self._required_s + REQUIRE_S:
            self._environment.presence.require()
            self._required_s = now_s
        if self.tight or now_s >= self._looked_s + LOOK_S or self._groups % LOOK_GROUPS == 0:
            self.look()

    def look(self) -> None:
        self._looked_s = time.monotonic()
        levels = [self._environment.left(*level) for level in LEVELS]
        self._left = [left for left, _ in levels]
        self._reasons = [reason for _, reason in levels]
        self.tight = self._left[0] < TIGHT_BYTES

    def refusal(self, txn: Txn) -> str | None:
        """Why this Txn is refused now; what is let in counts until the next look."""
        kind = rank(txn)
        if kind == SETTLEMENT:
            return None
        level = 0 if kind == NEW_WORK else 1
        size = ROOM_PER_BYTE * (check(txn, self._limits) + OP_BYTES * len(txn.ops))
        if size > self._left[level]:
            return self._reasons[level]
        self._left = [left - size for left in self._left]
        return None


def is_no_room(error: Exception) -> bool:
    """Whether a commit failed for want of room in the map or on the disk."""
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError | lmdb.TxnFullError):
        return True
    return isinstance(error, lmdb.Error) and getattr(error, "code", 0) in _CODES
