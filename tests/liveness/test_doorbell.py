"""The doorbell wakes who is parked, in any process, and nobody else; it never blocks who rings."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from iii.errors import StoreClosed
from iii.store.lmdb.doorbell import Doorbell, Ringer
from iii.store.lmdb.liveness import OwnSession, Peer, session_file

PARKED_OWNER = """
import asyncio
async def main():
    own = OwnSession(folder, 7)
    rung = asyncio.Event()
    bell = Doorbell(own, rung.set)
    own.park()
    say("parked")
    await rung.wait()
    say("awake")
asyncio.run(main())
"""


def test_a_parked_peer_wakes_up(spawn, tmp_path: Path) -> None:
    owner = spawn(PARKED_OWNER)
    owner.hears()
    ringer = Ringer(tmp_path)
    assert ringer.ring([7]) == 1
    assert owner.hears() == "awake"
    ringer.close()


async def _rung_from_a_thread(folder: Path) -> None:
    own, rung = OwnSession(folder, 7), asyncio.Event()
    bell, ringer, peer = Doorbell(own, rung.set), Ringer(folder), Peer(folder, 7)
    for _ in range(3):
        own.park()
        assert peer.parked
        assert await asyncio.to_thread(ringer.ring, [7]) == 1
        await asyncio.wait_for(rung.wait(), 20)
        assert not peer.parked
        rung.clear()
    for part in (ringer, bell, bell, peer, own):
        part.close()


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_each_ring_unparks_and_calls(tmp_path: Path, new_loop) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_rung_from_a_thread(tmp_path))


async def test_a_peer_that_is_not_parked_is_left_alone(tmp_path: Path) -> None:
    own, rings = OwnSession(tmp_path, 7), []
    bell, ringer = Doorbell(own, lambda: rings.append(1)), Ringer(tmp_path)
    assert ringer.ring([7]) == 0
    own.park()
    own.unpark()
    assert ringer.ring([7]) == 0
    listener = os.open(session_file(tmp_path, 7, "bell"), os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(listener, 1)
    os.close(listener)
    assert rings == []
    for part in (ringer, bell, own):
        part.close()


async def test_many_rings_of_a_busy_owner_wake_it_once_and_block_nobody(tmp_path: Path) -> None:
    own, rings = OwnSession(tmp_path, 7), []
    bell, ringer = Doorbell(own, lambda: rings.append(1)), Ringer(tmp_path)
    own.park()
    assert sum(ringer.ring([7]) for _ in range(70_000)) == 70_000  # more than a FIFO holds
    for _ in range(20):
        await asyncio.sleep(0)
    assert rings == [1]
    for part in (ringer, bell, own):
        part.close()


def test_ringing_the_dead_and_the_unknown_is_no_error(spawn, tmp_path: Path) -> None:
    owner = spawn(PARKED_OWNER)
    owner.hears()
    ringer = Ringer(tmp_path)
    assert ringer.ring([7, 999]) == 1
    owner.kill()
    OwnSession(tmp_path, 8).close(remove=False)
    parked = spawn("own = OwnSession(folder, 9); own.park(); say('parked, without a bell'); rest()")
    parked.hears()
    assert Peer(tmp_path, 9).parked
    assert ringer.ring([7, 8, 9, 999]) == 0
    ringer.forget(7)
    ringer.forget(7)
    ringer.close()


def test_a_parked_owner_that_was_killed_is_let_go_of(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        import asyncio
        async def main():
            own = OwnSession(folder, 7)
            bell = Doorbell(own, lambda: own.park())
            own.park()
            say("parked")
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
    Doorbell(first, lambda: None).close()
    first.close(remove=False)
    own, rung = OwnSession(tmp_path, 7), asyncio.Event()
    bell, ringer = Doorbell(own, rung.set), Ringer(tmp_path)
    own.park()
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
