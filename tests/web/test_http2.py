"""HTTP/2: only where it is asked for, and what is no proper request of it is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from http2_kit import http2
from http_kit import Serve
from web_kit import get, post

from iii.config import HttpConfig
from iii.web.http2.frames import HEADER_TABLE_BYTES_MAX, Frames
from iii.web.http2.sizes import KNOWN_BYTES_MIN, PATHS_MAX, UNKNOWN_BYTES, AnswerSizes

ON = HttpConfig(h2=True)


@pytest.mark.parametrize("on", [False, True])
async def test_an_upgrade_to_http_2_is_not_taken_up(serving: Serve, on: bool) -> None:
    async with serving(config=HttpConfig(h2=on)) as running:
        wire = await running.connect()
        upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
        for _ in range(2):  # the connection goes on
            wire.send("GET /hello/a HTTP/1.1", "Host: a", *upgrade)
            assert (await wire.reply())[::2] == (200, b"hello a")
        wire.writer.close()


async def test_where_http_2_is_off_its_clients_are_told_to_use_http_1(serving: Serve) -> None:
    async with serving() as running:
        client = await http2(running)
        client.ask(1, "/hello/a")
        await client.end()
        ended = client.all(h2.events.ConnectionTerminated)[0]
        assert (ended.error_code, ended.last_stream_id) == (ErrorCodes.HTTP_1_1_REQUIRED, 0)
        assert b"http.h2" in (ended.additional_data or b"")
        assert client.all(h2.events.ResponseReceived) == []


async def test_a_broken_preface_is_answered_in_frames_where_http_2_is_on(serving: Serve) -> None:
    async with serving(config=ON) as running:
        for preface in (
            "INVALID CONNECTION PREFACE", "PRI * HTTP/2.0\r\na: b\r\n\r\nSM", "GETAWAY", "\x16\x03", "PRI *",
        ):  # fmt: skip
            wire = await running.connect()
            wire.send(preface)
            answered = await wire.end()
            assert b"HTTP/1.1" not in answered
            assert [kind for kind, _ in frames(answered)] == [4, 7]  # SETTINGS, GOAWAY
            assert frames(answered)[1][1][4:8] == ErrorCodes.PROTOCOL_ERROR.to_bytes(4, "big")


def frames(sent: bytes) -> list[tuple[int, bytes]]:
    """(type, payload) of each."""
    found = []
    while sent:
        size = 9 + int.from_bytes(sent[:3], "big")
        found.append((sent[3], sent[9:size]))
        sent = sent[size:]
    return found


BAD_LINES = [
    "GET / b HTTP/1.1", "GET /echo", "GET /echo HTTP/01.1", "GET /echo HTTP/1.1 ", "GET", "GET ", "post /a",
    "POST  /echo HTTP/1.1 ", "PATCH / HTTP", "OPTIONS *", "CONNECT a:1", "TRACE /", "HEAD / HTTP/1",
    "X / b HTTP/1.1",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES)
async def test_a_bad_request_of_http_1_is_answered_in_http_1_where_http_2_is_on(
    serving: Serve, line: str
) -> None:
    async with serving(config=ON) as running:
        for fields in (["Host: a"], []):
            wire = await running.connect()
            wire.send(line, *fields)
            assert (await wire.end()).startswith(b"HTTP/1.1 400")
        wire = await running.connect()
        wire.writer.write(line.encode())
        wire.writer.write_eof()
        assert (await wire.end()).startswith(b"HTTP/1.1 400")


BODY = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")]


@pytest.mark.parametrize("form", ["no body", "trailers", "less", "more", "more, and not all of it"])
async def test_a_content_length_that_lies_is_400_no_handler_sees_it_and_the_connection_goes_on(
    serving: Serve, form: str
) -> None:
    calls: list[bytes] = []

    async def handler(request: Any) -> str:
        calls.append(request.raw)
        return "ok"

    async with serving(post("/", handler), config=ON) as running:
        client = await http2(running)
        client.frames.send_headers(1, [*BODY, ("content-length", "5")], end_stream=form == "no body")
        if form == "trailers":
            client.frames.send_data(1, b"abc")
            client.frames.send_headers(1, [("a", "b")], end_stream=True)
        elif form != "no body":
            body = b"abc" if form == "less" else b"abcdef"
            client.frames.send_data(1, body, end_stream=form in ("less", "more"))
        client.flush()
        reset = await client.event(h2.events.StreamReset, 1)
        assert client.status(1) == 400 and b"content-length" in client.bodies[1]
        assert reset.error_code == ErrorCodes.PROTOCOL_ERROR
        assert calls == []
        client.ask(3, "/", ("content-length", "3"), method="POST", body=b"abc")
        await client.event(h2.events.StreamEnded, 3)
        assert calls == [b"abc"]
        client.close()


PSEUDO = {":method": "GET", ":path": "/hello/a", ":scheme": "http", ":authority": "a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":path", "/\xe9"),
        (":path", "/a b"),
        (":path", "hello"),
        (":method", "G\xe9T"),
    ],
)
async def test_a_malformed_request_is_400_and_the_connection_goes_on(
    serving: Serve, name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(config=ON) as running:
        client = await http2(running)
        fields = [(key.encode(), text.encode("latin-1")) for key, text in (PSEUDO | {name: value}).items()]
        client.frames.send_headers(1, fields, end_stream=True)
        client.ask(3, "/hello/b")
        await client.event(h2.events.StreamEnded, 3)
        assert client.status(1) == 400 and client.bodies[3] == b"hello b"
        client.close()
    assert not caplog.records


async def test_connect_is_refused_and_the_connection_goes_on(serving: Serve) -> None:
    async with serving(config=ON) as running:
        client = await http2(running)
        client.frames.send_headers(1, [(":method", "CONNECT"), (":authority", "a")], end_stream=True)
        client.ask(3, "/hello/b")
        await client.event(h2.events.StreamEnded, 3)
        assert client.status(1) == 400
        client.close()


async def test_a_head_request_of_a_stream_is_answered_with_its_head(serving: Serve) -> None:
    async with serving(get("/", lambda: "a" * 100), config=ON) as running:
        client = await http2(running)
        client.ask(1, method="HEAD")
        await client.event(h2.events.StreamEnded, 1)
        assert client.status(1) == 200 and client.bodies == {}
        client.close()


async def test_a_header_bomb_ends_its_own_connection_alone(serving: Serve) -> None:
    async with serving(config=ON) as running:
        client, other = await http2(running), await http2(running)
        client.ask(1, "/hello/a", *[(f"a{n}", "x" * 4000) for n in range(3)], *[("a0", "x" * 4000)] * 2000)
        await client.end()
        assert client.all(h2.events.ConnectionTerminated)[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM
        other.ask(1, "/hello/b")
        await other.event(h2.events.StreamEnded, 1)
        other.close()


async def test_a_head_that_is_a_little_too_large_is_431(serving: Serve) -> None:
    async with serving(config=ON) as running:
        client = await http2(running)
        client.ask(1, "/hello/a", *[(f"a{n}", "x" * 4000) for n in range(20)])
        await client.event(h2.events.StreamEnded, 1)
        assert client.status(1) == 431
        client.close()


async def test_an_answer_that_comes_before_the_body_is_whole_and_the_connection_goes_on(
    serving: Serve,
) -> None:
    async with serving(config=HttpConfig(h2=True, body_bytes_max=1024)) as running:
        client = await http2(running)
        client.ask(1, "/raw", ("content-length", "60000"), method="POST", body=None)
        client.frames.send_data(1, b"x" * 10_000)
        client.flush()
        await client.event(h2.events.StreamReset, 1)
        assert client.status(1) == 413 and b"1024" in client.bodies[1]
        client.ask(3, "/hello/b")
        await client.event(h2.events.StreamEnded, 3)
        client.close()


async def test_a_drain_lets_streams_end_and_refuses_new_ones(serving: Serve) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def waits() -> str:
        begun.set()
        await go.wait()
        return "a"

    async with serving(get("/", waits), config=ON) as running:
        client = await http2(running)
        client.ask(1)
        await begun.wait()
        running.shutdown.set()
        id = 1
        while not client.all(h2.events.StreamReset):  # accepted until the drain has begun
            id += 2
            client.ask(id, "/nothing")
            await client.until(
                lambda _, id=id: bool(
                    client.all(h2.events.StreamReset, id) + client.all(h2.events.StreamEnded, id)
                )  # type: ignore[misc]
            )
        assert client.all(h2.events.StreamReset)[0].error_code == ErrorCodes.REFUSED_STREAM
        go.set()
        await client.event(h2.events.StreamEnded, 1)
        await client.end()
        assert client.all(h2.events.ConnectionTerminated)[0].error_code == ErrorCodes.NO_ERROR


async def test_a_drain_that_cuts_streams_off_logs_no_failure(
    serving: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def waits() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "a"

    async with serving(get("/", waits), config=ON, drain_ms=50) as running:
        client = await http2(running)
        client.ask(1)
        await begun.wait()
        running.shutdown.set()
        await client.end()
    assert "A connection failed" not in caplog.text


def test_what_a_peer_makes_us_remember_is_bounded() -> None:
    frames = Frames(64 << 10)
    frames.begin()
    frames.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _settings(range(0)))
    for first in range(16, 65536, 2048):
        for event in frames.received(_settings(range(first, min(first + 2048, 65536)))):
            assert isinstance(event, h2.events.RemoteSettingsChanged)
            frames.bound_settings(event.changed_settings)
    assert len(frames._h2.remote_settings) < 16
    for event in frames.received(_settings([SettingCodes.HEADER_TABLE_SIZE], value=0xFFFFFFFF)):
        assert isinstance(event, h2.events.RemoteSettingsChanged)
        frames.bound_settings(event.changed_settings)
    assert frames._h2.encoder.header_table_size == HEADER_TABLE_BYTES_MAX


def test_how_large_answers_were_is_remembered_for_a_bounded_number_of_paths() -> None:
    sizes = AnswerSizes()
    assert sizes.expected("/a") == UNKNOWN_BYTES
    sizes.gave("/a", 1 << 20)
    sizes.gave("/a", 10)
    assert sizes.expected("/a") == (1 << 20) * 3 // 4
    for _ in range(20):
        sizes.gave("/a", 10)
    assert sizes.expected("/a") == KNOWN_BYTES_MIN
    for n in range(PATHS_MAX):
        sizes.gave(f"/{n}", 10)
    assert sizes.expected("/a") == UNKNOWN_BYTES and sizes.expected("/0") == KNOWN_BYTES_MIN
    sizes.gave("/" + "x" * 60_000, 10)
    assert sizes.expected("/" + "x" * 60_000) == UNKNOWN_BYTES


def _settings(codes: Any, value: int = 1) -> bytes:
    payload = b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code in codes)
    return len(payload).to_bytes(3, "big") + b"\4\0\0\0\0\0" + payload
