"""A blocked event loop is told of while it is blocked, once, with the step that blocks it and where."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from deadline import DEADLINE_S
from engine.engine_kit import running, step
from watchdog_kit import Told
from wrapper_kit import forgets_to_await, plain

from iii.running.watchdog import Watchdog

QUEUE = {"type": "queue", "topic": "in"}


@pytest.mark.parametrize("waits_first", [False, True])
async def test_the_step_that_blocks_is_named_with_the_line_where_it_stands(
    told: Told, waits_first: bool
) -> None:
    async def handler(data: Any) -> None:
        if waits_first:
            await asyncio.sleep(0)
        assert told.blocked.wait(DEADLINE_S)  # here it stands

    async with running(step(handler, QUEUE, name="Blocker")) as app:
        await app.send("in")
        await app.settle()
        (warning,) = told.warnings
        assert warning.startswith("step Blocker blocks the event loop for over 1.0 s")
        assert "# here it stands" in warning and "iii/running" not in warning
        assert vars(told.records[0])["iii_step"] == "Blocker"


@pytest.mark.parametrize("waits_first", [False, True])
async def test_the_step_is_named_where_a_wrapped_handler_blocks(told: Told, waits_first: bool) -> None:
    async def handler(data: Any, ctx: Any) -> None:
        if waits_first:
            await asyncio.sleep(0)
        assert told.blocked.wait(DEADLINE_S)  # here it stands

    for wrapped in (plain(handler), forgets_to_await(handler)):
        told.blocked.clear()
        async with running(step(wrapped, QUEUE, name="Blocker")) as app:
            await app.send("in")
            await app.settle()
        assert told.warnings[-1].startswith("step Blocker blocks the event loop")
        assert "# here it stands" in told.warnings[-1]


async def test_one_block_is_one_warning_however_long_and_its_end_is_told(told: Told) -> None:
    watchdog = Watchdog(beat_s=0.01)
    assert told.blocked.wait(DEADLINE_S)
    threading.Event().wait(0.2)
    assert len(told.warnings) == 1 and told.warnings[0].startswith("something blocks the event loop")
    async with asyncio.timeout(DEADLINE_S):
        while len(told.records) < 2:
            await asyncio.sleep(0)
    assert told.records[1].getMessage().startswith("the event loop goes on")
    watchdog.stop()


async def test_a_loop_that_turns_is_never_told_of(told: Told) -> None:
    watchdog = Watchdog(beat_s=0.1)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.6
    while loop.time() < end:
        await asyncio.sleep(0.001)
    watchdog.stop()
    assert told.records == []


async def test_stopped_it_leaves_no_thread_behind(told: Told) -> None:
    before = threading.active_count()
    watchdog = Watchdog(beat_s=0.01)
    watchdog.stop()
    async with asyncio.timeout(DEADLINE_S):
        while threading.active_count() > before:
            await asyncio.sleep(0)
