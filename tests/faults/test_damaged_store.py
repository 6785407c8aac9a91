"""A damaged file: refused with what to do, never a traceback, nothing counted and nothing written to it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from damage_kit import JOBS, MAP_BYTES, NEEDLE, SPOILT, fill, pages, spoil, spoilt
from worker import take_now

from iii.cli.group import command_line
from iii.config import load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.errors import StoreDamaged
from iii.model import Enqueue, LanePolicy, Put, Txn
from iii.store.lmdb import LmdbStore

COMMANDS = (
    ("check",),
    ("run", "--no-http"),
    ("state", "list", "ns"),
    ("state", "namespaces"),
    ("state", "set", "ns", "a", "1"),
    ("queue", "list"),
    ("queue", "peek", "jobs"),
    ("queue", "redrive", "jobs"),
    ("enqueue", "jobs", "1"),
    ("backup", "copy"),
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder))
    return folder / "data.mdb"


@pytest.fixture
def folder(tmp_path: Path, filled: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(filled, tmp_path / "data")
    return tmp_path / "data"


async def _use(store: LmdbStore) -> None:
    """Everything a store is asked for."""
    await store.open()
    try:
        store.stats(), store.scan("ns"), store.namespaces(), store.marks(""), store.sessions()
        store.records("run"), store.records("audit"), store.waiting("jobs", limit=1_000_000)
        await store.changes(0, 1_000_000, 0)
        await store.open_session([LanePolicy(*JOBS)])
        await store.commit(Txn([Put("ns", "0-1", b"new"), Enqueue("jobs", b"x", group="g1")]))
        await take_now(store, {JOBS: 1000})
    finally:
        await store.close()


@pytest.mark.parametrize("how", SPOILT)
async def test_a_spoilt_page_is_refused_unless_nothing_lies_on_it(
    folder: Path, filled: Path, how: str
) -> None:
    refusals: list[str] = []
    for page in range(2, pages(filled), pages(filled) // 12):
        shutil.copy(filled, folder)
        spoil(folder / "data.mdb", page, SPOILT[how])
        before = (folder / "data.mdb").read_bytes()
        try:
            await _use(LmdbStore(folder, map_bytes=MAP_BYTES))
        except StoreDamaged as error:
            refusals.append(str(error))
            assert (folder / "data.mdb").read_bytes() == before
    assert len(refusals) > 3 and all("put a backup in its place" in refusal for refusal in refusals)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_in_one_line_what_is_damaged_and_what_to_do(
    folder: Path, command: tuple[str, ...]
) -> None:
    config = folder.parent / "iii-config.yaml"
    config.write_text("store: {path: data}\nconsole: {port: 0}\n")
    (folder.parent / "steps").mkdir()
    with spoilt(folder / "data.mdb", NEEDLE):
        result = CliRunner().invoke(command_line, ["-c", str(config), *command])
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert "data.mdb is damaged" in result.stderr and "put a backup in its place" in result.stderr


async def _waits_for_ever(store: LmdbStore) -> dict[str, asyncio.Task[Any]]:
    waits = {
        "changes": asyncio.create_task(store.changes(store.version(), 1, None)),
    }
    await asyncio.sleep(0)
    return waits


async def _scan(store: LmdbStore) -> None:
    store.scan("ns")


async def _write(store: LmdbStore) -> None:
    await store.commit(Txn([Put("ns", "0-1", b"new")]))


async def _write_on(store: LmdbStore) -> None:
    async with asyncio.timeout(30):
        while True:
            await _write(store)


READERS: dict[str, Callable[[LmdbStore], Awaitable[None]]] = {"a read": _scan, "a commit": _write}


@pytest.mark.parametrize("finder", READERS)
async def test_damage_found_while_open_ends_everything_that_waits_and_all_that_comes(
    folder: Path, finder: str
) -> None:
    store = LmdbStore(folder, map_bytes=MAP_BYTES, checked_bytes_max=0)
    told: list[StoreDamaged] = []
    store.on_damage(told.append)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    waits = await _waits_for_ever(store)
    with spoilt(folder / "data.mdb", NEEDLE):
        with pytest.raises(StoreDamaged, match="put a backup in its place"):
            await READERS[finder](store)
        for wait in waits.values():
            with pytest.raises(StoreDamaged):
                await wait
        for use in (store.stats, store.version, lambda: store.submit(Txn([Put("ns", "b", b"1")]))):
            with pytest.raises(StoreDamaged):
                use()
        assert len(told) == 1
        assert any("page structure" in finding for finding in store.verify())
        await store.close()


async def test_an_engine_on_damage_stops_and_counts_nothing_against_its_messages(tmp_path: Path) -> None:
    """The page comes back to its senses afterwards, to see what was counted."""
    (tmp_path / "iii-config.yaml").write_text("store: {path: data}\n")
    (tmp_path / "steps").mkdir()
    file = tmp_path / "data" / "data.mdb"
    ran: list[int] = []

    async def handler(number: int, ctx: Any) -> None:
        ran.append(number)
        await ctx.state.get("ns", "a")

    step = make_step({"name": "Reads", "triggers": [{"type": "queue", "topic": "read"}]}, handler)
    engine = Engine(load(tmp_path / "iii-config.yaml"), [step])
    async with asyncio.timeout(30):
        await engine.start()
        await engine.state.set("ns", "a", NEEDLE.decode())
        with spoilt(file, NEEDLE):
            sent = asyncio.gather(*(engine.enqueue("read", n) for n in range(5)), return_exceptions=True)
            await engine.failed.wait()
            await sent
            await engine.stop()
    assert ran and isinstance(engine.failure, StoreDamaged)
    store = LmdbStore(tmp_path / "data")
    await store.open()
    assert store.verify() == []
    await store.open_session([LanePolicy("read", "Reads")])
    rows = store.waiting("read")
    assert len(rows) == 5 and {(row.state, row.attempts, row.crashes) for row in rows} == {("ready", 0, 0)}
    await store.close()


@pytest.mark.parametrize("gone", ["removed", "replaced"])
async def test_a_file_that_is_gone_while_in_use_is_noticed_and_nothing_more_accepted(
    folder: Path, gone: str
) -> None:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", "a", b"1")]))
    (folder / "data.mdb").rename(folder / "elsewhere")
    if gone == "replaced":
        shutil.copy(folder / "elsewhere", folder / "data.mdb")
    with pytest.raises(StoreDamaged, match=f"{gone} while in use"):
        await _write_on(store)
    await store.close()
