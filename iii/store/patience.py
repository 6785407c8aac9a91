"""Committing to a store that cannot take it yet: again and again, with longer and longer waits.

Owns the waits, and which errors may pass. Whether it waits for those is the caller's decision.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from iii.errors import IIIError, InputError, Refusal, StoreClosed, StoreDamaged, StoreError, StoreFull
from iii.model import Committed

__all__ = ["Sleep", "may_land", "patiently"]

WAITS_MS = (50, 100, 250, 500, 1_000, 2_000, 5_000)

Sleep: TypeAlias = Callable[[int], Awaitable[None]]


def may_land(error: IIIError) -> bool:
    """Whether the same Txn may land later: a full store, a commit that failed as a whole."""
    hopeless = Refusal | StoreClosed | StoreDamaged | InputError
    return isinstance(error, StoreFull) or not isinstance(error, hopeless)


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
