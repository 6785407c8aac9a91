"""Bodies that are sent while they are made: chunks, events, and how they end."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from web_kit import get, post, site

from iii.errors import HandlerEnded
from iii.step import Response
from iii.web.stream import Stream, StreamBroken, event_frame


async def test_an_async_generator_is_streamed_chunk_by_chunk() -> None:
    async def parts() -> AsyncIterator[object]:
        yield "hé"
        yield b"\xff"
        yield {"n": 1}

    async def handler() -> Any:
        return parts()

    async with site(get("/", handler)) as running:
        reply = await running.send("GET", "/")
        assert reply.chunks == ["hé".encode(), b"\xff", b'{"n":1}\n']
        assert reply.header("content-type") == "application/octet-stream"
        assert reply.header("content-length") is None


async def test_a_plain_generator_is_streamed_from_a_thread() -> None:
    threads: set[int] = set()

    def parts() -> Iterator[str]:
        for part in ("a", "b"):
            threads.add(threading.get_ident())
            yield part

    async with site(get("/", lambda: Response(200, parts(), {"content-type": "text/csv"}))) as running:
        reply = await running.send("GET", "/")
        assert (reply.chunks, reply.header("content-type")) == ([b"a", b"b"], "text/csv")
    assert threading.get_ident() not in threads


FRAMES: dict[str, tuple[object, bytes]] = {
    "str": ("hello", b"data: hello\n\n"),
    "lines": ("a\nb\r\nc\rd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
    "empty": ("", b"data: \n\n"),
    "framed": ("data: 0\n\n", b"data: 0\n\n"),
    "framed event": ("event: tick\ndata: 0\n\n", b"event: tick\ndata: 0\n\n"),
    "framed, CRLF": ("id: 1\r\ndata: 0\r\n\r\n", b"id: 1\r\ndata: 0\r\n\r\n"),
    "framed retry": ("retry:5\n\n", b"retry:5\n\n"),
    "framed comment": (": ping\n\n", b": ping\n\n"),
    "a field without its blank line": ("data: 0\n", b"data: data: 0\ndata: \n\n"),
    "a blank line without a field": ("so\n\n", b"data: so\ndata: \ndata: \n\n"),
    "a colon as text": (":\n\n", b"data: :\ndata: \ndata: \n\n"),
    "all fields": (
        {"event": "tick", "data": {"n": 1}, "id": 7, "retry": 500},
        b'event: tick\nid: 7\nretry: 500\ndata: {"n":1}\n\n',
    ),
    "no data": ({"event": "ping"}, b"event: ping\n\n"),
    "data is None": ({"data": None}, b"data: null\n\n"),
    "another dict": ({"event": "a", "n": 1}, b'data: {"event":"a","n":1}\n\n'),
    "empty dict": ({}, b"data: {}\n\n"),
    "number": (5, b"data: 5\n\n"),
    "bytes": (b": a comment\n\n", b": a comment\n\n"),
}


@pytest.mark.parametrize(("item", "frame"), FRAMES.values(), ids=FRAMES)
def test_an_event_is_framed(item: object, frame: bytes) -> None:
    assert event_frame(item) == frame


async def test_an_event_stream_has_frames_and_is_not_cached() -> None:
    async def events() -> AsyncIterator[object]:
        yield {"event": "tick", "data": 1}
        yield "done"

    async def handler() -> Any:
        return Response(200, events(), {"content-type": "text/event-stream"})

    async with site(get("/", handler)) as running:
        reply = await running.send("GET", "/")
        assert reply.chunks == [b"event: tick\ndata: 1\n\n", b"data: done\n\n"]
        assert reply.header("cache-control") == "no-cache"


@pytest.mark.parametrize("field", ["event", "id", "retry"])
async def test_a_line_break_in_an_event_field_breaks_the_stream(field: str) -> None:
    async def events() -> AsyncIterator[object]:
        yield {field: "a\ndata: forged", "data": 1}

    async def handler() -> Any:
        return Response(200, events(), {"content-type": "text/event-stream"})

    async with site(get("/", handler)) as running:
        with pytest.raises(StreamBroken):
            await running.send("GET", "/")


async def test_effects_commit_before_the_first_chunk_and_later_ones_by_flush() -> None:
    async def handler(request: Any, ctx: Any) -> Any:
        await ctx.state.set("jobs", "a", "begun")

        async def parts() -> AsyncIterator[str]:
            await ctx.state.set("jobs", "a", "half")
            await ctx.flush()
            yield "half"
            await ctx.state.set("jobs", "a", "never flushed")
            yield "end"

        return parts()

    async with site(post("/", handler)) as running:
        sent = await running.endpoint.answer(running.request("POST", "/"))
        assert running.value("jobs", "a") == "begun"
        assert isinstance(sent.body, Stream)
        assert await anext(sent.body) == b"half"
        assert running.value("jobs", "a") == "half"
        assert [chunk async for chunk in sent.body] == [b"end"]
        assert running.value("jobs", "a") == "half"


async def test_the_context_ends_with_the_stream() -> None:
    kept: list[Any] = []

    async def handler(request: Any, ctx: Any) -> Any:
        kept.append(ctx)

        async def parts() -> AsyncIterator[str]:
            yield "a"

        return parts()

    async with site(get("/", handler)) as running:
        await running.send("GET", "/")
        with pytest.raises(HandlerEnded):
            await kept[0].state.set("a", "b", 1)


async def test_a_stream_that_fails_is_broken_off_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def parts() -> AsyncIterator[str]:
        yield "a"
        raise RuntimeError("half way")

    async def handler() -> Any:
        return parts()

    async with site(get("/", handler)) as running:
        sent = await running.endpoint.answer(running.request("GET", "/"))
        assert isinstance(sent.body, Stream)
        assert await anext(sent.body) == b"a"
        with pytest.raises(StreamBroken):
            await anext(sent.body)
    assert "half way" in caplog.text


async def _made_by(source: Callable[[], Any]) -> Any:
    return source()


async def test_closing_a_stream_runs_its_finally_blocks_once() -> None:
    ended: list[str] = []

    async def parts() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            ended.append("async")

    def blocking() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            ended.append("plain")

    for source in (parts, blocking):
        async with site(get("/", functools.partial(_made_by, source))) as running:
            sent = await running.endpoint.answer(running.request("GET", "/"))
            assert isinstance(sent.body, Stream)
            assert await anext(sent.body) == b"a"
            await sent.body.aclose()
            await sent.body.aclose()
    assert ended == ["async", "plain"]


async def test_a_thread_that_is_making_a_chunk_ends_before_its_stream_is_closed() -> None:
    making, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    ended: list[str] = []

    def parts() -> Iterator[str]:
        try:
            loop.call_soon_threadsafe(making.set)
            go.wait(10)
            yield "a"
        finally:
            ended.append("yes")

    async with site(get("/", lambda: parts())) as running:
        sent = await running.endpoint.answer(running.request("GET", "/"))
        assert isinstance(sent.body, Stream)
        pulling = asyncio.ensure_future(anext(sent.body))
        await making.wait()
        pulling.cancel()
        await asyncio.wait([pulling])
        closing = asyncio.ensure_future(sent.body.aclose())
        await asyncio.wait([closing], timeout=0.05)
        assert not closing.done()
        go.set()
        await closing
    assert ended == ["yes"]


async def test_head_of_a_streamed_answer_makes_no_chunk() -> None:
    made: list[str] = []

    async def parts() -> AsyncIterator[str]:
        made.append("a")
        yield "a"

    async def handler() -> Any:
        return parts()

    async with site(get("/", handler)) as running:
        reply = await running.send("HEAD", "/")
        assert (reply.status, reply.body) == (200, b"")
    assert made == []


async def test_a_streamed_answer_is_not_kept_for_its_key() -> None:
    runs: list[int] = []

    async def handler() -> Any:
        runs.append(1)

        async def parts() -> AsyncIterator[str]:
            yield "a"

        return parts()

    async with site(post("/", handler)) as running:
        for _ in range(2):
            assert (await running.send("POST", "/", headers={"Idempotency-Key": "k"})).body == b"a"
    assert len(runs) == 2
