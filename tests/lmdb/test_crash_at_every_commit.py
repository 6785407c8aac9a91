"""Killed before, within (applied, not fsynced) and after every commit: each promise holds after a restart."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import orjson
import pytest
from crash_scenario import JOBS, NEXT, PRODUCED, Ledger, Life, live_until

from iii.model import ARCHIVE
from iii.store.lmdb import LmdbStore

RUNS = [f"{name} Work" for name in PRODUCED] + ["plain Then"]
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
    _require_promises(store, life, [])
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
        asyncio.run(_live_on(folder))


async def _live_on(folder: Path) -> None:
    ledger = Ledger(folder / "ledger")
    acknowledged = ledger.lines()
    life = Life(folder / "data", ledger)
    store = life.store()
    await life.live(store)
    _require_promises(store, life, acknowledged)
    await store.close()


def _require_promises(store: LmdbStore, life: Life, acknowledged: list[str]) -> None:
    assert store.verify() == []
    seen = {entry.key: orjson.loads(entry.value) for entry in store.scan("seen")}
    assert seen == dict.fromkeys(RUNS, 1), "every message had its effects once, over both hops"
    settled = {line.removeprefix("settled ") for line in acknowledged if line.startswith("settled ")}
    assert not settled & set(life.handled), "what was acknowledged as settled ran again"
    for line in acknowledged:
        if line.startswith("enqueued "):
            assert line in life.ledger.lines()[len(acknowledged) :], f"{line!r} was forgotten"
    order = store.get("order", "g")
    assert order is not None
    assert orjson.loads(order.value) == {"all": ["grouped1", "grouped2"]}
    assert store.mark("tick") == 1
    letters = store.waiting("jobs.failed", step=ARCHIVE)
    assert [(letter.payload, letter.dead and letter.dead.attempts) for letter in letters] == [(b"doomed", 2)]
    _require_counts(store)


def _require_counts(store: LmdbStore) -> None:
    rows = {(row.topic, row.step): row for row in store.stats()}
    jobs, then = rows[JOBS], rows[NEXT]
    assert (jobs.done, jobs.failed, jobs.dead) == (len(PRODUCED) - 1, 3, 1)
    assert (then.done, then.failed, then.dead) == (1, 0, 0)
    waiting = [row.ready + row.later + row.behind + row.leased for row in (jobs, then)]
    assert waiting == [0, 0]
