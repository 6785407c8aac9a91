"""`iii instances`: who runs on the store, whoever started them, and how they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from deadline import until
from instances_kit import Project

from iii.clock import FakeClock, SystemClock
from iii.store.lmdb.liveness import BEAT_S, STALE_BEATS, OwnSession
from iii.store.lmdb.roster import STUCK_MS, roster


def by_pid(project: Project) -> dict[int, dict[str, Any]]:
    return {row["pid"]: row for row in project.iii_json("instances")}


def test_it_lists_supervised_and_hand_started_engines_alike(project: Project) -> None:
    engines = project.start("--instances", "2").until_ready()
    beside = project.start("--no-http").until_ready()
    rows = by_pid(project)
    assert set(rows) == {*engines.children(), beside.pid}
    for row in rows.values():
        assert {name: row[name] for name in ("health", "in_flight", "requests", "settled", "lanes")} == {
            "health": "ready", "in_flight": 0, "requests": 0, "settled": 0, "lanes": 2
        }  # fmt: skip
        assert 0 < row["uptime_ms"] < 600_000
    table = project.iii("instances").stdout.splitlines()
    assert table[0].split() == [
        "pid", "health", "uptime", "in", "flight", "requests", "messages/s", "lanes", "session",
    ]  # fmt: skip
    assert len(table) == 4


def test_it_tells_what_runs_what_was_settled_and_who_drains(project: Project) -> None:
    engine = project.start()
    engine.post("a")
    until(project.starts, "a start")
    assert by_pid(project)[engine.pid]["in_flight"] == 1
    project.open_gate("a")
    until(lambda: project.rows()[0].in_flight == 0, "the end of it")
    (row,) = by_pid(project).values()
    assert (row["settled"], row["messages_per_s"] > 0) == (1, True)
    engine.post("b")
    until(lambda: len(project.starts()) == 2, "another start")
    engine.signal(signal.SIGTERM)
    until(lambda: project.rows()[0].health == "draining", "the drain")
    project.open_gate("all")
    assert engine.ended() == 0
    assert by_pid(project) == {}
    assert project.iii("instances").stdout == "no engine runs on this store\n"


def test_it_names_the_stopped_and_leaves_out_the_dead(project: Project) -> None:
    stopped, killed = project.start().until_ready(), project.start("--port", "0").until_ready()
    os.kill(stopped.pid, signal.SIGSTOP)
    killed.signal(signal.SIGKILL)
    killed.ended()
    assert {row.pid: row.health for row in project.rows()} == {stopped.pid: "stopped"}
    os.kill(stopped.pid, signal.SIGCONT)
    until(lambda: [row.health for row in project.rows()] == ["ready"], "it goes on")


def test_a_session_whose_heart_stands_still_is_stale(tmp_path: Path) -> None:
    own = OwnSession(tmp_path, 7)
    clock = FakeClock(delay_ms=SystemClock().delay_ms())
    assert roster(tmp_path, clock)[0].health == "starting"
    clock.advance(round(1000 * BEAT_S * STALE_BEATS) + 1000)
    (row,) = roster(tmp_path, clock)
    assert (row.health, row.messages_per_s) == ("stale", 0.0)
    own.close()


def test_one_whose_loop_stands_still_is_stuck_and_since_when_is_told(tmp_path: Path) -> None:
    own, older = OwnSession(tmp_path, 7, number=2), OwnSession(tmp_path, 8)
    own.turn()
    clock = FakeClock(delay_ms=SystemClock().delay_ms())
    clock.advance(STUCK_MS - 1000)
    assert [row.health for row in roster(tmp_path, clock)] == ["starting", "starting"]
    clock.advance(2000)
    row, silent = roster(tmp_path, clock)
    assert (row.health, row.instance) == ("stuck", 2) and STUCK_MS <= row.stuck_ms <= STUCK_MS + 2000
    assert (silent.health, silent.stuck_ms) == ("starting", 0), "an older version does not say"
    clock.advance(20_000)
    assert {each.health for each in roster(tmp_path, clock)} == {"stale"}
    assert {each.health for each in roster(tmp_path, clock, stale_ms=300_000)} == {"stuck", "starting"}
    own.close()
    older.close()


def test_without_a_store_there_is_nobody(project: Project) -> None:
    assert by_pid(project) == {}
    assert not project.data.exists(), "looking makes no store"
