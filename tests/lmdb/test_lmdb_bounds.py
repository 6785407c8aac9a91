"""What has no bound of its own stops at the levels of the map: nothing is lost, what is there is settled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worker import take_now

from iii.errors import StoreFull
from iii.model import ARCHIVE, Ack, DeadLetter, Delete, Enqueue, Lane, LanePolicy, Mark, Op, Put, Txn, Unique
from iii.store.lmdb import LmdbStore

JOBS = Lane("jobs", "Work")
MAP = 4 << 20
CENTURY_MS = 100 * 365 * 24 * 3600 * 1000
DEAD = DeadLetter("jobs", "Work", "it broke", 1, 5, 0)

FILLS: dict[str, Callable[[int], Op]] = {
    "unique keys": lambda n: Enqueue("jobs", b"", unique=Unique(str(n), CENTURY_MS)),
    "messages of a topic without a step": lambda n: Enqueue("nobody", bytes(1_000)),
    "dead letters": lambda n: Enqueue("jobs.failed", bytes(1_000), step=ARCHIVE, dead=DEAD),
    "state": lambda n: Put("ns", str(n), bytes(1_000)),
    "marks": lambda n: Mark(f"trigger/Step{n}/0", 1, None),
}


async def fill(store: LmdbStore, op: Callable[[int], Op]) -> None:
    """100 a commit, with new work beside them, until that is refused."""
    for n in range(0, 1_000_000, 100):
        await store.commit(Txn([*(op(each) for each in range(n, n + 100)), Enqueue("jobs", b"work")]))


@pytest.mark.parametrize("kind", FILLS)
async def test_what_fills_the_map_stops_at_new_work(tmp_path: Path, kind: str) -> None:
    store = LmdbStore(tmp_path / "data", map_bytes=MAP)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Put("ns", "mine", b"1")]))
    with pytest.raises(StoreFull):
        await fill(store, FILLS[kind])
    held = sum(lane.ready for lane in store.stats()) + len(store.scan("ns")) + len(store.marks(""))
    messages = await take_now(store, {JOBS: 10})
    await store.commit(Txn([Ack(message.lease) for message in messages]))
    await store.commit(Txn([Delete("ns", "mine")]))
    left = sum(lane.ready for lane in store.stats()) + len(store.scan("ns")) + len(store.marks(""))
    assert messages and left == held - len(messages) - 1, "nothing else went to make room"
    assert store.verify() == []
    await store.close()
