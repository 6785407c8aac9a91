"""What the engine keeps is its user's alone, whatever the umask; what is in its way is refused."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_process import Project, until

from iii import files
from iii.errors import StoreError, StoreFull
from iii.model import Put, Txn
from iii.observe.hour import Hour, Point
from iii.observe.log_file import LogFile
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.compact import compact

MAP_BYTES = 64 << 20
MakeProject = Callable[[str], Project]

STEPS = """
from iii import http

config = {"name": "Hello", "triggers": [http("GET", "/hello")]}


async def handler(request, ctx):
    ctx.logger.info("Hello")
"""


@pytest.fixture(params=[0o000, 0o077], ids=["umask 000", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """What of it others could look into."""
    found = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
    return {path: f"{mode:04o}" for path, mode in found.items() if mode & 0o077}


async def filled(folder: Path) -> LmdbStore:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", "a", b"secret")]))
    return store


def iii(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iii", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("umask")
async def test_all_that_an_engine_makes_is_closed_while_it_runs_and_after(make_project: MakeProject) -> None:
    project = make_project(STEPS)
    engine, data = project.start(), project.folder / "data"
    address = await engine.address()
    process = await asyncio.create_subprocess_exec("curl", "-s", "-o", "/dev/null", f"{address}/hello")
    assert await process.wait() == 0
    names = {"data.mdb", "lock.mdb", "holder", "sessions", "metrics", "logs"}
    await until(lambda: names <= {path.name for path in data.iterdir()}, "all that there is", os.listdir)
    await until(lambda: list((data / "metrics").glob("*.json")), "the figures")
    assert {path.suffix for path in (data / "sessions").iterdir()} >= {".lock", ".board", ".bell"}
    assert open_to_others(data) == {}
    assert await engine.stop() == 0
    assert (data / "metrics" / "gone.json").exists() and (data / "logs" / "iii.jsonl").exists()
    assert open_to_others(data) == {}
    for command in (["backup", "a/b/copy"], ["compact"]):
        done = await asyncio.to_thread(iii, project.folder, *command)
        assert done.returncode == 0, done
    assert open_to_others(data) == open_to_others(project.folder / "a") == {}


@pytest.mark.usefixtures("umask")
def test_the_files_of_the_last_hour_are_closed(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "data" / "metrics")
    hour = Hour(tmp_path / "data")
    for at_ms in range(0, 20_000, 5_000):
        point = Point(at_ms, 1, 0, 0, 0, 0, 0, None, None)
        hour.add(point)
        hour.keep([point])
    assert len((tmp_path / "data" / "metrics" / "hour.jsonl").read_text().split()) == 4
    hour.close()
    assert open_to_others(tmp_path / "data") == {}


@pytest.mark.usefixtures("umask")
async def test_a_backup_and_a_compact_copy_are_never_closed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("made open, and closed afterwards")

    store = await filled(tmp_path / "data")
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, never)
    await store.backup(tmp_path / "new" / "copy")
    await store.close()
    compact(tmp_path / "data", MAP_BYTES)
    assert open_to_others(tmp_path / "new") == open_to_others(tmp_path / "data") == {}


async def test_a_backup_closes_an_empty_folder_and_refuses_what_is_none_of_its_own(tmp_path: Path) -> None:
    store = await filled(tmp_path / "data")
    (tmp_path / "empty").mkdir(mode=0o755)
    await store.backup(tmp_path / "empty")
    assert open_to_others(tmp_path / "empty") == {}
    (tmp_path / "file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "dangling").symlink_to("nowhere")
    refused = {
        "file": "is a file", "file/below": "Not a directory", "link": "is a symbolic link",
        "dangling": "is a symbolic link", "data": "inside the store's own folder",
        "data/below": "inside the store's own folder", ".": "is not empty", "empty": "is not empty",
        "data/data.mdb": "inside the store's own folder",
    }  # fmt: skip
    for name, why in refused.items():
        with pytest.raises(StoreError, match=why):
            await store.backup(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    await store.close()


async def test_a_backup_that_finds_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await filled(tmp_path / "data")
    await store.commit(Txn([Put("ns", "large", bytes(2 << 20))]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StoreFull, match="no room for the copy"):
            await store.backup(tmp_path / "new" / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "new").exists()
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda path: full)
        with pytest.raises(StoreFull, match=r"the copy needs 4 MiB in .* and 0 MiB are free there"):
            await store.backup(tmp_path / "new" / "copy")
    assert not (tmp_path / "new").exists()
    await store.backup(tmp_path / "new" / "copy")
    await store.close()


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o710, 0o770, 0o777, 0o2770, 0o701])
async def test_a_data_folder_that_is_open_to_others_is_refused_and_left_as_it_is(
    tmp_path: Path, mode: int
) -> None:
    data = tmp_path / "data"
    await (await filled(data)).close()
    before = sorted(path.name for path in data.iterdir())
    data.chmod(mode)
    with pytest.raises(StoreError, match=rf"open to other users \(mode {mode:04o}\).*`chmod 700 {data}`"):
        await filled(data)
    assert sorted(path.name for path in data.iterdir()) == before
    assert stat.S_IMODE(data.stat().st_mode) == mode
    data.chmod(0o700)
    await (await filled(data)).close()


async def test_an_engine_on_a_data_folder_that_is_open_to_others_does_not_start(
    make_project: MakeProject,
) -> None:
    project = make_project(STEPS)
    data = project.folder / "data"
    data.mkdir()
    data.chmod(0o755)
    for options in ([], ["--instances", "2"]):
        done = await asyncio.to_thread(iii, project.folder, "run", "--port", "0", *options)
        assert done.returncode == 1 and done.stderr.count("chmod 700") == 1, done
        assert "Traceback" not in done.stderr and list(data.iterdir()) == []


def _a_link(file: Path) -> None:
    file.symlink_to(file.parents[2] / "elsewhere")


def _a_second_name(file: Path) -> None:
    os.link(file.parents[2] / "elsewhere", file)


def _a_linked_folder(file: Path) -> None:
    file.parent.rmdir()
    (file.parents[2] / "folder").mkdir()
    file.parent.symlink_to(file.parents[2] / "folder")


IN_THE_WAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (_a_link, "it is a symbolic link"),
    "a link to nowhere": (lambda file: file.symlink_to("nowhere"), "it is a symbolic link"),
    "a linked folder": (_a_linked_folder, "it is a symbolic link, and must be a folder"),
    "a second name": (_a_second_name, "it is a file with a second name"),
    "a FIFO": (os.mkfifo, "it is a FIFO"),
}


@pytest.mark.parametrize("way", IN_THE_WAY)
@pytest.mark.parametrize("name", ["iii.jsonl", "lock"])
def test_a_log_file_that_is_none_of_its_own_is_refused(tmp_path: Path, way: str, name: str) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    file = tmp_path / "data" / "logs" / name
    files.make_folder(file.parent)
    put, why = IN_THE_WAY[way]
    put(file)
    with pytest.raises(StoreError, match=f"cannot keep the log in {file.parent}.*{why}"):
        LogFile(tmp_path / "data", 1 << 20).require_own()
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not (file.parent / "nowhere").exists()


async def test_an_engine_whose_log_lies_behind_a_link_does_not_start(make_project: MakeProject) -> None:
    project = make_project(STEPS)
    file = project.folder / "data" / "logs" / "iii.jsonl"
    files.make_folder(file.parent)
    file.symlink_to(project.folder / "elsewhere")
    for options in ([], ["--instances", "2"]):
        done = await asyncio.to_thread(iii, project.folder, "run", "--port", "0", *options)
        assert done.returncode == 1 and f"cannot keep the log in {file}" in done.stderr, done
        assert "Traceback" not in done.stderr and "remove it" in done.stderr, done
    assert not (project.folder / "elsewhere").exists()
    assert not (project.folder / "data" / "data.mdb").exists(), "nothing else was begun"


def test_a_log_file_that_becomes_a_link_while_it_is_written_takes_no_line_there(tmp_path: Path) -> None:
    import logging

    (tmp_path / "elsewhere").write_text("theirs")
    handler = LogFile(tmp_path, 1 << 20)
    handler.require_own()
    record = logging.LogRecord("iii", logging.INFO, "", 0, "a line", None, None)
    handler.emit(record)
    file = tmp_path / "logs" / "iii.jsonl"
    assert file.read_text() == "a line\n"
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    handler.close_file()  # as after any failure: the file is looked for anew
    handler.emit(record)
    handler.close()
    assert (tmp_path / "elsewhere").read_text() == "theirs"


async def _work(data: Path) -> None:
    store = await filled(data)
    try:
        await store.open_session([])
    finally:
        await store.close()


@pytest.mark.parametrize("name", ["lock.mdb", "holder", "sessions"])
async def test_links_among_the_stores_files_are_refused_and_nothing_is_written_behind_them(
    tmp_path: Path, name: str
) -> None:
    data = tmp_path / "data"
    await (await filled(data)).close()
    elsewhere = tmp_path / "elsewhere"
    path = data / name
    if name == "sessions":
        elsewhere.mkdir()
        if path.exists():
            path.rmdir()
    else:
        path.unlink()
    path.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="it is a symbolic link"):
        await _work(data)
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("umask")
def test_a_file_and_a_folder_are_made_closed_and_kept_from_what_is_in_their_way(tmp_path: Path) -> None:
    assert files.make_folder(tmp_path / "a" / "b" / "c") and not files.make_folder(tmp_path / "a")
    elsewhere = tmp_path / "a" / "elsewhere"
    files.write_file(elsewhere, b"theirs")
    for way in (lambda path: path.symlink_to(elsewhere), lambda path: os.link(elsewhere, path)):
        path = tmp_path / "a" / "file"
        way(path)
        with pytest.raises(files.Unsafe):
            files.open_file(path, os.O_WRONLY | os.O_TRUNC)
        files.write_file(path, b"ours")
        assert (path.read_bytes(), elsewhere.read_bytes()) == (b"ours", b"theirs")
        path.unlink()
    with pytest.raises(files.Unsafe, match="it is a device"):
        files.open_file("/dev/null", os.O_WRONLY)
    with pytest.raises(files.Unsafe, match="it is a file, and must be a folder"):
        files.make_folder(elsewhere)
    assert open_to_others(tmp_path / "a") == {}
