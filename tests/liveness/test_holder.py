"""The one write transaction: a holder that is frozen inside it is killed, and nobody else ever is."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import lmdb
import pytest
from deadline import until

from iii.errors import StoreBusy, StoreIncompatible
from iii.store.lmdb import holder as holder_module
from iii.store.lmdb.hearts import Hearts
from iii.store.lmdb.holder import Holder, Killed
from iii.store.lmdb.liveness import Heartbeat, Peer

SLOT_WORDS = 8
INSIDE = "holder = Holder(folder); holder.serve(7); holder.want(); holder.enter(); say('inside'); rest()"
WANTING = "holder = Holder(folder); holder.serve(7); holder.want(); say('wanting'); rest()"
OUTSIDE = """
holder = Holder(folder)
holder.serve(7)
holder.want(); holder.enter(); holder.leave()
say("outside")
rest()
"""


def beats(holder: Holder, count: int) -> list[Killed]:
    """What `count` heartbeats of a waiting process do."""
    return [killed for killed in (holder.unfreeze() for _ in range(count)) if killed]


def slot_of(folder: Path, pid: int) -> int:
    """The index of the first word of a process's slot."""
    words = memoryview((folder / "holder").read_bytes()).cast("Q")
    return next(at for at in range(SLOT_WORDS, len(words), SLOT_WORDS) if words[at] == pid)


def test_one_stopped_inside_is_killed_after_four_beats(
    spawn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frozen = spawn(INSIDE)
    frozen.hears()
    frozen.stop()
    waiter = Holder(tmp_path)
    waiter.want()
    assert beats(waiter, 4) == []
    assert frozen.runs
    assert waiter.unfreeze() == Killed(frozen.pid, 7, "stopped")
    assert f"killed process {frozen.pid} (session 7): stopped" in caplog.text
    assert frozen.exit_code() == -signal.SIGKILL
    assert beats(waiter, 100) == []
    assert waiter.current() is None
    waiter.close()


def test_one_stopped_outside_is_not_killed(spawn, tmp_path: Path) -> None:
    stopped = spawn(OUTSIDE)
    stopped.hears()
    stopped.stop()
    waiter = Holder(tmp_path)
    waiter.serve(8, lambda session_id: True)
    waiter.want()
    assert beats(waiter, 100) == []
    assert stopped.runs
    waiter.close()


def test_one_that_works_inside_is_not_killed_however_long_it_takes(spawn, tmp_path: Path) -> None:
    busy = spawn(INSIDE)
    busy.hears()
    waiter = Holder(tmp_path)
    waiter.want()
    assert beats(waiter, 200) == []
    assert busy.runs
    waiter.close()


def test_one_whose_heartbeat_stands_still_inside_is_killed(spawn, tmp_path: Path) -> None:
    hung = spawn(INSIDE)
    hung.hears()
    stale: set[int] = set()
    waiter = Holder(tmp_path)
    waiter.serve(8, stale.__contains__)
    waiter.want()
    assert beats(waiter, 100) == []
    stale.add(7)
    assert beats(waiter, 1) == [Killed(hung.pid, 7, "stale")]
    assert hung.exit_code() == -signal.SIGKILL
    waiter.close()


def test_who_does_not_wait_kills_nobody(spawn, tmp_path: Path) -> None:
    frozen = spawn(INSIDE)
    frozen.hears()
    frozen.stop()
    peer = Holder(tmp_path)
    assert beats(peer, 100) == []
    peer.want()
    assert beats(peer, 4) == []
    peer.leave()
    peer.want()  # a new wait is counted from the start
    assert beats(peer, 4) == []
    assert frozen.runs
    peer.close()


def test_while_others_come_and_go_nobody_is_killed(spawn, tmp_path: Path) -> None:
    """Starved, not frozen: whoever is seen stopped in passing (a tracer does that) lives."""
    passing = spawn(INSIDE)
    passing.hears()
    passing.stop()
    waiter, other = Holder(tmp_path), Holder(tmp_path)
    waiter.want()
    for _ in range(20):
        assert beats(waiter, 4) == []
        other.enter()
        other.leave()
    assert passing.runs
    waiter.close()
    other.close()


def test_a_pid_that_names_another_process_now_is_not_killed(spawn, tmp_path: Path, overwrite) -> None:
    innocent = spawn(INSIDE)
    innocent.hears()
    innocent.stop()
    at = slot_of(tmp_path, innocent.pid)
    overwrite(tmp_path / "holder", at + 1, 12345)  # the slot's process started at another time
    waiter = Holder(tmp_path)
    waiter.serve(8, lambda session_id: True)
    waiter.want()
    assert beats(waiter, 100) == []
    assert innocent.runs
    waiter.close()


def test_a_pid_that_names_another_process_now_hides_nobody(spawn, tmp_path: Path, overwrite) -> None:
    frozen = spawn(INSIDE)
    frozen.hears()
    frozen.stop()
    innocent = spawn(INSIDE)  # entered later: would hold, were it who it says
    innocent.hears()
    overwrite(tmp_path / "holder", slot_of(tmp_path, innocent.pid) + 1, 12345)
    waiter = Holder(tmp_path)
    waiter.want()
    assert beats(waiter, 5) == [Killed(frozen.pid, 7, "stopped")]
    waiter.close()


def test_a_pid_of_another_namespace_is_not_killed(spawn, tmp_path: Path, overwrite) -> None:
    innocent = spawn(INSIDE)
    innocent.hears()
    innocent.stop()
    overwrite(tmp_path / "holder", slot_of(tmp_path, innocent.pid) + 2, 12345)
    waiter = Holder(tmp_path)
    waiter.want()
    assert beats(waiter, 100) == []
    assert innocent.runs
    waiter.close()


def test_one_that_left_just_before_the_signal_is_not_killed(spawn, tmp_path: Path) -> None:
    """The slot is compared once more after everything else: here it moves on during the look."""
    hung = spawn("""
        holder = Holder(folder); holder.serve(7); holder.want(); holder.enter(); say("inside")
        sys.stdin.readline()
        holder.leave(); holder.want(); holder.enter(); say("inside again")
        rest()
    """)
    hung.hears()

    def stale_while_it_moves_on(session_id: int) -> bool:
        hung.tell("go")
        assert hung.hears() == "inside again"
        return True

    waiter = Holder(tmp_path)
    waiter.serve(8, stale_while_it_moves_on)
    waiter.want()
    assert beats(waiter, 5) == []
    assert hung.runs
    waiter.close()


def test_of_two_inside_the_later_one_holds(spawn, tmp_path: Path) -> None:
    """One stopped between its commit and `leave` still says inside, but the lock went on."""
    left = spawn(INSIDE)
    left.hears()
    left.stop()
    frozen = spawn(INSIDE)
    frozen.hears()
    frozen.stop()
    waiter = Holder(tmp_path)
    current = waiter.current()
    assert current is not None
    assert current.pid == frozen.pid
    waiter.want()
    assert beats(waiter, 5) == [Killed(frozen.pid, 7, "stopped")]
    assert left.runs
    waiter.close()


@pytest.mark.parametrize("lock_beats", [4, 12, 240])
def test_one_stopped_before_it_could_say_inside_is_killed_after_lock_after(
    spawn, tmp_path: Path, lock_beats: int
) -> None:
    frozen, patient = spawn(WANTING), spawn(WANTING)
    frozen.hears()
    patient.hears()
    frozen.stop()
    waiter = Holder(tmp_path, lock_beats)
    waiter.want()
    assert beats(waiter, lock_beats) == []
    assert beats(waiter, 1) == [Killed(frozen.pid, 7, "stopped")]
    assert frozen.exit_code() == -signal.SIGKILL
    assert beats(waiter, 100) == []
    assert patient.runs
    waiter.close()


def test_one_that_wants_and_whose_heart_beats_is_not_killed_however_long_it_takes(
    spawn, tmp_path: Path
) -> None:
    """It waits too: beside it another keeps the lock and was not seen yet."""
    starved, hung = spawn(WANTING), spawn(WANTING.replace("7", "8"))
    starved.hears()
    hung.hears()
    waiter = Holder(tmp_path, 4)
    waiter.serve(9, {8}.__contains__)
    waiter.want()
    assert beats(waiter, 5) == [Killed(hung.pid, 8, "stale")]
    hung.exit_code()
    assert beats(waiter, 100) == []
    assert starved.runs
    waiter.close()


def test_a_process_never_kills_itself(tmp_path: Path) -> None:
    """Two stores of one process: the one inside is this very process."""
    inside = Holder(tmp_path)
    inside.serve(7, lambda session_id: True)
    inside.enter()
    waiter = Holder(tmp_path)
    waiter.serve(8, lambda session_id: True)
    waiter.want()
    assert beats(waiter, 100) == []
    current = waiter.current()
    assert current is not None
    assert (current.pid, current.session_id) == (os.getpid(), 7)
    inside.close()
    assert waiter.current() is None
    waiter.close()


def test_slots_are_given_back_by_close_and_by_death(spawn, tmp_path: Path) -> None:
    first = Holder(tmp_path)
    owner = spawn(INSIDE)
    owner.hears()
    at = slot_of(tmp_path, owner.pid)
    owner.kill()
    second = Holder(tmp_path)
    assert slot_of(tmp_path, os.getpid()) == SLOT_WORDS
    assert memoryview((tmp_path / "holder").read_bytes()).cast("Q")[at] == os.getpid()
    first.close()
    first.close()
    third = Holder(tmp_path)
    assert slot_of(tmp_path, os.getpid()) == SLOT_WORDS
    second.close()
    third.close()


def test_more_processes_than_slots_are_refused_with_the_number(tmp_path: Path) -> None:
    taken = [Holder(tmp_path) for _ in range(holder_module.SLOTS)]
    try:
        with pytest.raises(StoreBusy, match=str(holder_module.SLOTS)):
            Holder(tmp_path)
    finally:
        for each in taken:
            each.close()


def test_a_holder_file_of_another_layout_is_refused_while_its_processes_run(
    spawn, tmp_path: Path, overwrite
) -> None:
    other = spawn(OUTSIDE)
    other.hears()
    overwrite(tmp_path / "holder", 0, 1)
    with pytest.raises(StoreIncompatible, match="another version"):
        Holder(tmp_path)
    other.kill()
    other.exit_code()
    Holder(tmp_path).close()


def test_a_holder_file_of_another_layout_that_nobody_uses_is_made_anew(tmp_path: Path, overwrite) -> None:
    Holder(tmp_path).close()
    for word in range(3 * SLOT_WORDS):
        overwrite(tmp_path / "holder", word, 1 << 62)
    first = Holder(tmp_path)
    first.want()
    first.enter()
    second = Holder(tmp_path)
    assert first.current() == second.current() is not None
    assert second.others() == [os.getpid()]
    first.close()
    second.close()


LMDB_WRITER = """
import lmdb
holder = Holder(folder)
env = lmdb.open(str(folder))
holder.want()
txn = env.begin(write=True)
holder.enter()
txn.put(b"half", b"done")
say("inside")
rest()
"""


def test_a_store_frozen_by_a_stopped_writer_goes_on(spawn, tmp_path: Path) -> None:
    frozen = spawn(LMDB_WRITER)
    frozen.hears()
    frozen.stop()
    holder, env = Holder(tmp_path), lmdb.open(str(tmp_path))
    kills: list[Killed | None] = []
    heartbeat = Heartbeat([lambda: kills.append(holder.unfreeze())], interval_s=0.005)
    heartbeat.start()

    def write() -> None:
        holder.want()
        with env.begin(write=True) as txn:
            holder.enter()
            txn.put(b"whole", b"written")
        holder.leave()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(20)
    assert not writer.is_alive()
    heartbeat.stop()
    assert [killed for killed in kills if killed] == [Killed(frozen.pid, 0, "stopped")]
    with env.begin() as txn:
        assert list(txn.cursor()) == [(b"whole", b"written")]
    env.close()
    holder.close()


def test_a_process_without_a_session_counts_the_heartbeats_itself(spawn, tmp_path: Path) -> None:
    """One that starts, or a command: it too waits for the lock, and maybe nobody else is there."""
    script = """
        own, holder = OwnSession(folder, {0}), Holder(folder)
        Heartbeat([own.beat], interval_s=0.001).start() if {1} else None
        holder.serve({0}); holder.want(); {2}; say("holds"); rest()
    """
    hung, beating = spawn(script.format(7, 0, "holder.enter()")), spawn(script.format(8, 1, "0"))
    hung.hears()
    beating.hears()
    hearts, waiter = Hearts(tmp_path, 12), Holder(tmp_path)
    waiter.serve(0, hearts.stand_still)
    waiter.want()
    peer, killed = Peer(tmp_path, 8), list[Killed]()
    while not killed:
        seen = peer.heartbeat
        until(lambda seen=seen: peer.heartbeat != seen, "a beat of the one whose heart beats")
        hearts.sample()
        killed += beats(waiter, 1)
    assert killed == [Killed(hung.pid, 7, "stale")]
    assert hung.exit_code() == -signal.SIGKILL and beating.runs
    peer.close()
    hearts.close()
    waiter.close()
