"""Over real sockets: odd requests, limits, keep-alive, HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from http2_kit import http2
from http_kit import Serve
from web_kit import get, post

from iii.config import HttpConfig
from iii.step import Response


async def test_requests_of_every_kind_over_one_connection(serving: Serve) -> None:
    async with serving() as running, httpx.AsyncClient(base_url=running.url) as client:
        reply = await client.post("/texts", json={"text": "a"})
        assert (reply.status_code, reply.json()) == (200, {"ok": True})
        assert running.site.value("texts", "a") == "a"
        assert "server" not in reply.headers
        assert "date" in reply.headers
        reply = await client.get("/hello/caf%C3%A9")
        assert reply.text == "hello café"
        reply = await client.head("/hello/you")
        assert (reply.content, reply.headers["content-length"]) == (b"", "9")
        reply = await client.delete("/texts")
        assert (reply.status_code, reply.headers["allow"]) == (405, "OPTIONS, POST")
        assert (await client.options("/texts")).status_code == 204
        assert (await client.get("/none")).json() == {"error": "not found"}
        assert (await client.get("/health")).json() == {"status": "ok"}


JSON = {"content-type": "application/json"}
BAD: dict[str, tuple[dict[str, Any], int]] = {
    "empty text": ({"json": {"text": ""}}, 400),
    "no body": ({}, 400),
    "broken JSON": ({"content": b'{"text', "headers": JSON}, 400),
    "NaN": ({"content": b'{"text": NaN}', "headers": JSON}, 400),
    "invalid UTF-8": ({"content": b'{"text": "\xff"}', "headers": JSON}, 400),
    "100,000 nested brackets": ({"content": b"[" * 100_000, "headers": JSON}, 400),
    "JSON that does not say so": ({"content": b'{"text": "a"}'}, 415),
    "a form": ({"data": {"text": "a"}}, 415),
    "2 MiB": ({"content": b"x" * (2 << 20)}, 413),
}


async def test_bad_requests_are_refused_with_the_reason_and_the_server_goes_on(serving: Serve) -> None:
    async with serving() as running, httpx.AsyncClient(base_url=running.url) as client:
        for name, (request, status) in BAD.items():
            reply = await client.post("/texts", **request)
            assert (reply.status_code, bool(reply.json()["error"])) == (status, True), name
            assert running.site.is_untouched, name
        assert (await client.post("/texts", json={"text": "a"})).status_code == 200


async def test_a_chunked_body_over_the_limit_is_413(serving: Serve) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (64 << 10)

    async with serving() as running, httpx.AsyncClient(base_url=running.url) as client:
        assert (await client.post("/raw", content=endless())).status_code == 413


async def test_a_declared_gigabyte_is_413_at_once_and_the_connection_closes(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", f"Content-Length: {1 << 30}")
        status, headers, body = await wire.reply()
        assert (status, headers["connection"]) == (413, "close")
        assert "1048576" in json.loads(body)["error"]
        assert await wire.end() == b""


async def test_a_refused_client_that_keeps_sending_still_reads_why(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", f"Content-Length: {4 << 20}")
        for _ in range(64):
            wire.writer.write(b"x" * (64 << 10))
        await wire.writer.drain()
        assert (await wire.reply())[0] == 413
        await wire.end()


async def test_a_refused_client_that_never_stops_sending_is_cut_off(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", f"Content-Length: {1 << 40}")

        async def send_for_ever() -> None:
            with contextlib.suppress(OSError):
                while True:
                    wire.writer.write(b"x" * (64 << 10))
                    await wire.writer.drain()

        async with asyncio.timeout(10):
            await send_for_ever()
        wire.writer.close()


async def test_expect_100_continue(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-continue")
        assert (await wire.reply())[0] == 100
        wire.writer.write(b"abc")
        assert (await wire.reply())[::2] == (200, b"abc")
        wire.writer.close()


ANSWERED_AT_ONCE = {
    "a body over the limit": ("POST /raw HTTP/1.1", "Content-Length: 2000000", 413),
    "a path without a route": ("PUT /none HTTP/1.1", "Content-Length: 3", 404),
    "a method without a route": ("PUT /raw HTTP/1.1", "Content-Length: 3", 405),
    "a body in chunks": ("PUT /none HTTP/1.1", "Transfer-Encoding: chunked", 404),
    "a path that is none": ("PUT /a%ff HTTP/1.1", "Content-Length: 3", 400),
    "a page of the engine's": ("GET /health HTTP/1.1", "Content-Length: 3", 200),
    "a head over the limit": ("POST /raw?" + "a" * 70_000 + " HTTP/1.1", "Content-Length: 3", 431),
    "no body": ("GET /hello/a HTTP/1.1", "Content-Length: 0", 200),
}


@pytest.mark.parametrize("case", ANSWERED_AT_ONCE.values(), ids=ANSWERED_AT_ONCE)
async def test_nobody_is_told_to_go_on_with_a_body_that_is_not_read(
    serving: Serve, case: tuple[str, str, int]
) -> None:
    line, framing, status = case
    async with serving(config=HttpConfig(body_bytes_max=1_000_000)) as running:
        wire = await running.connect()
        wire.send(line, "Host: a", framing, "Expect: 100-Continue")
        assert (await wire.reply())[0] == status
        wire.writer.close()


async def test_who_sends_its_body_unasked_is_answered_all_the_same(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("PUT /none HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-continue")
        wire.writer.write(b"abc")
        assert (await wire.reply())[0] == 404
        assert await wire.end() == b""
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-continue")
        wire.writer.write(b"abc")
        replies = [await wire.reply()]
        if replies[0][0] == 100:
            replies.append(await wire.reply())
        assert replies[-1][::2] == (200, b"abc")
        wire.writer.close()


async def test_a_head_a_little_over_the_limit_is_431_in_json_and_a_huge_one_is_431_too(
    serving: Serve,
) -> None:
    config = HttpConfig(head_bytes_max=2_000)
    async with serving(config=config) as running:
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a", "X-A: " + "v" * 2_000)
        status, _, body = await wire.reply()
        assert (status, bool(json.loads(body)["error"])) == (431, True)
        assert await wire.end() == b""
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a", "X-A: " + "v" * 200_000)
        assert (await wire.reply())[0] == 431
        await wire.end()


SMUGGLED = {
    "two lengths": ["Content-Length: 3", "Content-Length: 4"],
    "no number": ["Content-Length: abc"],
    "an unknown transfer encoding": ["Transfer-Encoding: rot13"],
    "a line that is no header": ["nonsense"],
    "a folded name": ["X A: 1"],
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
async def test_a_malformed_head_is_refused_and_the_connection_closed(
    serving: Serve, lines: list[str]
) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", *lines, body=b"abcd")
        assert (await wire.reply())[0] in (400, 501)
        assert await wire.end() == b""
        assert running.site.is_untouched


async def test_a_head_that_arrives_too_slowly_is_408(serving: Serve) -> None:
    async with serving(config=HttpConfig(head_timeout_ms=100)) as running:
        wire = await running.connect()
        wire.writer.write(b"GET /hello/a HTTP/1.1\r\nHost")
        status, headers, body = await wire.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert "0.1 s" in json.loads(body)["error"]
        assert await wire.end() == b""


async def test_a_slow_head_after_a_first_request_is_408_too(serving: Serve) -> None:
    async with serving(config=HttpConfig(head_timeout_ms=100)) as running:
        wire = await running.connect()
        wire.writer.write(b"GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\nGET /hello/b HTTP/1.1\r\nHo")
        assert (await wire.reply())[::2] == (200, b"hello a")
        assert (await wire.reply())[0] == 408
        await wire.end()


async def test_an_idle_connection_is_not_slow(serving: Serve) -> None:
    async with serving(config=HttpConfig(head_timeout_ms=100, keep_alive_ms=60_000)) as running:
        idle, slow = await running.connect(), await running.connect()
        idle.send("GET /hello/a HTTP/1.1", "Host: a")
        assert (await idle.reply())[0] == 200
        slow.writer.write(b"GET")
        assert (await slow.reply())[0] == 408  # so 100 ms have passed
        idle.send("GET /hello/b HTTP/1.1", "Host: a")
        assert (await idle.reply())[::2] == (200, b"hello b")
        idle.writer.close()
        slow.writer.close()


async def test_an_idle_connection_is_closed_in_the_end(serving: Serve) -> None:
    async with serving(config=HttpConfig(keep_alive_ms=50)) as running:
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a")
        assert (await wire.reply())[0] == 200
        assert await wire.end() == b""


async def test_pipelined_requests_are_answered_in_order(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        for number in range(20):
            wire.send(f"GET /hello/{number} HTTP/1.1", "Host: a")
        for number in range(20):
            assert (await wire.reply())[2] == f"hello {number}".encode()
        wire.writer.close()


async def test_a_client_that_closes_its_half_still_gets_its_answer(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a")
        wire.writer.write_eof()
        assert (await wire.reply())[2] == b"hello a"
        await wire.end()


async def test_a_connection_whose_client_left_is_closed_at_once(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a")
        await wire.reply()
        before = _open_sockets()
        wire.writer.close()
        async with asyncio.timeout(10):
            while _open_sockets() > before - 2:  # the client's end and the server's
                await asyncio.sleep(0)


def _open_sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


async def test_a_client_that_leaves_in_the_middle_of_its_body_writes_nothing(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        wire.send("POST /texts HTTP/1.1", "Host: a", "Content-Length: 100", body=b'{"text": "a"}')
        await wire.writer.drain()
        wire.writer.close()
        async with httpx.AsyncClient(base_url=running.url) as client:
            assert (await client.get("/health")).status_code == 200
        assert running.site.is_untouched


async def test_a_client_that_leaves_does_not_stop_its_handler(serving: Serve) -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Any, ctx: Any) -> None:
        begun.set()
        await go.wait()
        await ctx.state.set("texts", "a", 1)
        done.set()

    async with serving(post("/", handler)) as running:
        wire = await running.connect()
        wire.send("POST / HTTP/1.1", "Host: a", "Content-Length: 0")
        await begun.wait()
        wire.writer.close()
        await wire.writer.wait_closed()
        go.set()
        await asyncio.wait_for(done.wait(), 10)
    assert running.site.value("texts", "a") == 1


async def test_http_2_without_tls(serving: Serve) -> None:
    async with serving(config=HttpConfig(h2=True)) as running:
        wire = await running.connect()
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        head = [(":method", "GET"), (":path", "/hello/h2"), (":scheme", "http"), (":authority", "a")]
        connection.send_headers(1, head, end_stream=True)
        wire.writer.write(connection.data_to_send())
        body, ended = b"", False
        async with asyncio.timeout(10):
            while not ended:
                for event in connection.receive_data(await wire.reader.read(65536)):
                    if isinstance(event, h2.events.DataReceived):
                        body += event.data
                    ended = ended or isinstance(event, h2.events.StreamEnded)
        assert body == b"hello h2"
        wire.writer.close()


async def test_a_websocket_is_refused(serving: Serve) -> None:
    async with serving() as running:
        wire = await running.connect()
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 13"]
        wire.send("GET /hello/a HTTP/1.1", "Host: a", *upgrade)
        assert (await wire.reply())[0] == 403
        await wire.end()


async def test_a_streamed_body_arrives_chunk_by_chunk(serving: Serve) -> None:
    go = asyncio.Event()

    async def parts() -> AsyncIterator[str]:
        yield "one"
        await go.wait()
        yield "two"

    async def handler() -> Any:
        return Response(200, parts(), {"content-type": "text/event-stream"})

    async with (
        serving(get("/", handler)) as running,
        httpx.AsyncClient(base_url=running.url) as client,
        client.stream("GET", "/") as reply,
    ):
        chunks = reply.aiter_bytes()
        assert await anext(chunks) == b"data: one\n\n"
        go.set()
        assert await anext(chunks) == b"data: two\n\n"
        assert [chunk async for chunk in chunks] == []


FORGED = b"event: logout\ndata: {}\nid: 99\nretry: 1\n\nevent: x\r\rplain"


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("as_bytes", [False, True])
async def test_what_a_client_sent_is_never_an_event_of_its_own(
    serving: Serve, blocking: bool, as_bytes: bool
) -> None:
    """Over the lane, Hypercorn and HTTP/2; from a plain generator in a thread too."""

    def echo(request: Any) -> Any:
        said = request.raw if as_bytes else request.raw.decode()

        async def events() -> AsyncIterator[object]:
            yield said

        source = iter([said]) if blocking else events()
        return Response(200, source, {"content-type": "text/event-stream"})

    async with serving(post("/", echo), config=HttpConfig(h2=True)) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            over_http1 = (await client.post("/", content=FORGED)).content
        client2 = await http2(running)
        client2.ask(1, method="POST", body=FORGED)
        await client2.event(h2.events.StreamEnded, 1)
        client2.close()
    for body in (over_http1, client2.bodies[1]):
        lines = body.decode().split("\n")
        assert lines[-2:] == ["", ""]
        assert all(line.startswith("data: ") for line in lines[:-2])
        assert [line.removeprefix("data: ") for line in lines[:-2]] == [
            *("event: logout", "data: {}", "id: 99", "retry: 1", "", "event: x", "", "plain")
        ]


async def test_a_stream_that_breaks_is_not_taken_for_whole(serving: Serve) -> None:
    async def parts() -> AsyncIterator[str]:
        yield "one"
        raise RuntimeError

    async def handler() -> Any:
        return parts()

    async with serving(get("/", handler)) as running, httpx.AsyncClient(base_url=running.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
