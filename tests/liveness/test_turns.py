"""A supervisor counts how long its instances' loops have not turned, and ends who did not end itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from deadline import until

from iii.config import Config, HealthConfig, StoreConfig
from iii.instances import loops
from iii.store.lmdb.liveness import OwnSession
from iii.store.lmdb.turns import Turns

TURNING = """
import threading
own = OwnSession(folder, {0})
own.turn()
say("open")
if {1}:
    while True:
        threading.Event().wait(0.001)
        own.turn()
rest()
"""


def samples(turns: Turns, pid: int, count: int) -> list[int]:
    return [turns.sample()[pid] for _ in range(count)]


def test_a_loop_that_stands_still_is_counted_from_its_last_turn(spawn, tmp_path: Path) -> None:
    stands = spawn(TURNING.format(7, False))
    stands.hears()
    turns = Turns(tmp_path)
    assert samples(turns, stands.pid, 5) == [0, 1, 2, 3, 4]
    turns.close()


def test_a_loop_that_turns_is_never_counted_up(spawn, tmp_path: Path) -> None:
    turning = spawn(TURNING.format(7, True))
    turning.hears()
    turns = Turns(tmp_path)
    zeros = 0
    while zeros < 20:  # between two samples it may not have had the time for a turn: it is never far
        zeros += turns.sample()[turning.pid] == 0
    turns.close()


def test_a_process_that_is_stopped_is_not_counted_and_begins_anew_when_it_goes_on(
    spawn, tmp_path: Path
) -> None:
    stands = spawn(TURNING.format(7, False))
    stands.hears()
    turns = Turns(tmp_path)
    samples(turns, stands.pid, 5)
    stands.stop()
    assert samples(turns, stands.pid, 5) == [0] * 5
    stands.resume()
    until(lambda: turns.sample()[stands.pid], "counted again")
    turns.close()


def test_of_two_sessions_of_a_process_the_newer_one_counts(spawn, tmp_path: Path) -> None:
    """One that peers took for dead leaves a board behind, until it is removed."""
    renewed = spawn("""
        old, new = OwnSession(folder, 7), OwnSession(folder, 8)
        old.turn()
        peer = Peer(folder, 8).board()
        say("open")
        for line in sys.stdin:
            before = new.turn() or peer.turned_ms
            while peer.turned_ms == before: new.turn()
            say("turned")
    """)
    renewed.hears()
    turns = Turns(tmp_path)
    for _ in range(5):
        renewed.tell("turn")
        renewed.hears()
        assert turns.sample()[renewed.pid] == 0
    turns.close()


def test_an_older_version_that_does_not_say_is_left_alone(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    turns = Turns(tmp_path)
    assert [turns.sample() for _ in range(3)] == [{}] * 3
    own.turn()
    assert len(turns.sample()) == 1
    own.close()
    assert turns.sample() == {}
    turns.close()


class Child:
    """An instance, as the watch over it needs it."""

    name = "instance 2"

    def __init__(self, process: Any, *, ready: bool) -> None:
        self.pid, self.ready, self._process = process.pid, ready, process

    def kill_blaming(self) -> None:
        self._process.kill()


async def test_an_instance_that_does_not_end_itself_is_killed_and_no_other(spawn, tmp_path: Path) -> None:
    stuck, turning, starting = (spawn(TURNING.format(n, n == 8)) for n in (7, 8, 9))
    for each in (stuck, turning, starting):
        each.hears()
    alive = [Child(stuck, ready=True), Child(turning, ready=True), Child(starting, ready=False)]
    config = Config(tmp_path, tmp_path, StoreConfig(tmp_path), health=HealthConfig(1_000))
    watch = asyncio.create_task(loops.watch_loops(lambda: config, lambda: alive))  # type: ignore[arg-type,return-value]
    async with asyncio.timeout(30):
        while stuck.runs:
            await asyncio.sleep(0.01)
    assert turning.runs and starting.runs
    watch.cancel()
