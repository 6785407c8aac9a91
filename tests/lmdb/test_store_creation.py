"""A new store's file is there whole or not at all, whoever is killed meanwhile, however many make it."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from iii.errors import StoreBusy, StoreDamaged
from iii.model import Enqueue, Put, Txn
from iii.store.lmdb import LmdbStore, creation

MAP_BYTES = 64 << 20
STEPS_MIN = 20
"""Lines that the making runs; fewer would mean that they are not seen."""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerContext]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["iii.store.lmdb"])
    yield context
    context.set_forkserver_preload([])


async def _open(folder: Path) -> None:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", "a", b"1")]))
    assert store.verify() == []
    await store.close()


def _at_each_line_of_the_making(reached: Callable[[int], object]) -> None:
    count = 0

    def within(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            reached(count)
        return within

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        return within if frame.f_code.co_filename == creation.__file__ else None

    sys.settrace(entered)


def killed_at(folder: Path, number: int) -> None:
    """What the child does: it is killed before the given line of what makes the file."""

    def reached(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_line_of_the_making(reached)
    asyncio.run(_open(folder))


def test_killed_at_each_step_of_the_making_the_next_one_makes_it(
    tmp_path: Path, server: ForkServerContext
) -> None:
    number, exit_code = 0, -signal.SIGKILL
    left_behind = set()
    while exit_code == -signal.SIGKILL:
        number += 1
        folder = tmp_path / f"above-{number}" / "data"
        child = server.Process(target=killed_at, args=(folder, number))
        child.start()
        child.join(30)
        assert child.exitcode is not None
        exit_code = child.exitcode
        left_behind.add(tuple(sorted(path.name for path in folder.glob("data*"))))
        asyncio.run(_open(folder))
        assert [path.name for path in folder.glob("data*")] == ["data.mdb"]
    assert (exit_code, number > STEPS_MIN) == (0, True)
    assert left_behind == {(), ("data.mdb.new",), ("data.mdb",)}


def race(folder: Path, number: int, start: Barrier) -> None:
    async def run() -> None:
        store = LmdbStore(folder, map_bytes=MAP_BYTES)
        start.wait()
        await store.open()
        await store.commit(Txn([Put("ns", f"{number}", b"1"), Enqueue("jobs", b"x")]))
        await store.close()

    asyncio.run(run())


async def test_several_processes_that_make_it_at_once_share_one_file(
    tmp_path: Path, server: ForkServerContext
) -> None:
    many = 8
    for turn in range(3):
        folder, start = tmp_path / f"{turn}" / "data", server.Barrier(many)
        children = [server.Process(target=race, args=(folder, n, start)) for n in range(many)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        assert [child.exitcode for child in children] == [0] * many
        store = LmdbStore(folder, map_bytes=MAP_BYTES)
        await store.open()
        assert {entry.key for entry in store.scan("ns")} == {f"{n}" for n in range(many)}
        assert (store.version(), store.stats()[0].ready, store.verify()) == (many, many, [])
        await store.close()


async def test_what_nobody_accepted_anything_into_is_made_anew_and_what_is_there_is_left_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "data.mdb.new").write_bytes(os.urandom(100))
    await _open(tmp_path)
    assert not (tmp_path / "data.mdb.new").exists()
    os.truncate(tmp_path / "data.mdb", 0)
    with pytest.raises(StoreDamaged, match="cut off at 0 bytes"):
        await LmdbStore(tmp_path, map_bytes=MAP_BYTES).open()


async def test_a_failure_leaves_nothing_and_the_next_try_succeeds(tmp_path: Path) -> None:
    def fails(env: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        creation.make(tmp_path / "data.mdb", MAP_BYTES, 1, fails)
    assert list(tmp_path.iterdir()) == []
    await _open(tmp_path)


async def test_one_that_stands_still_while_it_makes_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "WAIT_S", 0.0)
    theirs = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    with pytest.raises(StoreBusy, match="another process has been making"):
        await LmdbStore(tmp_path, map_bytes=MAP_BYTES).open()
    os.close(theirs)
    await _open(tmp_path)
