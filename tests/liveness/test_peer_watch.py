"""The watch tells once, and only of those that are gone."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from iii.errors import StoreClosed
from iii.store.lmdb.liveness import OwnSession, Staleness, session_file
from iii.store.lmdb.watch import PeerWatch

OWNER = "own = OwnSession(folder, 7); say('open'); rest()"
NEVER = 3600.0


class Told:
    """What a watch has told of."""

    def __init__(self) -> None:
        self.findings: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def __call__(self, session_id: int, finding: str) -> None:
        self.findings.put_nowait((session_id, finding))

    async def next(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.findings.get(), 20)


class Looks(Staleness):
    """Counts how often the watch looked at a living session: `await looks.more()` lets a few polls pass."""

    def __init__(self, beats_max: int = 40) -> None:
        super().__init__(beats_max)
        self._looks = asyncio.Semaphore(0)

    def is_stale(self, session_id: int) -> bool:
        self._looks.release()
        return super().is_stale(session_id)

    async def more(self) -> None:
        while not self._looks.locked():
            await self._looks.acquire()
        for _ in range(3):
            await asyncio.wait_for(self._looks.acquire(), 20)


async def turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def _told_of_a_kill(folder: Path, kill: Callable[[], None]) -> None:
    told = Told()
    watch = PeerWatch(folder, told, staleness=Staleness(), poll_s=NEVER)
    watch.watch(7)
    watch.watch(7)
    await turns_of_the_loop()
    assert told.findings.empty()
    kill()
    assert await told.next() == (7, "dead")
    assert watch.session_ids == []
    await turns_of_the_loop()
    assert told.findings.empty()
    watch.close()
    watch.close()


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_kill_is_told_once_and_without_polling(spawn, tmp_path: Path, new_loop) -> None:
    owner = spawn(OWNER)
    owner.hears()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_told_of_a_kill(tmp_path, owner.kill))


async def test_one_that_is_dead_already_is_told_of_but_not_within_watch(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    owner.kill()
    owner.exit_code()
    told = Told()
    watch = PeerWatch(tmp_path, told, staleness=Staleness(), poll_s=NEVER)
    watch.watch(7)
    watch.watch(999)  # never was
    assert told.findings.empty()
    assert sorted([await told.next(), await told.next()]) == [(7, "dead"), (999, "dead")]
    watch.close()


async def test_without_a_pidfd_the_poll_sees_it(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    session_file(tmp_path, 7, "board").unlink()  # no pid to watch
    told, looks = Told(), Looks()
    watch = PeerWatch(tmp_path, told, staleness=looks, poll_s=0.01)
    watch.watch(7)
    await looks.more()
    assert told.findings.empty()
    owner.kill()
    assert await told.next() == (7, "dead")
    watch.close()


async def test_a_board_whose_pid_names_another_process_now_is_told_by_its_lock(
    spawn, tmp_path: Path, overwrite
) -> None:
    owner, bystander = spawn(OWNER), spawn("say('here'); rest()")
    owner.hears()
    bystander.hears()
    overwrite(session_file(tmp_path, 7, "board"), 1, bystander.pid)
    told, looks = Told(), Looks()
    watch = PeerWatch(tmp_path, told, staleness=looks, poll_s=0.01)
    watch.watch(7)
    bystander.kill()
    await looks.more()
    assert told.findings.empty()
    owner.kill()
    assert await told.next() == (7, "dead")
    watch.close()


async def test_a_stale_session_is_told_of_once_its_samples_say_so(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    owner.stop()
    told, looks = Told(), Looks()
    watch = PeerWatch(tmp_path, told, staleness=looks, poll_s=0.01)
    watch.watch(7)
    for _ in range(40):
        watch.sample()
    await looks.more()
    assert told.findings.empty()
    watch.sample()
    assert await told.next() == (7, "stale")
    watch.sample()
    await looks.more()
    assert told.findings.empty()
    assert looks.is_stale(7)  # until it is unwatched, whoever waits for its transaction can see it
    owner.kill()
    assert await told.next() == (7, "dead")
    assert watch.session_ids == []
    watch.close()


async def test_one_that_wakes_up_and_stands_still_again_is_told_of_again(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        own = OwnSession(folder, 7); say("open")
        while True: sys.stdin.readline(); own.beat(); say("beat")
    """)
    owner.hears()
    told, looks = Told(), Looks(beats_max=2)
    watch = PeerWatch(tmp_path, told, staleness=looks, poll_s=0.01)
    watch.watch(7)
    for _ in range(2):
        for _ in range(3):
            watch.sample()
        assert await told.next() == (7, "stale")
        owner.tell("beat")
        owner.hears()
        watch.sample()
        await looks.more()
    assert told.findings.empty()
    watch.close()


async def test_one_unwatched_is_not_told_of_and_starts_anew_when_watched_again(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    told, staleness = Told(), Staleness(beats_max=1)
    watch = PeerWatch(tmp_path, told, staleness=staleness, poll_s=NEVER)
    watch.watch(7)
    watch.sample()
    watch.sample()
    watch.unwatch(7)
    watch.unwatch(7)
    assert not staleness.is_stale(7)
    owner.kill()
    await turns_of_the_loop()
    assert told.findings.empty()
    watch.watch(7)
    assert await told.next() == (7, "dead")
    watch.close()


async def test_a_closed_watch_keeps_no_descriptor_and_tells_nothing(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    before = set(os.listdir("/proc/self/fd"))
    told = Told()
    watch = PeerWatch(tmp_path, told, staleness=Staleness(), poll_s=0.001)
    watch.watch(7)
    watch.sample()
    watch.close()
    assert set(os.listdir("/proc/self/fd")) == before
    owner.kill()
    await turns_of_the_loop()
    assert told.findings.empty()
    with pytest.raises(StoreClosed):
        watch.watch(7)


async def test_a_closed_watch_is_let_go_of(tmp_path: Path) -> None:
    watch = PeerWatch(tmp_path, Told(), staleness=Staleness(), poll_s=NEVER)
    gone = weakref.ref(watch)
    watch.close()
    del watch
    gc.collect()
    assert gone() is None


async def test_a_session_of_the_same_process_can_be_watched(tmp_path: Path) -> None:
    own, told, looks = OwnSession(tmp_path, 7), Told(), Looks()
    watch = PeerWatch(tmp_path, told, staleness=looks, poll_s=0.005)
    watch.watch(7)
    await looks.more()
    assert told.findings.empty()
    own.close(remove=False)
    assert await told.next() == (7, "dead")
    watch.close()
