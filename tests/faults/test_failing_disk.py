"""A disk that dies is told as that, a full one as full; too little address space with its remedy."""

from __future__ import annotations

import asyncio
import errno
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from engine_process import Project, until

from iii.errors import StoreError, StoreFailing, StoreFull
from iii.store.lmdb.disk import no_access, refused

MakeProject = Callable[[str], Project]
TIMEOUT_S = 60

STEPS = """
config = {"name": "Put", "triggers": [
    {"type": "http", "method": "POST", "path": "/put"},
    {"type": "queue", "topic": "jobs"},
]}


async def handler(input, ctx):
    if ctx.trigger.type == "http":
        await ctx.state.set("ns", "a", 1)
        await ctx.enqueue("jobs", 1)
    else:
        await ctx.state.set("ns", "done", True)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


def _iii(folder: Path, *args: str, address_space: int = 0) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    return subprocess.run(
        [sys.executable, "-m", "iii", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=limit,
    )


async def test_a_disk_that_fails_is_told_as_such_everywhere_and_work_goes_on_when_it_is_well_again(
    make_project: MakeProject, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = tmp_path / "dies"
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("III_EIO", str(dies))
    project = make_project(STEPS)
    engine = project.start()
    async with httpx.AsyncClient(base_url=await engine.address(), timeout=TIMEOUT_S) as http:
        assert (await http.post("/put")).status_code == 204
        dies.touch()
        answer = await http.post("/put")
        assert (answer.status_code, "disk" in answer.text) == (503, True), answer.text
        told = _iii(project.folder, "state", "set", "ns", "b", "1")
        assert told.returncode == 1 and "the disk reports an I/O error" in told.stderr, told
        assert "no room" not in told.stderr and told.stderr.count("\n") == 1
        await until(lambda: "the disk reports an I/O error" in engine.text, "the log", lambda: engine.text)
        assert "no room in" not in engine.text
        dies.unlink()
        async with asyncio.timeout(TIMEOUT_S):
            while (await http.post("/put")).status_code == 503:
                pass
    assert await engine.stop() == 0, engine.text
    assert _iii(project.folder, "check").returncode == 0


class _Error(Exception):
    code = errno.EIO


@pytest.mark.parametrize("full", [False, True])
def test_a_short_write_on_a_full_disk_is_no_failing_disk(tmp_path: Path, full: bool) -> None:
    """LMDB says EIO for both."""
    file = tmp_path / "data.mdb"
    file.write_bytes(bytes(4096))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        told = refused(file, _Error("data.mdb: Input/output error"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert type(told) is (StoreFull if full else StoreFailing), told
    assert ("grow the map or the disk" in str(told)) == full


def test_a_folder_that_the_disk_cannot_read_is_no_matter_of_rights() -> None:
    told = no_access(Path("data"), OSError(errno.EIO, "Input/output error"))
    assert isinstance(told, StoreError) and "the disk reports an I/O error" in str(told)
    assert "may read and write" not in str(told)


def test_too_little_address_space_names_the_map_size_and_a_smaller_one_is_enough(tmp_path: Path) -> None:
    config, limit = tmp_path / "iii-config.yaml", 4 << 30
    (tmp_path / "steps").mkdir()
    config.write_text("store: {path: data}\nconsole: {port: 0}\nhttp: {port: 0}\n")
    for make in (False, True):
        if make:
            assert _iii(tmp_path, "enqueue", "jobs", "1").returncode == 0
        for command in (("enqueue", "jobs", "1"), ("run",), ("check",), ("queue", "list")):
            if not make and command[0] in ("check", "queue"):
                continue  # there is no store yet
            told = _iii(tmp_path, *command, address_space=limit)
            assert told.returncode == 1, told
            assert "store.map_size" in told.stderr and "`ulimit -v`" in told.stderr, told
            assert "Traceback" not in told.stderr
    config.write_text(f"{config.read_text()}".replace("path: data", "path: data, map_size: 256MiB"))
    for command in (("enqueue", "jobs", "1"), ("check",)):
        told = _iii(tmp_path, *command, address_space=limit)
        assert told.returncode == 0, told
