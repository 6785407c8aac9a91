"""Killed before, within (applied, not fsynced) and after every commit: each promise holds after a restart."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from crash_scenario import Ledger, Life, live_on, live_until, require_promises

COMMITS_MIN = 20
"""The scenario has at least so many; fewer would mean that it lost what it is for."""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerContext]:
    """Forks children from a process that has the modules loaded and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["iii.store.lmdb", "iii.formats.merge"])
    yield context
    context.set_forkserver_preload([])


async def _whole_life(folder: Path) -> int:
    life = Life(folder / "data", Ledger(folder / "ledger"))
    store = life.store()
    await life.live(store)
    require_promises(store, life, [])
    await store.close()
    return life.commits


def test_a_life_without_a_crash_keeps_every_promise(tmp_path: Path) -> None:
    assert asyncio.run(_whole_life(tmp_path)) >= COMMITS_MIN


@pytest.mark.parametrize("stage", ["before", "applied", "after"])
def test_killed_at_every_commit(stage: str, tmp_path: Path, server: ForkServerContext) -> None:
    commits = asyncio.run(_whole_life(tmp_path / "whole"))
    for number in range(1, commits + 1):
        folder = tmp_path / f"{stage}-{number}"
        folder.mkdir()
        child = server.Process(target=live_until, args=(folder / "data", folder / "ledger", stage, number))
        child.start()
        child.join(30)
        # The last commit closes the session; a life may need one less where two of them fell together.
        assert child.exitcode == -signal.SIGKILL or (child.exitcode == 0 and number >= commits - 1), number
        asyncio.run(live_on(folder))
