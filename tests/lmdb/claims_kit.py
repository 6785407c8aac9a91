"""A parked claim without a store: messages, and groups that grant them."""

from __future__ import annotations

from collections.abc import Mapping

from iii.model import Lane, Lease, Message
from iii.store.lmdb.parked import Parked

A, B = Lane("t", "A"), Lane("t", "B")


def message(lane: Lane, commit: int) -> Message:
    return Message(Lease(1, 1, commit), *lane, b"", 128, 1, 0, None, {}, 0, None, None)


def grant(parked: Parked, commit: int, wanted: Mapping[Lane, int]) -> list[Message]:
    """What the group `commit` grants where so many messages of each lane are ready."""
    left = parked.left if parked.claim is not None else {}
    granted = [
        message(lane, commit) for lane, count in wanted.items() for _ in range(min(count, left.get(lane, 0)))
    ]
    if granted:
        parked.granted(commit, granted)
    return granted
