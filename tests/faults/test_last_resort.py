"""C code that keeps the interpreter's lock stops every thread of Python, the watchdog's too: the engine ends
all the same, says which thread it was, and a message that always does so is a dead letter in the end."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from engine_process import Project, until

from iii.model import ARCHIVE, Enqueue, Txn

MakeProject = Callable[[str], Project]

STEP = """
import ctypes, re

config = {{"name": "Keeps", "triggers": [{{"type": "queue", "topic": "in"}}]}}


{handler}:
    {keeps}
"""
CONFIG = "store: {path: data}\nconsole: {enabled: false}\nhealth: {stuck_after: 1s}\nlog: {format: text}\n"
MATCH, WAIT = 're.match(r"(a+)+$", "a" * 60 + "b")', "ctypes.PyDLL(None).sleep(100_000)"
HELD = {
    "a match on the loop": ("async def handler(input)", MATCH, "the event loop's own thread"),
    "a match in a thread": ("def handler(input)", MATCH, r"thread iii-step_\d+"),
    "a call that waits in a thread": ("def handler(input)", WAIT, "a thread that waits"),
}


@pytest.mark.parametrize("held", HELD)
async def test_c_code_that_keeps_the_interpreters_lock_ends_the_engine_and_is_buried_after_max_crashes(
    make_project: MakeProject, held: str
) -> None:
    handler, keeps, thread = HELD[held]
    project = make_project(STEP.format(handler=handler, keeps=keeps))
    (project.folder / "iii-config.yaml").write_text(CONFIG)
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b"1")]))
    for _ in range(2):
        engine = project.start()
        assert await engine.ended() == 1
        *above, last = engine.text.splitlines()
        assert re.match(rf"error: {thread} keeps the interpreter's lock in C code", last), engine.text
        assert any(re.search(r'the_step\.py", line \d+ in handler', line) for line in above), engine.text
    engine = project.start()
    await engine.address()
    async with project.store() as store:
        await until(lambda: store.waiting("in.failed", step=ARCHIVE), "a dead letter", lambda: engine.text)
        (letter,) = store.waiting("in.failed", step=ARCHIVE)
        assert letter.dead is not None and letter.dead.error.startswith(
            "worker died: 4 times, 2 of them alone"
        )
        assert store.unsettled() == 0 and store.verify() == []
    assert await engine.stop() == 0


async def test_peers_go_on_beside_one_whose_threads_all_stand_still(make_project: MakeProject) -> None:
    """It keeps its messages, and the write lock where it had that; nothing but its peers ends it here."""
    project = make_project(
        STEP.format(
            handler="def handler(input, ctx)",
            keeps="ctx.state.set('ns', str(input), 1)\n    if input == 0 and ctx.attempt == 1: " + WAIT,
        )
    )
    (project.folder / "iii-config.yaml").write_text(
        CONFIG.replace("stuck_after: 1s", "stuck_after: 0").replace(
            "path: data", "path: data, lock_after: 1s"
        )
    )
    first = project.start()
    await first.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b"0")]))
        await until(lambda: [lane for lane in store.stats() if lane.leased], "it stands still")
        second = project.start()
        await second.address()
        for number in range(1, 50):
            await store.commit(Txn([Enqueue("in", b"%d" % number)]))
        await until(lambda: len(store.scan("ns")) >= 49, "the others done", lambda: second.text)
    assert await second.stop() == 0
