"""`ctx` of what runs in a thread: awaited where a loop runs, else it waits. No call waits for its own loop.

Loops that a handler starts itself: test_own_loops.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_kit import Outlives, RecordingStore, config, running, step

import iii
from iii import BlockingContext, HandlerEnded, queue
from iii.engine import Engine

CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda ctx: ctx.state.get("a", "1"),
    "entry": lambda ctx: ctx.state.entry("a", "1"),
    "set": lambda ctx: ctx.state.set("a", "1", 1),
    "update": lambda ctx: ctx.state.update("a", "2", {"n": 1}),
    "delete": lambda ctx: ctx.state.delete("a", "1"),
    "list": lambda ctx: ctx.state.list("a"),
    "items": lambda ctx: ctx.state.items("a"),
    "namespaces": lambda ctx: ctx.state.namespaces(),
    "clear": lambda ctx: ctx.state.clear("a"),
    "enqueue": lambda ctx: ctx.enqueue("next", 1),
    "flush": lambda ctx: ctx.flush(),
    "ambient get": lambda _: iii.state.get("a", "1"),
    "ambient set": lambda _: iii.state.set("a", "1", 1),
    "ambient enqueue": lambda _: iii.enqueue("next", 1),
}


@pytest.mark.parametrize("call", CALLS)
async def test_on_the_loop_every_call_is_to_be_awaited_and_elsewhere_it_returns_a_value(call: str) -> None:
    loop = asyncio.get_running_loop()
    seen: list[Any] = []

    def handler(data: Any, ctx: BlockingContext) -> None:
        async def on_the_loop() -> tuple[bool, Any]:
            begun = CALLS[call](ctx)
            return isinstance(begun, Awaitable), await begun

        seen.append(asyncio.run_coroutine_threadsafe(on_the_loop(), loop).result(10))
        seen.append((isinstance(CALLS[call](ctx), Awaitable), None))

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        assert app.letters("in.failed") == []
        assert [is_awaitable for is_awaitable, _ in seen] == [True, False]


async def test_a_call_that_is_left_to_the_loop_waits_for_nothing() -> None:
    loop = asyncio.get_running_loop()
    found: list[Any] = []

    def handler(data: Any, ctx: BlockingContext) -> None:
        done = threading.Event()

        def look() -> None:
            found.append(ctx.state.get("a", "1"))
            done.set()

        loop.call_soon_threadsafe(look)
        assert done.wait(10), "the loop waits for itself"

    async with running(step(handler, queue("in"))) as app:
        await app.send("in")
        await app.settle()
        (left,) = found
        with pytest.raises(HandlerEnded):
            await left


async def test_an_error_that_a_timeout_is_itself_reaches_the_thread() -> None:
    seen: list[BaseException] = []

    class Impatient(RecordingStore):
        def get(self, namespace: str, key: str) -> Any:
            if namespace == "slow":
                raise TimeoutError("the store's own")
            return super().get(namespace, key)

    def handler(data: Any, ctx: BlockingContext) -> None:
        try:
            ctx.state.get("slow", "1")
        except TimeoutError as error:
            seen.append(error)

    async with Engine(config(), [step(handler, queue("in"))], store=Impatient()) as engine:
        await engine.enqueue("in")
        await engine.idle(20)
    assert [str(error) for error in seen] == ["the store's own"]


@pytest.mark.parametrize("closed", ["before", "meanwhile"])
def test_a_thread_that_outlives_its_loop_is_told_so(closed: str) -> None:
    """A loop of its own runs the engine and goes, while the handler's thread is on its way to a call."""
    thread = Outlives()
    outcome: list[BaseException] = []

    def handler(data: Any, ctx: BlockingContext) -> None:
        thread.wait()
        try:
            ctx.state.set("a", "1", 1)
        except HandlerEnded as error:
            outcome.append(error)
        thread.ended()

    thread.run(handler, closed=closed)
    (error,) = outcome
    assert "the engine has stopped" in str(error)
