"""Stale: locked, but its heartbeat stood still over 40 of the watcher's own beats. No clock takes part."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from deadline import until

from iii.store.lmdb.liveness import Heartbeat, OwnSession, Peer, Staleness, beats, verdict


def test_stale_after_forty_samples_without_a_change() -> None:
    staleness = Staleness()
    assert not staleness.is_stale(7)
    staleness.sample(7, 5)
    for _ in range(39):
        staleness.sample(7, 5)
        assert not staleness.is_stale(7)
    staleness.sample(7, 5)
    assert staleness.is_stale(7)


def test_how_long_one_stands_still_is_asked_in_any_number_of_beats() -> None:
    staleness = Staleness(beats(20_000))
    assert not staleness.stands_still(7, beats(3_000))
    for _ in range(1 + 12):
        assert not staleness.stands_still(7, beats(3_000))
        staleness.sample(7, 5)
    assert staleness.stands_still(7, beats(3_000)) and not staleness.is_stale(7)
    for _ in range(80 - 12):
        staleness.sample(7, 5)
    assert staleness.is_stale(7)


def test_one_heartbeat_in_forty_is_enough_to_be_alive() -> None:
    staleness = Staleness()
    for heartbeat in range(10):
        for _ in range(40):
            staleness.sample(7, heartbeat)
            assert not staleness.is_stale(7)


def test_one_that_wakes_up_is_stale_no_more() -> None:
    staleness = Staleness(beats_max=2)
    for _ in range(3):
        staleness.sample(7, 0)
    assert staleness.is_stale(7)
    staleness.sample(7, 1)
    assert not staleness.is_stale(7)


def test_one_whose_heartbeat_cannot_be_read_is_never_stale() -> None:
    staleness = Staleness(beats_max=2)
    staleness.sample(7, 0)
    for _ in range(5):
        staleness.sample(7, None)
    assert not staleness.is_stale(7)


def test_a_locked_session_with_a_board_of_another_layout_is_alive(spawn, tmp_path: Path, overwrite) -> None:
    """A newer version may run beside this one: what cannot be read is not judged."""
    owner = spawn(BEATING)
    owner.hears()
    overwrite(tmp_path / "sessions/7.board", 0, 1)
    peer, staleness = Peer(tmp_path, 7), Staleness(beats_max=2)
    for _ in range(5):
        staleness.sample(7, peer.heartbeat)
    assert verdict(peer, staleness) == "alive"
    owner.kill()
    owner.exit_code()
    assert verdict(peer, staleness) == "dead"


def test_sessions_are_counted_apart_and_forgotten() -> None:
    staleness = Staleness(beats_max=2)
    for beat in range(3):
        staleness.sample(7, 0)
        staleness.sample(8, beat)
    assert (staleness.is_stale(7), staleness.is_stale(8)) == (True, False)
    staleness.forget(7)
    staleness.forget(7)
    assert not staleness.is_stale(7)


BEATING = """
own = OwnSession(folder, 7)
Heartbeat([own.beat], interval_s=0.002).start()
say("open")
rest()
"""


def test_a_stopped_process_is_stale_a_killed_one_dead_a_beating_one_alive(spawn, tmp_path: Path) -> None:
    owner = spawn(BEATING)
    owner.hears()
    peer, staleness = Peer(tmp_path, 7), Staleness()
    first = peer.heartbeat
    until(lambda: peer.heartbeat > first + 3)
    for _ in range(60):
        seen = peer.heartbeat
        until(lambda seen=seen: peer.heartbeat != seen)
        staleness.sample(7, peer.heartbeat)
    assert verdict(peer, staleness) == "alive"
    owner.stop()
    for _ in range(41):
        staleness.sample(7, peer.heartbeat)
    assert verdict(peer, staleness) == "stale"
    owner.kill()
    assert verdict(peer, staleness) == "dead"
    peer.close()


def test_a_duty_that_raises_does_not_stop_the_heart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, beaten = OwnSession(tmp_path, 7), threading.Semaphore(0)

    def broken() -> None:
        raise ValueError("broken duty")

    heartbeat = Heartbeat([broken, own.beat, beaten.release], interval_s=0.001)
    heartbeat.start()
    for _ in range(3):
        assert beaten.acquire(timeout=20)
    heartbeat.stop()
    assert Peer(tmp_path, 7).heartbeat >= 3
    assert "broken duty" in caplog.text
    own.close()


def test_a_stopped_heart_beats_no_more(tmp_path: Path) -> None:
    own, beaten = OwnSession(tmp_path, 7), threading.Semaphore(0)
    heartbeat = Heartbeat([own.beat, beaten.release], interval_s=0.001)
    heartbeat.start()
    assert beaten.acquire(timeout=20)
    heartbeat.stop()
    heartbeat.stop()
    own.close()  # a beat after this would be reported as an error
    assert not any(thread.name == "iii-heartbeat" for thread in threading.enumerate())


def test_a_heart_that_never_started_stops() -> None:
    Heartbeat([]).stop()
