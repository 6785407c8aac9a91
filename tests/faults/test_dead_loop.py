"""An event loop that stands still is a dead engine: its process ends, and what held the loop is to blame."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from deadline import DEADLINE_S
from engine.engine_kit import running, step
from engine_process import EngineProcess, Project, until
from watchdog_kit import Told

from iii.config import HealthConfig
from iii.errors import LoopStuck
from iii.model import ARCHIVE, Enqueue, Txn
from iii.running.watchdog import Stuck, Watchdog
from iii.web.request import Request

MakeProject = Callable[[str], Project]
QUEUE = {"type": "queue", "topic": "in"}
STUCK_AFTER_S = 1.0

POISON = """
import asyncio, ctypes, re, time
from pathlib import Path

config = {{"name": "Poison", "triggers": [{{"type": "queue", "topic": "in"}}]}}
here = Path(__file__).parent.parent


async def blocks():
    time.sleep(1e9)


async def handler(input, ctx):
    await asyncio.sleep(0)
    with (here / "journal").open("a") as journal:
        journal.write(f"{{input}}\\n")
    while input == "innocent" and not (here / "gate").exists():
        await asyncio.sleep(0.01)
    if input == "poison":
        while not (here / "journal").read_text().count("innocent"):
            await asyncio.sleep(0.01)
        {poison}
"""

IDLE = """
config = {"name": "Other", "triggers": [{"type": "queue", "topic": "other"}]}


async def handler(input, ctx):
    pass
"""

KNOWN = {
    "computes for ever": "while True: pass",
    "sleeps": "time.sleep(1e9)",
    "blocks in a task of its own": "await asyncio.gather(blocks(), asyncio.sleep(1))",
}


def configure(project: Project, stuck_after_s: float = STUCK_AFTER_S) -> None:
    (project.folder / "iii-config.yaml").write_text(
        f"store: {{path: data}}\nconsole: {{enabled: false}}\nlog: {{format: text}}\n"
        f"health: {{stuck_after: {round(stuck_after_s * 1000)}}}\n"
    )


def starts(project: Project) -> list[str]:
    journal = project.folder / "journal"
    return journal.read_text().split() if journal.exists() else []


async def started(project: Project) -> EngineProcess:
    engine = project.start()
    await engine.address()
    return engine


@pytest.mark.parametrize("poison", KNOWN)
async def test_a_message_that_always_blocks_is_a_dead_letter_after_max_crashes_and_blames_nobody_else(
    make_project: MakeProject, poison: str
) -> None:
    project = make_project(POISON.format(poison=KNOWN[poison]))
    configure(project)
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b'"innocent"'), Enqueue("in", b'"poison"')]))
    for _ in range(2):
        engine = project.start()
        assert await engine.ended() == 1
        last = engine.text.splitlines()[-1]
        assert last == "error: step Poison holds the event loop: it has not turned for 1 s; ended"
        assert "All threads:\n  Thread " in engine.text and "Thread iii-writer:" in engine.text
    (project.folder / "gate").touch()
    last_engine = await started(project)
    async with project.store() as store:
        await until(
            lambda: store.waiting("in.failed", step=ARCHIVE), "a dead letter", lambda: last_engine.text
        )
        (letter,) = store.waiting("in.failed", step=ARCHIVE)
        assert letter.dead is not None and letter.payload == b'"poison"'
        assert letter.dead.error == "worker died: 4 times, 2 of them alone, while this message ran"
        await until(lambda: store.unsettled() == 0, "the innocent one's end")
        assert store.verify() == []
    assert starts(project).count("poison") == 4
    assert await last_engine.stop() == 0


async def test_the_others_of_a_loop_that_was_held_come_back_unmarked(make_project: MakeProject) -> None:
    project = make_project(POISON.format(poison=KNOWN["sleeps"]))
    configure(project)
    async with project.store() as store:
        await store.commit(
            Txn([Enqueue("in", b'"innocent"') for _ in range(3)] + [Enqueue("in", b'"poison"')])
        )
    assert await project.start().ended() == 1
    async with project.store() as store:
        await store.open_session([])
        crashes = sorted((row.payload, row.crashes) for row in store.waiting("in"))
        assert crashes == [*[(b'"innocent"', 0)] * 3, (b'"poison"', 1)]


async def test_a_process_that_was_stopped_for_long_goes_on(make_project: MakeProject) -> None:
    project = make_project(POISON.format(poison="pass"))
    configure(project)
    engine = await started(project)
    os.kill(engine.pid, signal.SIGSTOP)
    asleep = time.monotonic()
    await until(lambda: time.monotonic() > asleep + 3 * STUCK_AFTER_S, "the end of the night")
    os.kill(engine.pid, signal.SIGCONT)
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b'"innocent"'), Enqueue("in", b'"poison"')]))
        (project.folder / "gate").touch()
        await until(lambda: store.unsettled() == 0, "both done", lambda: engine.text)
    assert await engine.stop() == 0
    assert "event loop" not in engine.text


async def test_a_start_that_takes_long_is_no_dead_loop(make_project: MakeProject) -> None:
    project = make_project("import threading\nthreading.Event().wait(2.5)\n" + POISON.format(poison="pass"))
    configure(project)
    engine = await started(project)
    assert await engine.stop() == 0


async def test_switched_off_a_loop_that_stands_still_is_told_of_and_nothing_more(
    make_project: MakeProject,
) -> None:
    project = make_project(POISON.format(poison="time.sleep(3)"))
    configure(project, 0)
    engine = await started(project)
    (project.folder / "gate").touch()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b'"innocent"'), Enqueue("in", b'"poison"')]))
        await until(lambda: store.unsettled() == 0, "both done", lambda: engine.text)
    assert await engine.stop() == 0
    assert "step Poison blocks the event loop" in engine.text and "All threads" not in engine.text


# --------------------------------------------------------------------------------------------- embedded


async def test_an_embedded_engine_says_that_it_has_failed_and_lets_its_host_live(told: Told) -> None:
    async def handler(data: Any) -> None:
        assert told.critical.wait(DEADLINE_S)  # here it stands
        while app.engine.failure is None:
            threading.Event().wait(0.001)

    async with running(step(handler, QUEUE, name="Blocker"), health=HealthConfig(1_000)) as app:
        assert app.engine.failure is None
        await app.send("in")
        async with asyncio.timeout(DEADLINE_S):
            await app.engine.failed.wait()
        assert isinstance(app.engine.failure, LoopStuck)
        assert str(app.engine.failure).startswith("step Blocker holds the event loop")
        await app.settle()


class Ends:
    """What a watchdog says to who armed it."""

    def __init__(self) -> None:
        self.said, self.heard = list[Stuck](), threading.Event()

    def __call__(self, stuck: Stuck) -> None:
        self.said.append(stuck)
        self.heard.set()


async def test_who_holds_the_loop_without_being_a_handler_is_told_by_its_place(told: Told) -> None:
    ends, watchdog = Ends(), Watchdog(beat_s=0.01)
    watchdog.arm(100, ends)
    assert ends.heard.wait(DEADLINE_S)  # here it stands
    watchdog.stop()
    (stuck,) = ends.said
    assert stuck.message_ids is None, "it is not known whose fault it is: all that ran count a crash"
    assert str(stuck.error).startswith("the loop's own thread, in wait (")
    assert "# here it stands" in told.records[-1].getMessage()


async def test_a_request_that_holds_the_loop_blames_no_message(told: Told) -> None:
    ends = Ends()

    async def handler(request: Any) -> None:
        assert ends.heard.wait(DEADLINE_S)

    route = {"type": "http", "method": "GET", "path": "/"}
    async with running(step(handler, route, name="Page")) as app:
        app.engine._watchdog.arm(500, ends)
        await app.engine.endpoint.answer(Request("GET", "/"))
    (stuck,) = ends.said
    assert stuck.message_ids == () and str(stuck.error).startswith("step Page holds")


async def test_a_loop_that_turns_now_and_then_is_never_given_up(told: Told) -> None:
    ends, watchdog = Ends(), Watchdog(beat_s=0.02)
    watchdog.arm(2_000, ends)
    for _ in range(6):
        threading.Event().wait(0.4)  # a fifth of it each time, more than that in all
        await asyncio.sleep(0)
    watchdog.stop()
    assert ends.said == []


async def test_a_second_signal_ends_an_engine_whose_loop_stands_still_and_blames_no_message(
    make_project: MakeProject,
) -> None:
    project = make_project(POISON.format(poison="time.sleep(1e9)"))
    configure(project, stuck_after_s=0)
    engine = await started(project)
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b'"innocent"'), Enqueue("in", b'"poison"')]))
        await until(lambda: "blocks the event loop" in engine.text, "a loop that stands still")

        def ended() -> bool:
            engine.process.send_signal(signal.SIGTERM)
            return engine.process.poll() is not None

        await until(ended, "its end", lambda: engine.text)
        assert engine.process.returncode == 128 + signal.SIGTERM
        (project.folder / "steps" / "the_step.py").write_text(IDLE)
        await started(project)
        await until(lambda: all(each.state == "ready" for each in store.waiting("in")), "both given back")
        assert [each.crashes for each in store.waiting("in")] == [0, 0]
