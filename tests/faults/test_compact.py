"""`iii compact`: a smaller file that holds the same, or nothing changed."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from damage_kit import JOBS, MAP_BYTES, NEEDLE, spoilt
from worker import take_now

from iii.cli.group import command_line
from iii.errors import StoreBusy, StoreDamaged, StoreError
from iii.model import Ack, Enqueue, LanePolicy, Mark, Put, Txn
from iii.store.lmdb import LmdbStore, environment
from iii.store.lmdb.compact import COPY, compact

BACKLOG = 1_500


async def _drained(folder: Path) -> list[object]:
    """A store that held much and holds little; what it holds."""
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(Txn([Put("ns", "kept", NEEDLE), Mark("mark", 7, None)]))
    await store.commit(Txn([Enqueue("jobs", bytes(4_000)) for _ in range(BACKLOG)]))
    messages = await take_now(store, {JOBS: BACKLOG})
    await store.commit(Txn([Ack(message.lease) for message in messages]))
    await store.commit(Txn([Enqueue("jobs", b"waits"), Enqueue("jobs", b"later", delay_ms=10_000_000)]))
    held = _held(store)
    await store.close()
    return held


def _held(store: LmdbStore) -> list[object]:
    return [store.scan("ns"), store.marks(""), store.waiting("jobs"), store.stats(), store.version()]


async def _found(folder: Path) -> list[object]:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    assert store.verify() == []
    held = _held(store)
    await store.commit(Txn([Put("ns", "new", b"1")]))
    await store.close()
    return held


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def held(folder: Path) -> list[object]:
    return asyncio.run(_drained(folder))


def test_the_file_of_a_drained_backlog_shrinks_and_holds_what_it_held(
    folder: Path, held: list[object]
) -> None:
    file = folder / "data.mdb"
    size = file.stat().st_size
    before, after = compact(folder, MAP_BYTES)
    assert before == size > 5_000_000 and after == file.stat().st_size < 500_000
    assert file.stat().st_mode & 0o077 == 0 and not (folder / COPY).exists()
    assert asyncio.run(_found(folder)) == held


def test_a_copy_that_a_kill_left_behind_is_in_nobodys_way(folder: Path, held: list[object]) -> None:
    (folder / COPY).write_bytes(b"half of it")
    assert asyncio.run(_found(folder)) == held
    compact(folder, MAP_BYTES)
    assert not (folder / COPY).exists()


async def test_while_anybody_has_the_store_open_it_is_refused_and_the_file_stays(folder: Path) -> None:
    await _drained(folder)
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    before = (folder / "data.mdb").read_bytes()
    for told in (_refusal(folder), (await _iii(folder, "compact")).stderr):
        assert "is in use by" in told and "stop it first" in told
    assert (folder / "data.mdb").read_bytes() == before
    await store.close()


def _refusal(folder: Path) -> str:
    with pytest.raises(StoreBusy) as refusal:
        compact(folder, MAP_BYTES)
    return str(refusal.value)


async def _iii(folder: Path, *command: str) -> Result:
    config = folder.parent / "iii-config.yaml"
    config.write_text("store: {path: data}\n")
    return await asyncio.to_thread(CliRunner().invoke, command_line, ["-c", str(config), *command])


def test_who_opened_the_file_before_it_was_replaced_does_not_write_to_the_old_one(
    folder: Path, held: list[object]
) -> None:
    def replace() -> None:
        """As `iii compact` does while it holds the write lock, which this process asks for next."""
        shutil.copy(folder / "data.mdb", folder / COPY)
        (folder / COPY).rename(folder / "data.mdb")

    with pytest.raises(StoreBusy, match="try again"):
        environment.acquire(folder, "commit", MAP_BYTES, replace)
    assert asyncio.run(_found(folder)) == held


@pytest.fixture
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_copy_that_fails_changes_nothing(folder: Path, held: list[object], full_disk: None) -> None:
    before = (folder / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match="the copy"):
        compact(folder, MAP_BYTES)
    assert (folder / "data.mdb").read_bytes() == before and not (folder / COPY).exists()


def test_a_damaged_file_is_left_as_it_is(folder: Path, held: list[object]) -> None:
    with spoilt(folder / "data.mdb", NEEDLE):
        before = (folder / "data.mdb").read_bytes()
        with pytest.raises(StoreDamaged):
            compact(folder, MAP_BYTES)
        assert (folder / "data.mdb").read_bytes() == before


async def test_the_command_says_what_it_gave_back(folder: Path) -> None:
    assert "no store yet" in (await _iii(folder, "compact")).stderr
    await _drained(folder)
    result = await _iii(folder, "compact")
    assert result.exit_code == 0 and "MiB before, 0." in result.stdout
