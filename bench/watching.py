"""A store seen from outside, while engines work on it: exact counts by lane, and values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.settings import WrongResult
from iii.model import Lane, LaneStats
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore

LOOK_S = 0.01
STUCK_S = 60.0


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[LmdbStore]:
    """Opened as commands open it: without a session, claiming nothing."""
    store = LmdbStore(folder)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until_done(
    store: Store, expected: Mapping[Lane, int], look: Callable[[], object] = lambda: None
) -> None:
    """Wait until each lane has settled so many messages; WrongResult when nothing moves any more."""
    moved_at, last = time.monotonic(), -1
    while True:
        done = {Lane(row.topic, row.step): row.done for row in store.stats()}
        if all(done.get(lane, 0) >= count for lane, count in expected.items()):
            return
        look()
        if (total := sum(done.values())) != last:
            moved_at, last = time.monotonic(), total
        elif time.monotonic() - moved_at > STUCK_S:
            raise WrongResult(f"nothing moved for {STUCK_S:.0f} s: expected {dict(expected)}, done {done}")
        await asyncio.sleep(LOOK_S)


def wait_until_done(folder: Path, expected: Mapping[Lane, int]) -> None:
    """`until_done` on a store that engines work on."""

    async def look() -> None:
        async with watching(folder) as store:
            await until_done(store, expected)

    asyncio.run(look())


def require_settled(store: LmdbStore, expected: Mapping[Lane, int]) -> None:
    """Exactly so many done in each lane, and nothing else anywhere in it."""
    rows = {Lane(row.topic, row.step): row for row in store.stats()}
    for lane, count in expected.items():
        row = rows.get(lane)
        if row is None or row.done != count or row.failed or _held(row):
            raise WrongResult(f"{count} messages were to be done in {lane}, nothing else left: {row}")


def _held(row: LaneStats) -> int:
    return row.ready + row.later + row.behind + row.leased + row.dead


def check_settled(folder: Path, expected: Mapping[Lane, int]) -> None:
    """`require_settled` on a store that no engine has open any more, whose invariants are recounted too."""

    async def look() -> None:
        async with watching(folder) as store:
            require_settled(store, expected)
            if broken := store.verify():
                raise WrongResult(f"the store is not whole: {broken[:5]}")

    asyncio.run(look())


def values(store: LmdbStore, namespace: str) -> dict[str, Any]:
    """All of a namespace."""
    found: dict[str, Any] = {}
    while page := store.scan(namespace, after=next(reversed(found), "")):
        found |= {entry.key: orjson.loads(entry.value) for entry in page}
    return found
