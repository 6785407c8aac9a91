"""Handlers that fail in odd ways: by cancelling themselves, by errors that cannot be told."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest
from web_kit import Reply, get, post, site


def cancel_myself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancels_and_returns(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", 1)
    cancel_myself()
    return "done"


async def cancels_and_waits(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", 1)
    await asyncio.sleep(0)
    cancel_myself()
    await asyncio.Event().wait()


async def cancels_twice(request: Any, ctx: Any) -> Any:
    await ctx.state.set("orders", "a", 1)
    try:
        cancel_myself()
        await asyncio.sleep(0)
    finally:
        cancel_myself()


def assert_told(reply: Reply, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A 500 with a trace id, and one line in the log."""
    assert (reply.status, reply.json()["error"]) == (500, "internal error")
    assert len(reply.json()["traceId"]) == 32
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert text in line.getMessage()


@pytest.mark.parametrize("handler", [cancels_and_returns, cancels_and_waits, cancels_twice])
async def test_a_handler_that_cancels_its_own_task_fails_its_request_alone(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(post("/", handler), get("/ok", lambda: "ok", name="Fine")) as running:
        assert_told(await running.send("POST", "/"), caplog, "CancelledError")
        assert running.is_untouched
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        assert (await running.send("GET", "/ok")).body == b"ok"


async def test_a_handler_that_meets_its_own_cancellation_answers() -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await ctx.state.set("orders", "a", 1)
        try:
            cancel_myself()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "still here"

    async with site(post("/", handler)) as running:
        reply = await running.send("POST", "/")
        assert (reply.status, reply.body) == (200, b"still here")
        assert running.value("orders", "a") == 1
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0


async def test_a_server_that_cancels_a_handler_that_cancels_itself_too_has_its_way() -> None:
    waits = asyncio.Event()

    async def handler(request: Any, ctx: Any) -> Any:
        await ctx.state.set("orders", "a", 1)
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            cancel_myself()

    async with site(post("/", handler)) as running:
        asked = asyncio.ensure_future(running.send("POST", "/"))
        await waits.wait()
        asked.cancel()
        await asyncio.wait((asked,))
        assert asked.cancelled()
        assert running.is_untouched


class Untellable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


async def test_an_error_that_cannot_be_told_is_a_500_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await ctx.state.set("orders", "a", 1)
        raise Untellable

    async with site(post("/", handler)) as running:
        assert_told(await running.send("POST", "/"), caplog, "Untellable")
        assert running.is_untouched


def plain(request: Any) -> Any:
    raise LookupError("far")


async def waiting(request: Any) -> Any:
    await asyncio.sleep(0)
    raise LookupError("far")


@pytest.mark.parametrize("handler", [plain, waiting])
async def test_the_logged_traceback_begins_at_the_handler(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(get("/", handler)) as running:
        assert_told(await running.send("GET", "/"), caplog, "far")
    (info,) = [record.exc_info for record in caplog.records if record.exc_info]
    assert info[2] is not None
    assert info[2].tb_frame.f_code.co_name == handler.__name__


async def test_a_validator_of_a_steps_own_that_breaks_fails_the_request_in_the_steps_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(pydantic.BaseModel):
        text: str

        @pydantic.field_validator("text")
        @classmethod
        def look(cls, text: str) -> str:
            raise LookupError("no table of texts")

    async with site(post("/", lambda: "never", body_schema=Broken)) as running:
        reply = await running.send("POST", "/", json={"text": "a"})
        assert_told(reply, caplog, "LookupError: no table of texts")
        assert caplog.records[-1].name == "iii.step.Answering"
