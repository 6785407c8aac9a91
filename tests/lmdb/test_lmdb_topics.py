"""Topics without a step: what a refused one costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from iii.errors import QueueFull
from iii.model import Discard, Enqueue, Txn
from iii.store.contract import Limits
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.catalog import LaneEntry


async def test_16_refusal_upon_refusal_does_not_count_all_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbStore(tmp_path / "data", limits=Limits(topics_max=50), map_bytes=1 << 28)
    await store.open()
    await store.commit(Txn([Enqueue(f"topic-{number}", b"x") for number in range(50)]))
    counts, looks = LaneEntry.counts, [0]

    def counted(lane: LaneEntry) -> tuple[int, int, int, int, int, int, int]:
        looks[0] += 1
        return counts(lane)

    monkeypatch.setattr(LaneEntry, "counts", counted)
    for number in range(20):
        with pytest.raises(QueueFull):
            await store.commit(Txn([Enqueue(f"other-{number}", b"x")]))
    assert looks[0] <= 50, "once each"
    await store.commit(Txn([Discard("topic-7", "", "ready", 128, 8)]))
    await store.commit(Txn([Enqueue("other", b"x")]))
    assert looks[0] < 70, "and then those that changed"
    assert store.verify() == []
    await store.close()
