"""How long a process bears with others that stand still, in its own heartbeats."""

from __future__ import annotations

from msgspec import Struct

from iii.store.lmdb.holder import LOCK_BEATS
from iii.store.lmdb.liveness import STALE_BEATS, beats

__all__ = ["Patience"]


class Patience(Struct, frozen=True):
    """`lock_beats`: with one that keeps the write lock. `stale_beats`: with one that keeps messages."""

    lock_beats: int = LOCK_BEATS
    stale_beats: int = STALE_BEATS

    @classmethod
    def of(cls, lock_after_ms: int, stale_after_ms: int) -> Patience:
        return cls(beats(lock_after_ms), beats(stale_after_ms))
