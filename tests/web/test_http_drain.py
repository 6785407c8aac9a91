"""Over real sockets: what ends, and how, when the engine stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from http_kit import Serve
from web_kit import get, post

from iii.step import Response


async def test_a_drain_answers_what_runs_and_ends_event_streams(serving: Serve) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go.wait()
        return "done"

    async def ticks() -> AsyncIterator[str]:
        yield "tick"
        await asyncio.Event().wait()

    async def events() -> Any:
        return Response(200, ticks(), {"content-type": "text/event-stream"})

    async with serving(get("/slow", slow, name="Slow"), get("/events", events, name="Events")) as running:
        working, watching = await running.connect(), await running.connect()
        working.send("GET /slow HTTP/1.1", "Host: a")
        watching.send("GET /events HTTP/1.1", "Host: a")
        await begun.wait()
        await watching.reader.readuntil(b"data: tick\n\n")
        running.site.endpoint.drain()
        running.shutdown.set()
        assert (await watching.end()).endswith(b"0\r\n\r\n")
        with pytest.raises(OSError):
            await running.connect()
        go.set()
        status, headers, body = await working.reply()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        assert await working.end() == b""
        await asyncio.wait_for(running.server, 10)


async def test_an_idle_connection_lives_on_for_the_request_that_is_on_its_way(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a")
        await wire.reply()
        running.site.endpoint.drain()
        running.shutdown.set()
        wire.send("GET /hello/a HTTP/1.1", "Host: a")
        status, headers, body = await wire.reply()
        assert (status, headers["connection"], body) == (200, "close", b"hello a")
        assert await wire.end() == b""


async def test_what_does_not_end_in_time_is_cut_off(serving: Serve) -> None:
    begun = asyncio.Event()

    async def hangs(request: Any, ctx: Any) -> None:
        await ctx.state.set("texts", "a", 1)
        begun.set()
        await asyncio.Event().wait()

    async with serving(post("/", hangs), drain_ms=50) as running:
        wire = await running.connect()
        wire.send("POST / HTTP/1.1", "Host: a", "Content-Length: 0")
        await begun.wait()
        running.shutdown.set()
        cut = await wire.end()
        assert cut == b"" or cut.startswith(b"HTTP/1.1 500")
        await asyncio.wait_for(running.server, 10)
        assert running.site.is_untouched
