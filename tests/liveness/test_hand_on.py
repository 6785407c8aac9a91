"""Who leaves the write transaction lets in who waits for it, and sleeps for nobody else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deadline import until

from iii.model import Put, Txn
from iii.store.lmdb import LmdbStore
from iii.store.lmdb import holder as holder_module
from iii.store.lmdb.holder import Holder


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Holder, Holder]]:
    """Who leaves, and who may wait."""
    leaves, waits = Holder(tmp_path), Holder(tmp_path)
    leaves.want()
    leaves.enter()
    yield leaves, waits
    leaves.close()
    waits.close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, each time."""
    slept: list[float] = []

    class Time:
        monotonic, monotonic_ns = time.monotonic, time.monotonic_ns

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            os.sched_yield()

    monkeypatch.setattr(holder_module, "time", Time)
    return slept


def test_who_leaves_waits_until_the_next_one_is_inside(
    two: tuple[Holder, Holder], naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves, waits = two
    monkeypatch.setattr(holder_module, "HAND_ON_S", 60.0)
    waits.want()
    leaves.leave()
    handing = threading.Thread(target=leaves.hand_on)
    handing.start()
    until(lambda: len(naps) > 2, "it waits")
    assert handing.is_alive()
    waits.enter()
    handing.join(30)
    assert not handing.is_alive()


def test_nobody_sleeps_where_nobody_waits(tmp_path: Path, naps: list[float]) -> None:
    alone = Holder(tmp_path)
    for _ in range(3):
        alone.want()
        alone.enter()
        alone.leave()
        alone.hand_on()
    idle, inside = Holder(tmp_path), Holder(tmp_path)
    alone.want()
    alone.enter()
    alone.leave()
    inside.want()
    inside.enter()
    alone.hand_on()
    assert naps == []
    for each in (alone, idle, inside):
        each.close()


def test_one_that_does_not_come_is_waited_for_again_only_after_a_while(
    two: tuple[Holder, Holder], naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves, stopped = two
    monkeypatch.setattr(holder_module, "HAND_ON_AGAIN_S", 3600.0)
    stopped.want()
    leaves.leave()
    leaves.hand_on()
    slept = len(naps)
    assert slept > 0
    for _ in range(3):
        leaves.hand_on()
    assert len(naps) == slept
    leaves._again_s = 0.0
    leaves.hand_on()
    assert len(naps) > slept
    slept = len(naps)
    stopped.leave()
    until(
        lambda: stopped.want() is None and leaves.hand_on() is None and len(naps) > slept, "a wait of later"
    )


def test_who_was_killed_while_it_waited_is_not_waited_for_again_at_once(
    spawn, tmp_path: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder_module, "HAND_ON_AGAIN_S", 3600.0)
    dead = spawn("holder = Holder(folder); holder.serve(7); holder.want(); say('wanting'); rest()")
    dead.hears()
    leaves = Holder(tmp_path)
    dead.kill()
    leaves.hand_on()
    slept = len(naps)
    leaves.hand_on()
    assert len(naps) == slept
    leaves.close()


async def test_a_store_lets_in_who_waits_after_its_commit(tmp_path: Path, naps: list[float]) -> None:
    store = LmdbStore(tmp_path)
    await store.open()
    waits = Holder(tmp_path)
    await store.commit(Txn([Put("ns", "k", b"1")]))
    assert naps == []
    waits.want()
    await store.commit(Txn([Put("ns", "k", b"2")]))
    await store.close()
    assert naps != []
    waits.close()
