"""A session lives exactly as long as its process: killed is dead at once, stopped is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from iii.errors import StoreBusy
from iii.store.lmdb.liveness import OwnSession, Peer, remove_files, session_file, session_ids
from iii.store.lmdb.session_lock import SessionLock

OWNER = """
own = OwnSession(folder, 7)
say("open")
rest()
"""


def test_a_killed_owner_is_dead_at_once(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    assert not Peer(tmp_path, 7).is_dead()
    owner.kill()  # a zombie still: nobody has reaped it
    assert Peer(tmp_path, 7).is_dead()


def test_a_stopped_owner_is_not_dead(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    owner.stop()
    assert not Peer(tmp_path, 7).is_dead()


def test_nothing_the_owner_asks_about_itself_drops_its_lock(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        own = OwnSession(folder, 7)
        me = Peer(folder, 7)
        assert not me.is_dead()
        assert verdict(me, Staleness()) == "alive"
        assert session_ids(folder) == [7]
        assert not remove_files(folder, 7)
        refuse_foreign(folder)
        assert mark_supervised(folder, os.getpid()) == 1
        try: OwnSession(folder, 7)
        except Exception as error: assert type(error).__name__ == "StoreBusy"
        else: raise SystemExit("a second session of the same id")
        Ringer(folder).ring([7])
        other = OwnSession(folder, 8); other.close()
        say("asked")
        rest()
    """)
    assert owner.hears() == "asked"
    assert not Peer(tmp_path, 7).is_dead()


def test_a_forked_grandchild_keeps_nothing_alive(spawn, tmp_path: Path) -> None:
    owner = spawn("""
        own = OwnSession(folder, 7)
        if os.fork() == 0:
            say(os.getpid())
        rest()
    """)
    grandchild = int(owner.hears())
    try:
        assert not Peer(tmp_path, 7).is_dead()
        owner.kill()
        assert Peer(tmp_path, 7).is_dead()
        os.kill(grandchild, 0)  # while it lives on
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_peer_that_asks_does_not_make_a_dead_session_look_alive_to_another(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    owner.kill()
    asker = spawn("""
        say("asking")
        while True: Peer(folder, 7).is_dead()
    """)
    asker.hears()
    assert all(Peer(tmp_path, 7).is_dead() for _ in range(2000))


def test_a_session_that_closes_leaves_no_file(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    assert session_ids(tmp_path) == [7]
    own.close()
    own.close()
    assert Peer(tmp_path, 7).is_dead()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_session_that_never_was_is_dead(tmp_path: Path) -> None:
    assert Peer(tmp_path, 7).is_dead()


def test_two_sessions_of_one_id_cannot_live(spawn, tmp_path: Path) -> None:
    spawn(OWNER).hears()
    with pytest.raises(StoreBusy, match=r"7\.lock"):
        OwnSession(tmp_path, 7)


def test_what_is_left_behind_is_removed_once_it_is_dead(spawn, tmp_path: Path) -> None:
    owner = spawn(OWNER)
    owner.hears()
    assert not remove_files(tmp_path, 7)
    assert {path.name for path in (tmp_path / "sessions").iterdir()} == {"7.lock", "7.board"}
    owner.kill()
    assert remove_files(tmp_path, 7)
    assert list((tmp_path / "sessions").iterdir()) == []
    assert remove_files(tmp_path, 7)


def test_left_behind_within_one_process_it_is_dead_too(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    own.start(1)
    own.close(remove=False)
    peer = Peer(tmp_path, 7)
    assert peer.is_dead()
    assert peer.running_ids() == [1]
    peer.close()
    assert remove_files(tmp_path, 7)


def test_a_sweep_never_takes_a_fresh_lock_file_from_under_its_owner(spawn, tmp_path: Path) -> None:
    sweeper = spawn("""
        (folder / "sessions").mkdir()
        say("sweeping")
        while True: remove_files(folder, 7)
    """)
    sweeper.hears()
    path = session_file(tmp_path, 7, "lock")
    for _ in range(2000):  # a few of them meet the sweep between making the file and locking it
        lock = SessionLock(path)
        assert path.exists()
        lock.release(remove=True)
    for _ in range(100):
        own = OwnSession(tmp_path, 7)
        assert session_file(tmp_path, 7, "board").exists()
        own.close()
    assert sweeper.runs


def test_a_board_that_cannot_be_made_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "sessions" / "7.board").mkdir(parents=True)
    with pytest.raises(OSError, match="7"):
        OwnSession(tmp_path, 7)
    assert Peer(tmp_path, 7).is_dead()
