"""Bodies that are sent while they are made: chunks, events, and how they end."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from web_kit import get, post, site

from iii import SSE, Raw
from iii.errors import HandlerEnded, StepError
from iii.step import Response
from iii.web.stream import Stream, StreamBroken, chunk_of, event_frame


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


class Point(msgspec.Struct):
    x: int


FRAMES: dict[str, tuple[object, bytes]] = {
    "str": ("hello", b"data: hello\n\n"),
    "lines": ("a\nb\r\nc\rd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
    "empty": ("", b"data: \n\n"),
    "framed": ("data: 0\n\n", b"data: data: 0\ndata: \ndata: \n\n"),
    "framed event": ("event: tick\ndata: 0\n\n", b"data: event: tick\ndata: data: 0\ndata: \ndata: \n\n"),
    "framed, CR alone": ("x\revent: tick\r\r", b"data: x\ndata: event: tick\ndata: \ndata: \n\n"),
    "framed comment": (": ping\n\n", b"data: : ping\ndata: \ndata: \n\n"),
    "what ends no line": ("a\u2028b\x85c\x0bd", "data: a\u2028b\x85c\x0bd\n\n".encode()),
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
    "bytes": (b"event: tick\r\rdata: 0", b"data: event: tick\ndata: \ndata: data: 0\n\n"),
    "a bytearray": (bytearray("é\nb", "utf-8"), "data: é\ndata: b\n\n".encode()),
    "None": (None, b"data: null\n\n"),
    "a struct": (Point(1), b'data: {"x":1}\n\n'),
    "JSON text with line ends": ({"a": "\n\nevent: x"}, b'data: {"a":"\\n\\nevent: x"}\n\n'),
    "SSE": (
        SSE(data="a\rb", event="tick", id="7", retry=0, comment="for\nyou"),
        b": for\n: you\nevent: tick\nid: 7\nretry: 0\ndata: a\ndata: b\n\n",
    ),
    "SSE, bytes as data": (SSE(data=b"a\nb"), b"data: a\ndata: b\n\n"),
    "SSE, a comment alone": (SSE(comment="ping"), b": ping\n\n"),
    "raw bytes": (Raw(b"event: x\ndata: \xff\n\n"), b"event: x\ndata: \xff\n\n"),
    "raw text": (Raw(": ping\n\n"), b": ping\n\n"),
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


@pytest.mark.parametrize(
    "fields",
    [
        *({name: f"a{end}data: forged"} for name in ("event", "id") for end in ("\r", "\n", "\0")),
        *({"retry": value} for value in ("500", "1\ndata: x", -1, 1 << 31, 1.5, True)),
        *({"event": value} for value in (b"a", 1, True)),
        *({"id": value} for value in (b"a", 1.5, True)),
    ],
    ids=repr,
)
def test_a_field_that_could_be_read_as_another_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=f"SSE {next(iter(fields))}: "):
        SSE(data=1, **fields)
    with pytest.raises(StepError, match=f"SSE {next(iter(fields))}: "):
        event_frame({**fields, "data": 1})


@pytest.mark.parametrize(
    "item", [b"\xff", "\ud800", SSE(data="\ud800"), SSE(event="\ud800"), SSE(comment="\udfff")], ids=repr
)
async def test_what_is_no_text_breaks_the_stream_and_the_log_says_why(
    item: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def events() -> AsyncIterator[object]:
        yield item

    async def handler() -> Any:
        return Response(200, events(), {"content-type": "text/event-stream"})

    async with site(get("/", handler)) as running:
        with pytest.raises(StreamBroken):
            await running.send("GET", "/")
    assert "UTF-8" in caplog.text or "no valid Unicode" in caplog.text


def test_an_event_in_a_stream_of_another_type_is_refused_and_raw_goes_as_it_is() -> None:
    with pytest.raises(StepError, match="text/event-stream"):
        chunk_of(SSE(data=1))
    assert chunk_of(Raw("é")) == "é".encode()
    with pytest.raises(StepError, match="expected bytes or a str, got int"):
        Raw(1)  # type: ignore[arg-type]


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
