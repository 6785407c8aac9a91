"""The parked claim as the writer sees it: what is left of its demand, group by group.

A claim may stand on after its answer, for the lanes it says: so each group can grant at once what it
enqueues, while the next claim is on its way. That one says which commit's grants its sender had seen; what
was granted after that counts against its demand. So there is never more on its way than was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from iii.model import Lane, Message
from iii.store.lmdb.group import Claim

__all__ = ["Parked"]

Counts: TypeAlias = "Counter[Lane]"


class Parked(Struct):
    """`claim`: None where nobody waits. `left`: how much more of each lane it may be granted."""

    claim: Claim | None = None
    left: dict[Lane, int] = {}
    _unseen: tuple[tuple[int, Counts], ...] = ()  # (commit, what it granted) since `seen` of the last claim

    def park(self, claim: Claim) -> None:
        """In place of the one before."""
        self._unseen = tuple(each for each in self._unseen if each[0] > claim.seen)
        left = dict(claim.demand)
        for _, counts in self._unseen:
            for lane in left.keys() & counts.keys():
                left[lane] -= counts[lane]
        self.claim, self.left = claim, left

    def granted(self, commit: int, messages: Sequence[Message], *, alone: bool = True) -> None:
        """`messages` answer the claim; it stands on where there is something left to stand for.

        alone: no other instance works here. Where one does, what a claim did not get is for whoever is idle.
        """
        assert self.claim is not None
        counts = Counter(Lane(message.topic, message.step) for message in messages)
        self._unseen = (*self._unseen, (commit, counts))
        self.left = {
            lane: count - counts[lane]
            for lane, count in self.left.items()
            if alone and lane in self.claim.standing and count > counts[lane]
        }
        if not self.left:
            self.claim = None

    def end(self) -> None:
        """Nobody waits any more."""
        self.claim, self.left = None, {}
