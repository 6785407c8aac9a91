"""The doorbell wakes whoever has one, in any process; it never blocks who rings."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from iii.errors import StoreClosed
from iii.store.lmdb.doorbell import Doorbell, Ringer
from iii.store.lmdb.liveness import OwnSession

OWNER = """
import asyncio
async def main():
    own = OwnSession(folder, 7)
    rung = asyncio.Event()
    bell = Doorbell(folder, 7, rung.set)
    say("listening")
    await rung.wait()
    say("awake")
asyncio.run(main())
"""


def test_a_ring_wakes_another_process(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    ringer = Ringer(tmp_path)
    assert ringer.ring([7]) == 1
    assert owner.hears() == "awake"
    ringer.close()


async def _rung_from_a_thread(folder: Path) -> None:
    own, rung = OwnSession(folder, 7), asyncio.Event()
    bell, ringer = Doorbell(folder, 7, rung.set), Ringer(folder)
    for _ in range(3):
        assert await asyncio.to_thread(ringer.ring, [7]) == 1
        await asyncio.wait_for(rung.wait(), 20)
        rung.clear()
    for part in (ringer, bell, bell, own):
        part.close()


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_each_ring_calls(tmp_path: Path, new_loop) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_rung_from_a_thread(tmp_path))


async def test_many_rings_of_a_busy_owner_wake_it_once_and_block_nobody(tmp_path: Path) -> None:
    own, rings = OwnSession(tmp_path, 7), []
    bell, ringer = Doorbell(tmp_path, 7, lambda: rings.append(1)), Ringer(tmp_path)
    assert sum(ringer.ring([7]) for _ in range(70_000)) == 70_000  # more than a FIFO holds
    for _ in range(20):
        await asyncio.sleep(0)
    assert rings == [1]
    for part in (ringer, bell, own):
        part.close()


def test_ringing_the_dead_and_the_unknown_is_no_error(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    ringer = Ringer(tmp_path)
    assert ringer.ring([7, 999]) == 1
    owner.kill()
    OwnSession(tmp_path, 8).close(remove=False)
    listening = spawn("own = OwnSession(folder, 9); say('listening, without a bell'); rest()")
    listening.hears()
    assert ringer.ring([7, 8, 9, 999]) == 0
    ringer.forget(7)
    ringer.forget(7)
    ringer.close()


def test_an_owner_that_was_killed_is_let_go_of(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        import asyncio
        async def main():
            own = OwnSession(folder, 7)
            bell = Doorbell(folder, 7, lambda: None)
            say("listening")
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    owner.hears()
    ringer, before = Ringer(tmp_path), set(os.listdir("/proc/self/fd"))
    owner.stop()
    assert ringer.ring([7]) == 1  # keeps its end open from here on
    owner.kill()
    assert ringer.ring([7]) == 0
    assert set(os.listdir("/proc/self/fd")) == before
    ringer.close()


async def test_a_bell_left_behind_under_the_same_id_is_replaced(tmp_path: Path) -> None:
    first = OwnSession(tmp_path, 7)
    Doorbell(tmp_path, 7, lambda: None).close()
    first.close(remove=False)
    own, rung = OwnSession(tmp_path, 7), asyncio.Event()
    bell, ringer = Doorbell(tmp_path, 7, rung.set), Ringer(tmp_path)
    assert ringer.ring([7]) == 1
    await asyncio.wait_for(rung.wait(), 20)
    for part in (ringer, bell, own):
        part.close()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_closed_ringer_refuses(tmp_path: Path) -> None:
    ringer = Ringer(tmp_path)
    ringer.close()
    ringer.close()
    with pytest.raises(StoreClosed):
        ringer.ring([7])
