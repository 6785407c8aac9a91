"""Of several instances one whose event loop stands still: it is shown, it is ended, the others go on."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any
from urllib.request import urlopen

from deadline import DEADLINE_S, until
from instances_kit import CONFIG, Project


def configure(project: Project, stuck_after: str) -> None:
    (project.folder / "iii-config.yaml").write_text(f"{CONFIG}health: {{stuck_after: {stuck_after}}}\n")


def get(url: str) -> tuple[int, Any]:
    with urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.status, json.load(answer)


def test_a_message_that_always_blocks_ends_as_a_dead_letter_and_the_others_are_done(project: Project) -> None:
    configure(project, "1s")
    engines = project.start("--instances", "2")
    before = engines.children() if engines.post("waits") else set()
    until(lambda: len(project.starts()) == 1, "a start")
    engines.post("blocks")
    until(lambda: project.iii_json("queue", "dead", "gated.failed"), "a dead letter")
    (group,) = project.iii_json("queue", "dead", "gated.failed")
    assert group["error"] == "worker died: 4 times, 2 of them alone, while this message ran", group
    blocked = [pid for name, pid in project.starts() if name == "blocks"]
    assert len(set(blocked)) == len(blocked) == 4
    for pid in blocked:
        assert f"(pid {pid}) died " in engines.logged
    assert (
        engines.logged.count("step Gated holds the event loop: it has not turned for 1 s. All threads:") == 4
    )
    assert engines.logged.count("exit code 1: error: step Gated holds the event loop") == 4
    project.open_gate("all")
    until(lambda: project.effects() == {"waits": 1}, "the other one's effect")
    assert before - engines.children(), "who was blocked was replaced"
    engines.signal(signal.SIGTERM)
    assert engines.ended() == 0, engines.told


KEEPS = """
import ctypes
config = {"name": "Keeps", "triggers": [{"type": "queue", "topic": "keeps"}]}
def handler():
    ctypes.PyDLL(None).sleep(100_000)  # C code with the interpreter's lock: not one thread goes on
"""


def test_c_code_that_keeps_the_interpreters_lock_ends_its_instance_and_not_for_ever(project: Project) -> None:
    configure(project, "1s")
    project.write_step(KEEPS, "keeps")
    engines = project.start("--instances", "2").until_ready()
    assert project.iii("enqueue", "keeps", "1").returncode == 0
    until(lambda: project.iii_json("queue", "dead", "keeps.failed"), "a dead letter")
    (group,) = project.iii_json("queue", "dead", "keeps.failed")
    assert group["error"] == "worker died: 4 times, 2 of them alone, while this message ran"
    assert engines.logged.count('keeps_step.py", line 5 in handler') == 4
    assert engines.logged.count("exit code 1: error: a thread that waits keeps the interpreter's lock") == 4
    project.open_gate("all")
    engines.post("a")
    until(lambda: project.effects() == {"a": 1}, "work done")


def test_one_that_stands_still_is_shown_while_the_others_answer(project: Project) -> None:
    configure(project, "0")
    engines = project.start("--instances", "2")
    engines.post("blocks")
    until(project.starts, "a start")
    ((_, pid),) = project.starts()
    (number,) = [n for n in (1, 2) if f"instance {n} is ready, pid {pid}" in engines.logged]

    def stuck() -> Any:
        return [row for row in project.iii_json("instances") if row["health"] == "stuck"]

    (row,) = until(stuck, "it is stuck")
    assert (row["pid"], row["instance"]) == (pid, number) and row["stuck_ms"] >= 2000
    status, body = get(f"{engines.address()}/health")
    assert (status, body["status"]) == (200, "ok")
    (told,) = body["stuck"]
    assert (told["instance"], told["pid"]) == (number, pid) and told["since_s"] >= 2
    assert "stuck" in project.iii("instances").stdout
    assert engines.children() >= {pid}, "and nobody ended it: health.stuck_after is off"


def test_one_that_was_stopped_for_long_is_not_ended_when_it_goes_on(project: Project) -> None:
    configure(project, "1s")
    engines = project.start("--instances", "2").until_ready()
    before = engines.children()
    stopped = min(before)
    os.kill(stopped, signal.SIGSTOP)
    asleep = time.monotonic()
    until(
        lambda: time.monotonic() > asleep + 6, "longer than it may stand still, and than the supervisor waits"
    )
    assert {row.health for row in project.rows()} == {"ready", "stopped"}
    os.kill(stopped, signal.SIGCONT)
    until(lambda: {row.health for row in project.rows()} == {"ready"}, "it goes on")
    project.open_gate("all")
    engines.post("a", "b")
    until(lambda: project.effects() == {"a": 1, "b": 1}, "work done")
    assert engines.children() == before
