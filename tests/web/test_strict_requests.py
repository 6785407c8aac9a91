"""Odd forms of requests: refused, or read in one way, by the lane, by Hypercorn's HTTP/1 and by HTTP/2."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import h2.events
import pytest
import pytest_asyncio
from http2_kit import http2
from http_kit import Serving, serving
from web_kit import step

from iii.config import HttpConfig
from iii.step import http

HOST = "Host: a"
CHUNKED = "Transfer-Encoding: chunked"


async def seen(request: Any) -> Any:
    body = request.raw.decode("latin-1")
    return [request.method, request.path, request.path_params, request.query_string.decode("latin-1"), body]


STEPS = (
    step(seen, *(http(method, "/a/{name}") for method in ("GET", "POST")), name="Below"),
    step(seen, *(http(method, "/a") for method in ("GET", "POST")), name="A"),
)


def get(*fields: str, line: str = "GET /a HTTP/1.1", body: str = "", host: str = HOST) -> bytes:
    return "\r\n".join([line, *([host] if host else []), *fields, "", body]).encode("latin-1")


def post(*fields: str, body: str = "") -> bytes:
    return get(*fields, line="POST /a HTTP/1.1", body=body)


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "a method in lower case": (get(line="get /a HTTP/1.1"), 400, "GET"),
    "a method in mixed case": (get(line="Get /a HTTP/1.1"), 400, "GET"),
    "a method in lower case that nobody knows": (get(line="brew /a HTTP/1.1"), 400, "BREW"),
    "CONNECT": (get(line="CONNECT a:443 HTTP/1.1"), 400, "CONNECT"),
    "CONNECT with a path": (get(line="CONNECT /a HTTP/1.1"), 400, "CONNECT"),
    "HTTP/1.2": (get(line="GET /a HTTP/1.2"), 505, "HTTP/1.1"),
    "HTTP/2.0": (get(line="GET /a HTTP/2.0"), 505, "HTTP/1.1"),
    "HTTP/0.9": (get(line="GET /a HTTP/0.9"), 505, "HTTP/1.1"),
    "HTTP/0.9 as it was": (b"GET /a\r\n", 400, "request line"),
    "a version in lower case": (get(line="GET /a http/1.1"), 400, "request line"),
    "two spaces": (get(line="GET  /a HTTP/1.1"), 400, "request line"),
    "a tab": (get(line="GET\t/a HTTP/1.1"), 400, "request line"),
    "a fragment": (get(line="GET /a#b HTTP/1.1"), 400, "%23"),
    "a fragment behind a query": (get(line="GET /a?b#c HTTP/1.1"), 400, "%23"),
    "a fragment in absolute form": (get(line="GET http://a/a#b HTTP/1.1"), 400, "%23"),
    "a byte above ASCII in a path": (get(line="GET /a\x80 HTTP/1.1"), 400, "visible ASCII"),
    "a byte above ASCII in absolute form": (get(line="GET http://a/a\x80 HTTP/1.1"), 400, "visible ASCII"),
    "a control character in absolute form": (get(line="GET http://a/a\x01 HTTP/1.1"), 400, "visible ASCII"),
    "DEL in the query of an absolute form": (get(line="GET http://a/a?\x7f HTTP/1.1"), 400, "visible ASCII"),
    "a tab in the host of an absolute form": (get(line="GET http://a\t/a HTTP/1.1"), 400, "visible ASCII"),
    "a path without a slash": (get(line="GET a HTTP/1.1"), 400, "begin with /"),
    "an asterisk, but not of OPTIONS": (get(line="GET * HTTP/1.1"), 400, "begin with /"),
    "an absolute target of another host": (get(line="GET http://b/a HTTP/1.1"), 421, "http.hosts"),
    "an absolute target of our other host": (get(line="GET http://localhost/a HTTP/1.1"), 400, "two hosts"),
    "an absolute target of another port": (get(line="GET http://a:81/a HTTP/1.1"), 400, "two hosts"),
    "an absolute target with a user": (get(line="GET http://u@a/a HTTP/1.1"), 400, "host"),
    "an absolute target without a host": (get(line="GET http:///a HTTP/1.1"), 400, "host"),
    "another scheme": (get(line="GET ftp://a/a HTTP/1.1"), 400, "begin with /"),
    "bare LF throughout": (b"GET /a HTTP/1.1\nHost: a\n\n", 400, "LF"),
    "bare LF behind a header": (b"GET /a HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400, "LF"),
    "bare LF as the blank line": (b"GET /a HTTP/1.1\r\nHost: a\r\n\n", 400, "LF"),
    "a bare CR": (get("X: 1\rY: 2"), 400, "control character"),
    "a blank line before it": (b"\r\n" + get(), 400, "method"),
    "a space before it": (b" " + get(), 400, "method"),
    "a folded header": (get("X: 1", " 2"), 400, "folding"),
    "a folded first header": (get(host=" Host: a"), 400, "folding"),
    "a space before a colon": (get("X : 1"), 400, "colon"),
    "a header without a colon": (get("X"), 400, "colon"),
    "a header without a name": (get(": 1"), 400, "colon"),
    "a name that is no token": (get("X(y): 1"), 400, "colon"),
    "a name with an umlaut": (get("\xe4: 1"), 400, "colon"),
    "a NUL in a value": (get("X: 1\x002"), 400, "control character"),
    "a control character in a value": (get("X: 1\x012"), 400, "control character"),
    "DEL in a value": (get("X: 1\x7f"), 400, "control character"),
    "no Host": (get(host=""), 400, "Host"),
    "an empty Host": (get(host="Host:"), 400, "Host"),
    "two Hosts": (get(HOST), 400, "host came twice"),
    "two hosts in one": (get(host="Host: a, b"), 400, "Host"),
    "a Host with a path": (get(host="Host: a/b"), 400, "Host"),
    "a Host with a user": (get(host="Host: u@a"), 400, "Host"),
    "a Host with a port of letters": (get(host="Host: a:b"), 400, "Host"),
    "a Host with an umlaut": (get(host="Host: \xe4"), 400, "Host"),
    "a Host in brackets that is no address": (get(host="Host: [a]"), 400, "Host"),
    "two content types": (post("Content-Type: text/plain", "content-type: application/json"), 400, "twice"),
    "two lengths": (post("Content-Length: 3", "Content-Length: 4", body="abc"), 400, "twice"),
    "one length twice": (post("Content-Length: 3", "Content-Length: 3", body="abc"), 400, "twice"),
    "a list of lengths": (post("Content-Length: 3, 3", body="abc"), 400, "content-length"),
    "a length with a sign": (post("Content-Length: +3", body="abc"), 400, "content-length"),
    "no length": (post("Content-Length:", body="abc"), 400, "content-length"),
    "a length and a coding": (post("Content-Length: 3", CHUNKED, body="abc"), 400, "two ways"),
    "a coding in HTTP/1.0": (get(CHUNKED, line="POST /a HTTP/1.0", body="0\r\n\r\n"), 400, "HTTP/1.1"),
    "chunked, identity": (post(f"{CHUNKED}, identity", body="0\r\n\r\n"), 400, "chunked"),
    "identity": (post("Transfer-Encoding: identity", body="abc"), 400, "chunked"),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 501, "chunked"),
    "two codings": (post(CHUNKED, CHUNKED, body="0\r\n\r\n"), 400, "twice"),
    "a space before a chunk's size": (post(CHUNKED, body=" 3\r\nabc\r\n0\r\n\r\n"), 400, "size"),
    "a space before an extension": (post(CHUNKED, body="3 ;x\r\nabc\r\n0\r\n\r\n"), 400, "size"),
    "a size with a prefix": (post(CHUNKED, body="0x3\r\nabc\r\n0\r\n\r\n"), 400, "size"),
    "a negative size": (post(CHUNKED, body="-3\r\nabc\r\n0\r\n\r\n"), 400, "size"),
    "bare LF behind a size": (post(CHUNKED, body="3\nabc\r\n0\r\n\r\n"), 400, "size"),
    "bare LF behind a trailer": (post(CHUNKED, body="0\r\nX: 1\nY: 2\r\n\r\n"), 400, "trailer"),
    "a folded trailer": (post(CHUNKED, body="0\r\nX: 1\r\n 2\r\n\r\n"), 400, "trailer"),
    "a chunk that is longer than it says": (post(CHUNKED, body="3\r\nabcd\r\n0\r\n\r\n"), 400, "chunk"),
    "a chunk that says to be too large": (post(CHUNKED, body="ffffff\r\nabc"), 413, "bytes"),
    "far too many headers": (get(*["x:"] * 50_000), 431, "bytes"),
}

READ: dict[str, tuple[bytes, list[Any]]] = {
    "a method nobody knows": (get(line="BREW /a HTTP/1.1"), [405]),
    "a percent-encoded slash": (
        get(line="GET /a/b%2Fc HTTP/1.1"),
        ["GET", "/a/b/c", {"name": "b/c"}, "", ""],
    ),
    "percent-encoded dots": (get(line="GET /a/%2e%2E HTTP/1.1"), ["GET", "/a/..", {"name": ".."}, "", ""]),
    "dots": (get(line="GET /a/../a HTTP/1.1"), [404]),
    "two slashes": (get(line="GET //a HTTP/1.1"), [404]),
    "two slashes that look like a host": (get(line="GET //b/a HTTP/1.1"), [404]),
    "two question marks": (get(line="GET /a?b?c HTTP/1.1"), ["GET", "/a", {}, "b?c", ""]),
    "absolute form": (get(line="GET http://a/a?b=1 HTTP/1.1"), ["GET", "/a", {}, "b=1", ""]),
    "absolute form in upper case": (get(line="GET HTTP://A:80/a HTTP/1.1"), ["GET", "/a", {}, "", ""]),
    "absolute form without a path": (get(line="GET http://a HTTP/1.1"), [404]),
    "the asterisk of OPTIONS": (get(line="OPTIONS * HTTP/1.1"), [204]),
    "HTTP/1.0 without a Host": (get(line="GET /a HTTP/1.0", host=""), ["GET", "/a", {}, "", ""]),
    "a port": (get(host="Host: a:80"), ["GET", "/a", {}, "", ""]),
    "a Host in upper case, with a dot": (get(host="HOST: A.:8080"), ["GET", "/a", {}, "", ""]),
    "an upgrade to HTTP/2": (get("Connection: Upgrade", "Upgrade: h2c"), ["GET", "/a", {}, "", ""]),
    "chunks with extensions and trailers": (
        post(CHUNKED, body='3;x="y";z\r\nabc\r\n2\r\nde\r\n0;q\r\nX: 1\r\n\r\n'),
        ["POST", "/a", {}, "", "abcde"],
    ),
    "a coding in upper case": (
        post("Transfer-Encoding: Chunked", body="1\r\na\r\n0\r\n\r\n"),
        ["POST", "/a", {}, "", "a"],
    ),
    "bytes above ASCII in a value": (get("X: \xe4"), ["GET", "/a", {}, "", ""]),
    "an empty value": (get("X:"), ["GET", "/a", {}, "", ""]),
}


@pytest_asyncio.fixture(params=["lane", "hypercorn"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Serving]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serving(*STEPS, lane=request.param == "lane"))


async def test_what_is_in_doubt_is_refused_with_the_reason(running: Serving) -> None:
    for name, (sent, status, reason) in REFUSED.items():
        wire = await running.connect()
        wire.writer.write(sent + get())  # what is smuggled behind it is never answered
        told, fields, body = await wire.reply()
        assert (told, fields["connection"]) == (status, "close"), name
        assert reason in body.decode(), (name, body)
        assert await wire.end() == b"", name


async def test_what_is_refused_behind_other_requests_is_refused_after_their_answers(running: Serving) -> None:
    wire = await running.connect()
    wire.writer.write(get() + get() + get(line="get /a HTTP/1.1") + get())
    assert [(await wire.reply())[0] for _ in range(3)] == [200, 200, 400]
    assert await wire.end() == b""


async def test_what_may_be_read_in_one_way_is_read_so_by_all(running: Serving) -> None:
    for name, (sent, expected) in READ.items():
        wire = await running.connect()
        wire.writer.write(sent)
        status, _, body = await wire.reply()
        assert status == (expected[0] if len(expected) == 1 else 200), name
        if status == 200:
            assert json.loads(body) == expected, name
        wire.writer.close()


async def test_bytes_behind_the_last_request_of_a_connection_are_no_request(running: Serving) -> None:
    for first in (get("Connection: close"), get(line="GET /a HTTP/1.0")):
        wire = await running.connect()
        wire.writer.write(first + get())
        assert (await wire.reply())[0] == 200
        assert await wire.end() == b""


H2_REFUSED: dict[str, tuple[dict[str, str], list[tuple[str, str]], int]] = {
    "a method in lower case": ({":method": "get"}, [], 400),
    "a fragment": ({":path": "/a#b"}, [], 400),
    "a path without a slash": ({":path": "a"}, [], 400),
    "an absolute path": ({":path": "http://a/a"}, [], 400),
    "an asterisk, but not of OPTIONS": ({":path": "*"}, [], 400),
    "an authority with a user": ({":authority": "u@a"}, [], 400),
    "another scheme": ({":scheme": "ftp"}, [], 400),
    "a control character in a value": ({}, [("x", "1\x012")], 400),
    "two content types": ({}, [("content-type", "text/plain"), ("content-type", "text/html")], 400),
    "a foreign authority": ({":authority": "evil.example"}, [], 421),
    "a foreign host": ({":authority": ""}, [("host", "evil.example")], 421),
}


async def test_http_2_refuses_the_same() -> None:
    async with serving(*STEPS, config=HttpConfig(port=0, h2=True)) as running:
        client = await http2(running)
        for number, (name, (pseudo, fields, status)) in enumerate(H2_REFUSED.items()):
            id = 2 * number + 1
            head = {":method": "GET", ":path": "/a", ":scheme": "http", ":authority": "a"} | pseudo
            pairs = [pair for pair in head.items() if pair[1] or pair[0] != ":authority"]
            client.frames.send_headers(id, [*pairs, *fields], end_stream=True)
            client.flush()
            await client.event(h2.events.StreamEnded, id)
            assert client.status(id) == status, name
        client.ask(99, "/a", ("host", "a"))
        await client.event(h2.events.StreamEnded, 99)
        assert client.status(99) == 200
        client.close()
