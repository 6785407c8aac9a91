"""A group that fails leaves nothing: neither in the file nor in what the writer keeps in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iii.clock import FakeClock
from iii.errors import StoreError
from iii.model import Enqueue, Put, Txn
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.apply import Applier


async def test_what_a_txn_had_written_when_its_group_failed_does_not_land_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = Applier._enqueue

    def failing(self: Applier, op: Enqueue) -> Any:
        if op.payload == b"fails":
            raise MemoryError
        return enqueue(self, op)

    monkeypatch.setattr(Applier, "_enqueue", failing)
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await store.open()
    with pytest.raises(StoreError, match="wrote nothing"):
        await store.commit(Txn([Put("n", "lost", b"1"), Enqueue("t", b"fails")]))
    await store.commit(Txn([Put("n", "kept", b"1")]))
    assert [change.key for change in await store.changes(0, 10, 0)] == ["kept"]
    assert store.get("n", "lost") is None and store.verify() == []
    await store.close()
