"""lock.mdb, holder or the whole folder removed while a store is in use: never two writers, nothing lost."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_process import Project

from iii.errors import StoreBusy, StoreDamaged
from iii.model import Enqueue, Lane, LanePolicy, Put, Txn
from iii.store.lmdb import LmdbStore

MAP_BYTES = 1 << 30
TIMEOUT_S = 60
MakeProject = Callable[[str], Project]

STEPS = """
import asyncio

config = {"name": "Waits", "triggers": [{"type": "queue", "topic": "jobs"}]}


async def handler(input, ctx):
    await ctx.state.set("started", str(input), True)
    await ctx.flush()
    await asyncio.Event().wait()
"""

NEWCOMERS = (
    ("check",),
    ("run", "--port", "0"),
    ("enqueue", "jobs", "1"),
    ("state", "set", "ns", "a", "2"),
    ("state", "get", "ns", "a"),
    ("queue", "list"),
    ("backup", "copy"),
    ("compact",),
)

DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "replaced": lambda file: shutil.copy(shutil.move(file, f"{file}.old"), file),
}


@asynccontextmanager
async def _in_use(folder: Path) -> AsyncIterator[LmdbStore]:
    """Opened without a session, as a command has it: it does not look for itself while it commits nothing."""
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", "a", b"1"), Enqueue("jobs", b"0")]))
    try:
        yield store
    finally:
        await store.close()


async def _write_until_refused(store: LmdbStore, why: str) -> bytes:
    """The value that was acknowledged last."""
    acknowledged = store.scan("ns")[0].value
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            value = acknowledged + b"+"
            try:
                await store.commit(Txn([Put("ns", "a", value)]))
            except StoreDamaged as error:
                refused = error
                break
            acknowledged = value
    assert why in str(refused)
    return acknowledged


def _iii(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iii", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)


def _project(folder: Path) -> Path:
    (folder / "iii-config.yaml").write_text("store: {path: data, map_size: 1GiB}\nconsole: {port: 0}\n")
    (folder / "steps").mkdir()
    return folder / "data"


@pytest.mark.parametrize("gone", [("lock.mdb",), ("holder",), ("holder", "lock.mdb"), ("data.mdb",)], ids=str)
async def test_no_newcomer_makes_anew_what_was_removed_while_another_process_uses_the_store(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    data = _project(tmp_path)
    async with _in_use(data):
        for name in gone:
            (data / name).rename(tmp_path / name)
        for command in NEWCOMERS:
            done = await asyncio.to_thread(_iii, tmp_path, *command)
            assert done.returncode == 1, (command, done)
            assert "was removed" in done.stderr and "end that process" in done.stderr, (command, done)
            assert "Traceback" not in done.stderr, (command, done)
        for name in gone:
            (tmp_path / name).replace(data / name)
    assert not (tmp_path / "copy").exists()
    for command in NEWCOMERS[2:5]:
        assert (await asyncio.to_thread(_iii, tmp_path, *command)).returncode == 0, "put back, all is well"


async def test_a_lock_file_that_is_cut_off_while_another_process_uses_it_is_not_filled_anew(
    tmp_path: Path,
) -> None:
    """Who uses it is ended by the kernel (SIGBUS), unless it comes back in time."""
    data = _project(tmp_path)
    async with _in_use(data) as store:
        held = (data / "lock.mdb").read_bytes()
        os.truncate(data / "lock.mdb", 0)
        done = await asyncio.to_thread(_iii, tmp_path, "enqueue", "jobs", "1")
        (data / "lock.mdb").write_bytes(held)
        assert done.returncode == 1 and "lock.mdb was removed" in done.stderr, done
        await store.commit(Txn([Put("ns", "a", b"2")]))


async def test_who_runs_as_an_older_version_is_seen_too(tmp_path: Path) -> None:
    """It has a slot of `holder`, and no lock on data.mdb."""
    data = _project(tmp_path)
    async with _in_use(data):
        pass
    (data / "lock.mdb").unlink()
    slot = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 3, 1, 0)
    with (data / "holder").open("r+b") as older:
        fcntl.fcntl(older, fcntl.F_OFD_SETLK, slot)
        with pytest.raises(StoreBusy, match="was removed"):
            await LmdbStore(data, map_bytes=MAP_BYTES).open()
        assert not (data / "lock.mdb").exists()
    async with _in_use(data) as store:
        assert store.verify() == []


async def test_with_nobody_there_the_files_beside_the_data_are_made_anew(tmp_path: Path) -> None:
    data = _project(tmp_path)
    for gone in ("lock.mdb", "holder", "sessions"):
        async with _in_use(data) as store:
            await store.open_session([LanePolicy("jobs", "Work")])
        path = data / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    async with _in_use(data) as store:
        assert (store.verify(), len(store.waiting("jobs"))) == ([], 4)


@pytest.mark.parametrize("how", DAMAGE)
async def test_a_lock_file_that_is_gone_ends_all_writing(tmp_path: Path, how: str) -> None:
    data = _project(tmp_path)
    async with _in_use(data) as store:
        DAMAGE[how](data / "lock.mdb")
        acknowledged = await _write_until_refused(store, f"lock.mdb was {how} while in use")
        with pytest.raises(StoreDamaged, match=f"lock.mdb was {how} while in use"):
            await store.commit(Txn([Put("ns", "a", b"no more")]))
    (data / "lock.mdb").unlink(missing_ok=True)
    again = LmdbStore(data, map_bytes=MAP_BYTES)
    await again.open()
    assert [entry.value for entry in again.scan("ns")] == [acknowledged] and again.verify() == []
    await again.close()


@pytest.mark.parametrize("name", ["lock.mdb", "holder", "data.mdb", "."])
async def test_an_idle_store_notices_without_a_commit(tmp_path: Path, name: str) -> None:
    data = _project(tmp_path)
    async with _in_use(data) as store, asyncio.timeout(TIMEOUT_S):
        told: asyncio.Future[StoreDamaged] = asyncio.get_running_loop().create_future()
        store.on_damage(told.set_result)
        await store.open_session([LanePolicy("quiet", "Work")])
        await store.credit({Lane("quiet", "Work"): 1})
        reader = asyncio.create_task(store.changes(store.version(), 1, None))
        await asyncio.sleep(0)
        (data / name).rename(tmp_path / "away")
        assert "while in use" in str(await told)
        with pytest.raises(StoreDamaged, match="while in use"):
            await reader
    assert data.exists() == (name != "."), "nothing is made where the folder was"


async def test_another_folder_in_place_of_the_one_that_is_used_is_noticed(tmp_path: Path) -> None:
    """Behind a symbolic link, too."""
    link = _project(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        async with _in_use(tmp_path / name):
            pass
    link.symlink_to("one")
    async with _in_use(link) as store:
        await store.commit(Txn([Put("ns", "a", b"2")]))
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").replace(link)
        acknowledged = await _write_until_refused(store, "replaced while in use")
    for name, value in (("one", acknowledged), ("two", b"1")):
        store = LmdbStore(tmp_path / name, map_bytes=MAP_BYTES)
        await store.open()
        assert [entry.value for entry in store.scan("ns")] == [value]
        await store.close()


async def test_two_folders_whose_files_are_links_to_one_do_not_write_to_it_at_once(tmp_path: Path) -> None:
    """Each has a lock.mdb of its own."""
    (tmp_path / "other").mkdir()
    linked, file = _project(tmp_path / "other") / "data.mdb", tmp_path / "data" / "data.mdb"
    linked.parent.mkdir(mode=0o700)
    linked.symlink_to(file)
    async with _in_use(tmp_path / "data"):
        done = await asyncio.to_thread(_iii, tmp_path / "other", "enqueue", "jobs", "1")
        assert done.returncode == 1 and "was removed or replaced while another process" in done.stderr, done
    done = await asyncio.to_thread(_iii, tmp_path / "other", "enqueue", "jobs", "1")
    assert done.returncode == 0, done


async def test_an_engine_ends_with_the_reason_and_the_next_one_goes_on(make_project: MakeProject) -> None:
    project = make_project(STEPS)
    engine = project.start()
    await engine.address()
    async with project.store() as store, asyncio.timeout(TIMEOUT_S):
        await store.commit(Txn([Enqueue("jobs", b"1")]))
        version = 0
        while not store.scan("started"):
            await store.changes(version, 1, 1_000)
            version = store.version()
    (project.folder / "data" / "lock.mdb").unlink()
    assert await engine.ended() == 1
    assert "lock.mdb was removed while in use" in engine.text.splitlines()[-1], engine.text
    assert "Traceback" not in engine.text
    async with project.store() as store:
        assert store.verify() == []
        await store.open_session([LanePolicy("jobs", "Waits")])
        (row,) = store.waiting("jobs")
        assert (row.state, row.attempts, row.crashes) == ("ready", 0, 0), "it is to blame for nothing"
    again = project.start()
    await again.address()
    assert await again.stop() == 0
