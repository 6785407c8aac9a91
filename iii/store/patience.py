"""Committing to a store that cannot take it yet: again and again, with longer and longer waits.

Owns the waits. Which refusals are worth waiting for is the caller's decision.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from iii.errors import IIIError, StoreError
from iii.model import Committed

__all__ = ["Sleep", "patiently"]

WAITS_MS = (50, 100, 250, 500, 1_000, 2_000, 5_000)

Sleep: TypeAlias = Callable[[int], Awaitable[None]]


async def patiently(
    commit: Callable[[], Awaitable[Committed]],
    sleep: Sleep,
    passes: Callable[[IIIError], bool],
    error: IIIError | None = None,
) -> Committed:
    """Commit until it lands; an error that does not pass is raised. `error`: what a first try met."""
    waits_ms = itertools.chain(WAITS_MS, itertools.repeat(WAITS_MS[-1]))
    while True:
        if error is not None:
            if not passes(error):
                raise error
            await sleep(next(waits_ms))
        try:
            return await commit()
        except StoreError as again:
            error = again
