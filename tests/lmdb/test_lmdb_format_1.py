"""A store that the first release wrote opens in every later one, whole, and what waits in it runs."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import msgspec
import pytest

from iii import Engine
from iii.clock import FakeClock
from iii.model import Enqueue, Txn
from iii.store import bulk
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.keys import COUNTERS, FORMAT, LANE_COUNTS, TABLES
from iii.store.lmdb.machine import Anchor

V1 = Path(__file__).parent / "v1"
COUNTS = json.loads((V1 / "counts.json").read_text())
LEASED_AND_BEHIND = {"w0", "w1", "w2", "w3", "w4"}
PAUSED = {"p0", "p1", "p2", "p3", "p4"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project that wrote the store, with its store; the working folder."""
    shutil.copytree(V1, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", "data.mdb"))
    (tmp_path / "project/data").mkdir(mode=0o700)
    shutil.copy(V1 / "data.mdb", tmp_path / "project/data")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@contextmanager
def _file() -> Iterator[tuple[lmdb.Environment, lmdb.Transaction[bytes]]]:
    file = str(V1 / "data.mdb")
    with (
        lmdb.open(file, subdir=False, max_dbs=len(TABLES), readonly=True, lock=False) as env,
        env.begin() as txn,
    ):
        yield env, txn


def _that_day() -> FakeClock:
    """A minute after the file was made: what waits in it for an hour or a day goes on waiting."""
    with _file() as (env, txn):
        raw = txn.get(b"clock", db=env.open_db(b"meta", txn=txn))
    made = msgspec.msgpack.decode(raw, type=Anchor)
    return FakeClock(made.last_wall_ms + 60_000, made.last_delay_ms + 60_000)


def test_the_file_of_format_1_has_rows_in_every_table() -> None:
    """Or it would show nothing of a table that is read wrongly."""
    with _file() as (env, txn):
        rows = {name: txn.stat(env.open_db(name.encode(), txn=txn))["entries"] for name in TABLES}
    assert [name for name, count in rows.items() if not count] == []


async def test_a_store_of_format_1_opens_whole(project: Path) -> None:
    store = LmdbStore(project / "data", map_bytes=64 << 20, clock=_that_day())
    await store.open()
    try:
        assert store.verify() == []
        counts = {
            f"{row.topic}/{row.step}": [row.ready, row.later, row.behind, row.leased, row.dead]
            for row in store.stats()
        }
        assert counts == COUNTS
        assert {entry.key for entry in store.scan("orders")} == {"o1", "o2", "o3", "o4"}
        assert await store.changes(0, 100, 0)
        assert store.marks("trigger/")
        assert store.marks("cron/")
    finally:
        await store.close()


async def test_what_waits_in_a_store_of_format_1_runs(project: Path) -> None:
    (project / "gate").touch()
    async with Engine.from_config("iii-config.yaml", clock=_that_day()) as engine:
        store = engine.store
        await _until(lambda: _done(store) >= LEASED_AND_BEHIND)
        await bulk.set_paused(store, "paused", False)
        assert await engine.redrive("frail") == 1
        await _until(lambda: _done(store) >= LEASED_AND_BEHIND | PAUSED | {"d1"})
        stats = {f"{row.topic}/{row.step}": row for row in store.stats()}
        assert stats["work/Work"].later == COUNTS["work/Work"][1]
        assert stats["frail/Work"].dead == 0
        assert stats["nobody/"].ready == COUNTS["nobody/"][0]
        assert store.verify() == []


async def test_messages_of_a_store_of_format_1_keep_their_ids_and_new_ones_name_an_epoch(
    project: Path,
) -> None:
    store = LmdbStore(project / "data", map_bytes=64 << 20)
    await store.open()
    try:
        old = [each for row in store.stats() for each in store.waiting(row.topic, step=row.step, limit=1_000)]
        assert old and all(store.message_id(each.id) == str(each.id) for each in old)
        committed = await store.commit(Txn([Enqueue("new", b"1")]))
        epoch = store.message_id(committed.ids[0][0]).split("-")[0]
        assert len(epoch) == 12 and store.number_of(f"{epoch}-{old[0].id}") is None
        assert all(store.number_of(str(each.id)) == each.id for each in old)
        assert all(store.message_id(each.id) == str(each.id) for each in old) and store.verify() == []
    finally:
        await store.close()


def _done(store: Store) -> set[str]:
    return {entry.key for entry in store.scan("done")}


async def _until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.01)


def test_rows_that_every_version_of_format_1_writes_never_grow() -> None:
    """An older process of the same format writes them too: what it does not know, it would cut off."""
    assert FORMAT == 1
    assert (COUNTERS.size, LANE_COUNTS.size, len(TABLES)) == (64, 56, 17)
