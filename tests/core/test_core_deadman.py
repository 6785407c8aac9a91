"""A dead man's switch ends a process that nobody came by in, whoever keeps the interpreter's lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from deadline import DEADLINE_S, until

PRELUDE = """
import ctypes, faulthandler, re, sys, threading
from pathlib import Path
from iii_core.deadman import Deadman

faulthandler.register(62, file=2)
switch = Deadman(0.05, 6, 62, 2, b" held it all the time")


def compute():
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("who-computes")
    re.match(r"(a+)+$", "a" * 60 + "b")


def turn_until(done):
    while not done():
        threading.Event().wait(0.005)
        switch.turn()
"""
HOLDS = {
    "a match that explodes": ("compute()", "the event loop's own thread"),
    "one in another thread": (
        "threading.Thread(target=compute, daemon=True).start(); turn_until(bool)",
        "thread who-computes",
    ),
    "a call that waits": ("ctypes.PyDLL(None).sleep(1000)", "a thread that waits"),
}


class Script:
    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err


@pytest.fixture
def run() -> Iterator[Any]:
    scripts: list[Script] = []

    def start(script: str) -> Script:
        scripts.append(Script(script))
        return scripts[-1]

    yield start
    for script in scripts:
        script.process.kill()
        script.process.communicate()


@pytest.mark.parametrize("holds", HOLDS)
def test_it_ends_the_process_with_all_stacks_and_names_the_thread_that_ran(run: Any, holds: str) -> None:
    script, name = HOLDS[holds]
    code, _, err = run(script).end()
    assert code == 1
    assert err.splitlines()[-1] == f"error: {name} held it all the time"
    assert "(most recent call first):" in err and 'File "<string>"' in err


def test_who_comes_by_now_and_then_is_let_live_and_who_stops_it_is_never_ended(run: Any) -> None:
    code, out, err = run("""
turns = iter(range(200))
turn_until(lambda: next(turns) == 199)  # a second and more: several times as long as it waits
switch.stop(); switch.stop(); switch.turn()
threading.Event().wait(0.6)
print("alive")
""").end()
    assert (code, out, err) == (0, "alive\n", "")


def test_a_process_that_was_stopped_goes_on(run: Any) -> None:
    process = run("""
threading.Thread(target=turn_until, args=(lambda: False,), daemon=True).start()
for line in sys.stdin:
    print("here", flush=True)
""").process

    def answers() -> bool:
        process.stdin.write("there?\n")
        process.stdin.flush()
        return bool(process.stdout.readline() == "here\n")

    assert answers()
    for _ in range(3):
        os.kill(process.pid, signal.SIGSTOP)
        asleep = time.monotonic()
        until(lambda asleep=asleep: time.monotonic() > asleep + 0.6, "twice as long as it waits")
        os.kill(process.pid, signal.SIGCONT)
        assert answers()


@pytest.mark.parametrize("args", [(0.0, 1, b""), (61.0, 1, b""), (0.1, 0, b""), (0.1, 1, b"x" * 256)])
def test_what_it_cannot_keep_to_is_refused(args: tuple[float, int, bytes]) -> None:
    from iii_core.deadman import Deadman

    beat_s, beats_max, words = args
    with pytest.raises(ValueError, match="words of less than 256 bytes"):
        Deadman(beat_s, beats_max, 62, 2, words)
