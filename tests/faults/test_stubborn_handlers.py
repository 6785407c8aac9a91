"""Handlers that do not end when they are told to: slot, message and engine go on without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine.engine_kit import running, step
from engine_process import Project, until

from iii.model import Enqueue, Txn
from iii.running.invoke import GRACE_MS

MakeProject = Callable[[str], Project]

STUBBORN = """
import asyncio, threading

config = {{"name": "Stubborn", "triggers": [{{"type": "queue", "topic": "in"}}]}}


async def stand():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


{handler}
"""

HANDLERS = {
    "ignores its cancellation": "async def handler(input, ctx):\n    await stand()\n",
    "leaves a task behind that does": "async def handler(input, ctx):\n    asyncio.ensure_future(stand())\n",
    "blocks a thread": "def handler(input, ctx):\n    threading.Event().wait()\n",
}


async def test_a_handler_that_ignores_its_cancellation_is_ended_after_a_while_and_its_slot_is_free() -> None:
    entered: list[Any] = []

    async def handler(data: Any) -> None:
        entered.append(data)
        while data == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    knobs = {"concurrency": 1, "timeout": "30s", "max_retries": 0}
    trigger = {"type": "queue", "topic": "in", "config": knobs}
    async with running(step(handler, trigger)) as app:
        await app.send("in", "stubborn")
        await app.send("in", "next")
        async with asyncio.timeout(20):
            while not entered:
                await asyncio.sleep(0)
        app.clock.advance(30_000)
        for _ in range(20):
            await asyncio.sleep(0)
        assert entered == ["stubborn"], "it may clean up for a while"
        app.clock.advance(GRACE_MS)
        await app.settle()
        assert entered == ["stubborn", "next"]
        (letter,) = app.letters("in.failed")
        assert letter.dead is not None and letter.dead.error.startswith("timeout")
        assert app.store.unsettled() == 0


@pytest.mark.parametrize("handler", HANDLERS)
async def test_an_engine_stops_although_a_handler_does_not(make_project: MakeProject, handler: str) -> None:
    project = make_project(STUBBORN.format(handler=HANDLERS[handler]))
    (project.folder / "iii-config.yaml").write_text("store: {path: data}\nshutdown_timeout: 100ms\n")
    engine = project.start()
    await engine.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b"1")]))
        await until(lambda: [lane for lane in store.stats() if lane.leased or lane.done], "it runs")
    assert await engine.stop() == 0
    async with project.store() as store:
        rows = [(row.state, row.attempts, row.crashes) for row in store.waiting("in")]
        assert rows in ([], [("ready", 0, 0)]) and store.verify() == [], "given back, and nothing counted"
