"""What goes by itself, on the system's clock: the writer wakes for what its own last group left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deadline import DEADLINE_S, LOOK_AGAIN_S

from iii.model import Enqueue, LanePolicy, Op, Record, Txn
from iii.store.contract import Limits, Store
from iii.store.lmdb import LmdbStore


async def _goes(store: Store, op: Op) -> None:
    """Commit `op` alone; what it leaves goes although nothing else is committed."""
    await store.commit(Txn((op,)))
    async with asyncio.timeout(DEADLINE_S):
        while store.records("run") or store.unsettled():
            await asyncio.sleep(LOOK_AGAIN_S)


async def test_a_run_record_goes_when_it_is_old_enough(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, limits=Limits(runs_age_ms_max=64))
    await store.open()
    await _goes(store, Record("run", b"{}"))
    await store.close()


async def test_a_message_that_nobody_subscribes_to_goes_when_it_is_old_enough(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    await store.open()
    await store.open_session([LanePolicy("t", "", retention_ms=50)])
    await _goes(store, Enqueue("t", b"x"))
    await store.close()
