"""`fsync`: what the disk takes for the smallest durable write."""

from __future__ import annotations

from bench.limits import fsync_us
from bench.settings import Result, Round


def measure(round: Round) -> Result:
    return fsync_us(round.folder, rounds=round.settings.size(1000, 200))
