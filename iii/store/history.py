"""What the change log still holds of one key. Knows no HTTP and no terminal."""

from __future__ import annotations

import asyncio

from iii.model import Change
from iii.store.contract import Store

__all__ = ["history_of"]

PAGE = 200
SCAN_MAX = 20_000


async def history_of(store: Store, namespace: str, key: str, limit: int) -> list[Change]:
    """Its changes, the newest first, out of the newest SCAN_MAX versions."""
    found: list[Change] = []
    after = max(0, store.version() - SCAN_MAX)
    while page := await store.changes(after, PAGE, 0):
        found += [change for change in page if (change.namespace, change.key) == (namespace, key)]
        after = page[-1].version
        await asyncio.sleep(0)
    return found[: -limit - 1 : -1]
