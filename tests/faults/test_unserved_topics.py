"""A topic that nobody serves is told of once, with the nearest one: it may be a typo."""

from __future__ import annotations

from typing import Any

import pytest
from engine.engine_kit import running, step

from iii.handling.context import Context
from iii.handling.unserved import TOPICS_MAX, Unserved
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


def test_topics_without_end_are_not_remembered_without_end() -> None:
    asked: list[str] = []
    unserved = Unserved(["in"], lambda topic: bool(asked.append(topic)) or True)
    for number in range(2 * TOPICS_MAX):
        unserved.notice(f"user-{number}")
    assert len(asked) == TOPICS_MAX - 1
