"""Whatever 64 KB of a head or 1 MiB of a body hold, no request holds the loop, in the lane or behind it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import hostile_kit
import pytest
from hostile_kit import ALPHABETS, BODY_BYTES, BODY_S, HEAD_BYTES, HEAD_S, HEADERS, Loop, ask, filled, head
from http_kit import Serving, serving
from web_kit import get, post, site

from iii.config import CorsConfig, HttpConfig
from iii.store.search import WORD_CHARS_MAX, Place, Wanted, search

Case = tuple[str, Callable[[], Any]]

JSON: dict[str, bytes] = {
    "depth": b"[" * BODY_BYTES,
    "depth of objects": filled(b'{"a":', BODY_BYTES),
    "digits": b"9" * BODY_BYTES,
    "digits of a fraction": b"0." + b"9" * BODY_BYTES,
    "digits of an exponent": b"1e" + b"9" * BODY_BYTES,
    "long integers": b"[" + filled(b"9" * 4_000 + b",", BODY_BYTES) + b"1]",
    "floats at the edge": b"[" + filled(b"1.7976931348623157e308,", BODY_BYTES) + b"1]",
    "floats near zero": b"[" + filled(b"2.2250738585072011e-308,", BODY_BYTES) + b"1]",
    "lists": b"[" + filled(b"[],", BODY_BYTES) + b"1]",
    "lists in lists": b"[" + filled(b"[[[[[]]]]],", BODY_BYTES) + b"1]",
    "objects": b"[" + filled(b'{"a":{}},', BODY_BYTES) + b"1]",
    "one key again and again": b"{" + filled(b'"a":1,', BODY_BYTES) + b'"a":1}',
    "many keys": b"{" + b",".join(b'"%x":1' % number for number in range(100_000)) + b"}",
    "escapes": b'"' + filled(b"\\u0041", BODY_BYTES) + b'"',
    "halves of characters": b'"' + filled(b"\\ud800", BODY_BYTES) + b'"',
    "bytes of no character": b"\xff" * BODY_BYTES,
    "zeros": b"\0" * BODY_BYTES,
    "blanks": b" " * BODY_BYTES,
}
FORMS = (b"&", b"=", b"a&", b"%", b"%41", b"%4", b"%%41", b"+", b";", b"%zz", b"\xc3\xa9", b"%41z")
PARTS: dict[str, bytes] = {
    "boundaries": filled(b"\r\n--x", BODY_BYTES),
    "almost boundaries": b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\n"
    + filled(b"\r\n--", BODY_BYTES),
    "parts": filled(b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n', BODY_BYTES) + b"--x--",
    "headers": b"--x\r\n" + filled(b"a: b\r\n", BODY_BYTES),
    "parameters": b"--x\r\ncontent-disposition: form-data"
    + filled(b";a=b", BODY_BYTES)
    + b"\r\n\r\n1\r\n--x--",
    "quotes": b'--x\r\ncontent-disposition: form-data; name="' + filled(b'\\"', BODY_BYTES) + b'"\r\n\r\n1',
}


async def look(request: Any) -> Any:
    """Reads all that is read only when it is asked for."""
    return [len(request.cookies), len(request.headers), len(request.query), len(request.path_params)]


STEPS = (
    get("/look", look, name="Look"),
    get("/look/{one}", look, name="One"),
    get("/look/{one}/{two}/x", look, name="Two"),
    post("/take", lambda request: len(request.raw), name="Take"),
)
CONFIG = HttpConfig(port=0, cors=CorsConfig(origins=("http://a.example",), credentials=True))


@pytest.fixture(params=["lane", "hypercorn"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Serving]:
    async with serving(*STEPS, config=CONFIG, lane=request.param == "lane") as running:
        yield running


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    with hostile_kit.watched(monkeypatch) as seen:
        yield seen


async def test_the_watch_sees_what_holds_the_loop_and_honest_requests_are_answered(
    served: Serving, loop: Loop
) -> None:
    async def hold() -> None:
        sum(range(300_000))

    assert await loop.costs(lambda: asyncio.ensure_future(hold()), 0.0) > 0.001
    assert await ask(served.port, head("GET /look/a?b=c", cookie=b"d=e")) == 200
    assert await take(served, b'{"a": [1.5]}') == 200


async def test_no_header_holds_the_loop(served: Serving, loop: Loop) -> None:
    def cases() -> Iterator[Case]:
        for name in HEADERS:
            for pattern in ALPHABETS:
                request = head("GET /look", **{name: filled(pattern)})
                yield f"{name}: {pattern!r}", functools.partial(ask, served.port, request)

    assert await loop.dear(cases(), HEAD_S) == {}


async def test_no_number_of_headers_holds_the_loop(served: Serving, loop: Loop) -> None:
    def cases() -> Iterator[Case]:
        for line in (b"a:b", b"cookie:a=b", b"connection:a", b"content-length:1", b"host:a", b" folded"):
            request = head("GET /look")[:-2] + filled(line + b"\r\n") + b"\r\n"
            yield repr(line), functools.partial(ask, served.port, request)

    assert await loop.dear(cases(), HEAD_S) == {}


async def test_no_path_and_no_query_holds_the_loop(served: Serving, loop: Loop) -> None:
    def cases() -> Iterator[Case]:
        for target in ("/", "/look/", "/look/a/", "/look?", "/look?a=", "*"):
            for pattern in (*ALPHABETS, b"a/", b"%2f", b"../", b"a&", b"a=1&", b"a=%&", b"look/"):
                request = head(f"GET {target}{filled(pattern).decode('latin-1').replace(' ', '+')}")
                yield f"{target} {pattern!r}", functools.partial(ask, served.port, request)

    assert await loop.dear(cases(), HEAD_S) == {}


async def test_no_json_body_holds_the_loop(served: Serving, loop: Loop) -> None:
    cases = ((name, functools.partial(take, served, body[:BODY_BYTES])) for name, body in JSON.items())
    assert await loop.dear(cases, BODY_S) == {}


async def test_no_form_holds_the_loop(served: Serving, loop: Loop) -> None:
    def cases() -> Iterator[Case]:
        for pattern in FORMS:
            body = filled(pattern, BODY_BYTES)
            yield repr(pattern), functools.partial(take, served, body, b"application/x-www-form-urlencoded")
        for name, body in PARTS.items():
            kind = b"multipart/form-data; boundary=x"
            yield name, functools.partial(take, served, body[:BODY_BYTES], kind)

    assert await loop.dear(cases(), BODY_S) == {}


async def test_no_chunks_hold_the_loop(served: Serving, loop: Loop) -> None:
    def cases() -> Iterator[Case]:
        for chunk in (b"1\r\na\r\n", b"1;" + b"a" * 100 + b"\r\na\r\n", b"5\r\nabcde\r\n", b"0001\r\na\r\n"):
            request = head("POST /take", transfer_encoding=b"chunked", content_type=b"text/plain")
            request += filled(chunk, BODY_BYTES) + b"0\r\n\r\n"
            yield repr(chunk), functools.partial(ask, served.port, request)

    assert await loop.dear(cases(), HEAD_S) == {}


async def test_chunks_that_are_mostly_framing_are_refused(served: Serving) -> None:
    begin = head("POST /take", transfer_encoding=b"chunked", content_type=b"text/plain")
    assert await ask(served.port, begin + b"1\r\na\r\n" * 2_000 + b"0\r\n\r\n") == 200
    assert await ask(served.port, begin + b"8\r\nabcdefgh\r\n" * 20_000 + b"0\r\n\r\n") == 200
    assert await ask(served.port, begin + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n") == 400
    assert await ask(served.port, begin + (b"1;" + b"a" * 4_000 + b"\r\na\r\n") * 10 + b"0\r\n\r\n") == 400


async def take(served: Serving, body: bytes, kind: bytes = b"application/json") -> int:
    return await ask(served.port, hostile_kit.post("/take", body, kind))


async def test_what_a_search_looks_for_is_short() -> None:
    from iii.errors import InputError

    async with site() as running:
        for name in ("q", "field", "value"):
            place = Place("jobs", "", "ready")
            assert (await search(running.store, [place], Wanted(**{name: "x" * WORD_CHARS_MAX}))).scanned == 0
            with pytest.raises(InputError, match=f"{name}: at most 1000 characters"):
                await search(running.store, [place], Wanted(**{name: "x" * (WORD_CHARS_MAX + 1)}))


def test_hostile_heads_are_as_long_as_a_head_may_be() -> None:
    assert HEAD_BYTES < CONFIG.head_bytes_max < HEAD_BYTES + 8192
