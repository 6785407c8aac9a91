"""A forked child is poisoned: whatever it tries, it gets StoreClosed, and the parent notices nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from iii.store.lmdb.doorbell import Ringer
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import Peer

PARENT = """
import asyncio, traceback
from iii.errors import StoreClosed
from iii.store.lmdb.watch import PeerWatch

def refused(*uses):
    for use in uses:
        try: use()
        except StoreClosed as error: assert "forked" in str(error), error
        else: raise AssertionError(f"{use} was not refused")

def in_child(parts, peer):
    own, holder, ringer, watch, bell = parts
    refused(own.beat, own.running, lambda: own.start(99), lambda: own.end(1))
    refused(holder.want, holder.enter, holder.leave, holder.current, holder.unfreeze, lambda: holder.serve(1))
    refused(lambda: ringer.ring([7]), lambda: watch.watch(8))
    for part in (*parts, peer):
        part.close()
    assert not Peer(folder, 7).is_dead()
    assert Peer(folder, 7).running_ids() == [1, 2]
    mine = OwnSession(folder, 70)  # its own life goes on
    mine.start(5)
    grandchild = os.fork()
    if grandchild == 0:
        refused(mine.beat, own.beat)
        assert not Peer(folder, 70).is_dead()
        os._exit(0)
    assert os.waitpid(grandchild, 0)[1] == 0
    mine.close()

async def main():
    own = OwnSession(folder, 7)
    own.start(1)
    own.start(2)
    holder, ringer, rung = Holder(folder), Ringer(folder), asyncio.Event()
    watch = PeerWatch(folder, lambda *gone: say("gone", *gone), staleness=Staleness(), poll_s=3600)
    watch.watch(8)
    bell = Doorbell(folder, 7, rung.set)
    peer = Peer(folder, 7)
    holder.enter()
    child = os.fork()
    if child == 0:
        try: in_child((own, holder, ringer, watch, bell), peer)
        except BaseException: traceback.print_exc(); os._exit(1)
        os._exit(0)
    say("child", os.waitpid(child, 0)[1])
    await rung.wait()
    say("rung")
    assert own.running() == [1, 2]
    own.end(1)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_forked_child_can_do_nothing_and_its_parent_goes_on(spawn, tmp_path: Path) -> None:
    watched = spawn("own = OwnSession(folder, 8); say('open'); rest()")
    watched.hears()
    parent = spawn(PARENT)
    assert parent.hears() == "child 0"
    peer, ringer, holder = Peer(tmp_path, 7), Ringer(tmp_path), Holder(tmp_path)
    assert not peer.is_dead()
    assert peer.running_ids() == [1, 2]
    current = holder.current()
    assert current is not None
    assert current.pid == parent.pid
    assert ringer.ring([7]) == 1
    assert parent.hears() == "rung"
    watched.kill()
    assert parent.hears() == "gone 8 dead"
    assert peer.running_ids() == [2]
    for part in (peer, ringer, holder):
        part.close()


SLOT_OF_A_PARENT_WITH_A_CHILD = """
holder = Holder(folder)
holder.enter()
if os.fork() == 0:
    say(os.getpid())
rest()
"""


def test_a_forked_grandchild_keeps_no_slot_of_the_holder(spawn, tmp_path: Path) -> None:
    parent = spawn(SLOT_OF_A_PARENT_WITH_A_CHILD)
    grandchild = int(parent.hears())
    parent.kill()
    try:
        mine = Holder(tmp_path)
        first_slot = memoryview((tmp_path / "holder").read_bytes()).cast("Q")[8]
        assert first_slot == os.getpid()
        mine.close()
    finally:
        os.kill(grandchild, signal.SIGKILL)
