"""A topic that nobody serves is told of once, with the nearest one: it may be a typo."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from engine.engine_kit import running, step

from iii.handling.context import Context
from iii.handling.unserved import TOLD_MAX, Unserved
from iii.model import Enqueue, Txn
from iii.store.memory import MemoryTables


def queue(topic: str) -> dict[str, Any]:
    return {"type": "queue", "topic": topic}


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "no step serves" in record.getMessage()]


async def test_a_handler_that_declares_nothing_is_told_of_a_topic_without_a_step_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def resize(data: Any, ctx: Context) -> None:
        await ctx.enqueue("image.resizd", data)
        await ctx.enqueue("image.resized", data)
        await ctx.enqueue("uploaded.failed", data)

    async def notify(data: Any) -> None: ...

    steps = (
        step(resize, queue("uploaded"), name="Resize"),
        step(notify, queue("image.resized"), name="Notify"),
    )
    async with running(*steps) as app:
        for _ in range(3):
            await app.send("uploaded")
        await app.settle()
        (warning,) = _warnings(caplog)
        assert '"image.resizd"; did you mean "image.resized"?' in warning and "7d" in warning


async def test_what_is_declared_or_served_by_another_instance_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def declares(data: Any, ctx: Context) -> None:
        await ctx.enqueue("nobody", data)

    async def declares_nothing(data: Any, ctx: Context) -> None:
        await ctx.enqueue("elsewhere", data)

    async def elsewhere(data: Any) -> None: ...

    tables = MemoryTables()
    steps = (
        step(declares, queue("a"), name="A", enqueues=["nobody"]),
        step(declares_nothing, queue("b"), name="B"),
    )
    async with (
        running(step(elsewhere, queue("elsewhere"), name="Elsewhere"), tables=tables),
        running(*steps, tables=tables) as app,
    ):
        await app.send("a")
        await app.send("b")
        await app.settle()
        assert _warnings(caplog) == []


async def test_a_message_from_outside_is_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(data: Any) -> None: ...

    async with running(step(handler, queue("in"))) as app:
        await app.send("on")
        assert len(_warnings(caplog)) == 1


def test_of_topics_without_end_the_first_are_told_of_and_looked_up(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []
    unserved = Unserved(["in"], lambda topic: bool(asked.append(topic)))
    for number in range(2 * TOLD_MAX):
        unserved.notice(f"user-{number}")
        unserved.notice("in")
    told = _warnings(caplog)
    assert len(asked) == len(told) == TOLD_MAX
    assert [warning for warning in told if "iii queue list" in warning] == told[-1:]


async def test_a_new_topic_costs_the_same_however_many_there_are() -> None:
    """Counted in calls of functions, so that no clock decides."""
    async with running(step(_sends, queue("in"))) as app:
        few = await _calls(app, "few")
        await app.engine.store.commit(Txn([Enqueue(f"known-{number}", b"1") for number in range(500)]))
        assert await _calls(app, "many") < 2 * few


async def _sends(data: Any) -> None: ...


async def _calls(app: Any, name: str) -> int:
    """Calls of Python functions while 20 new topics are sent to."""
    counted = [0]

    def count(frame: Any, event: str, arg: Any) -> None:
        counted[0] += event == "call"

    sys.setprofile(count)
    try:
        for number in range(20):
            await app.send(f"{name}-{number}")
    finally:
        sys.setprofile(None)
    return counted[0]
