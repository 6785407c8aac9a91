"""Whatever the console is asked, before a login and after it, no request holds the loop."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from console_kit import Console, serving
from engine_kit import step
from web import hostile_kit
from web.hostile_kit import ALPHABETS, BODY_BYTES, BODY_S, HEAD_S, Loop, ask, filled, head

from iii.model import Enqueue, Put, Txn

TOKEN = "a token that nobody guesses"
LETTERS = ("a", "A", "é", "İ", '"', "\\", "%", "+", "(", "[", ".", "a.", "0", "9", "-", "*", "\0", "1e", ",")
CHARS = 15_000  # of them below http.max_head, percent-encoded
HEADERS = (
    "authorization", "content-type", "cookie", "host", "if-none-match", "origin", "sec-fetch-site",
    "transfer-encoding", "x-forwarded-for",
)  # fmt: skip
FIELDS = {
    "/api/queues/jobs/messages": ("q", "field", "value", "after", "step"),
    "/api/queues/lists/messages": ("q", "field"),
    "/api/state/ns": ("prefix", "after", "limit"),
    "/api/runs": ("q", "step", "before"),
    "/api/traces": ("q", "before"),
    "/api/logs": ("q", "level"),
}
PATHS = (
    "/api/queues/{}/messages", "/api/messages/{}", "/api/state/{}", "/api/state/ns/{}",
    "/api/traces/{}", "/static/{}", "/{}",
)  # fmt: skip
LISTS = b"[" + filled(b"[],", BODY_BYTES - 1_000) + b"1]"
ACTS = ("/api/enqueue", "/api/queues/redrive", "/api/queues/purge", "/api/request", "/api/messages/1/resend")

Case = tuple[str, Callable[[], Any]]


async def echo(data: Any) -> None: ...


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    """With messages, large ones too, and values to look through."""
    async with serving(tmp_path, step(echo, {"type": "http", "method": "POST", "path": "/b"})) as running:
        store = running.engine.store
        payload = orjson.dumps({"a": {"b": 1}, "text": "x" * 200})
        await store.commit(Txn([Enqueue("jobs", payload) for _ in range(2_000)]))
        await store.commit(Txn([Enqueue("lists", LISTS) for _ in range(3)]))
        await store.commit(Txn([Put("ns", f"key-{number}", b"1") for number in range(500)]))
        await store.commit(Txn([Put("ns", "large", b"[" + b"[]," * 1_300_000 + b"1]")]))
        yield running


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    with hostile_kit.watched(monkeypatch) as seen:
        yield seen


def port_of(console: Console) -> int:
    return int(console.address.rpartition(":")[2])


async def test_no_header_holds_the_loop_before_a_login(tmp_path: Path, loop: Loop) -> None:
    from iii.config import ConsoleConfig

    async with serving(tmp_path, console=ConsoleConfig(port=0, token=TOKEN)) as console:
        port = port_of(console)
        assert await ask(port, head("GET /api/queues")) == 401

        def cases() -> Iterator[Case]:
            for name in HEADERS:
                for pattern in ALPHABETS:
                    said = {name: filled(pattern)}
                    yield (
                        f"{name}: {pattern!r}",
                        functools.partial(ask, port, head("GET /api/queues", **said)),
                    )
            for pattern in ALPHABETS:
                cookie = b'iii_console="' + filled(pattern) + b'"'
                yield f"cookie {pattern!r}", functools.partial(ask, port, head("GET /", cookie=cookie))

        assert await loop.dear(cases(), HEAD_S) == {}


async def test_no_field_and_no_path_holds_the_loop(console: Console, loop: Loop) -> None:
    port = port_of(console)

    def cases() -> Iterator[Case]:
        for path, names in FIELDS.items():
            for name in names:
                for letter in LETTERS:
                    text = quote(letter, safe="") * (CHARS // len(quote(letter, safe="")))
                    target = f"{path}?{name}={text}" + "&field=a" * (name == "value")
                    yield f"{path} {name} {letter!r}", functools.partial(ask, port, head(f"GET {target}"))
            for pattern in ("&", "a&", "a=1&", "%", "q=&"):
                target = f"{path}?{pattern * (CHARS // len(pattern))}"
                yield f"{path} {pattern!r}", functools.partial(ask, port, head(f"GET {target}"))
        for path in PATHS:
            for letter in (*map(quote, LETTERS), "%", "/", "%2f", "..%2f", "%c3"):
                target = path.format(letter * (CHARS // len(letter)))
                yield f"{path} {letter!r}", functools.partial(ask, port, head(f"GET {target}"))

    assert await loop.dear(cases(), HEAD_S) == {}


async def test_no_page_holds_the_loop_however_large_what_it_shows_is(console: Console, loop: Loop) -> None:
    targets = (
        "/api/state/ns/large", "/api/state/ns?limit=1000", "/api/queues/lists/messages?field=a.b",
        "/api/queues/lists/messages?field=7", "/api/messages/2001", "/api/queues", "/metrics",
    )  # fmt: skip
    topics = [Enqueue(f"topic-{number}", b"1") for number in range(900)]
    await console.engine.store.commit(Txn(topics))
    asked = ((each, functools.partial(ask, port_of(console), head(f"GET {each}"))) for each in targets)
    assert await loop.dear(asked, HEAD_S) == {}


async def test_no_body_holds_the_loop(console: Console, loop: Loop) -> None:
    long = "9" * BODY_BYTES
    bodies: dict[str, bytes] = {
        "depth": b"[" * BODY_BYTES,
        "depth of objects": filled(b'{"a":', BODY_BYTES),
        "lists": b'{"topic":"t","method":"POST","path":"/b","payload":1,"data":' + LISTS + b"}",
        "a duration": orjson.dumps({"topic": "t", "delay": "1" + " " * BODY_BYTES + "!"}),
        "a priority": b'{"topic":"t","priority":' + long.encode() + b"}",
        "a topic": orjson.dumps({"topic": "(" * BODY_BYTES}),
        "ids": orjson.dumps({"topic": "jobs", "dry_run": True, "ids": [str(n) for n in range(100_000)]}),
        "ids that are looked for": orjson.dumps(
            {"topic": "jobs", "dry_run": True, "ids": [str(9_999_999 + n) for n in range(1_000)]}
        ),
        "a filter": orjson.dumps({"topic": "jobs", "dry_run": True, "filter": {"q": "a" * BODY_BYTES}}),
        "a path": orjson.dumps({"topic": "jobs", "filter": {"field": "." * BODY_BYTES}}),
        "a target": orjson.dumps({"method": "GET", "path": "/b?" + "a=%" * (BODY_BYTES // 3)}),
        "a cookie": orjson.dumps({"method": "GET", "path": "/b", "headers": {"cookie": '"\\' * 500_000}}),
    }

    def cases() -> Iterator[Case]:
        for path in ACTS:
            for name, body in bodies.items():
                yield f"{path} {name}", functools.partial(ask, port_of(console), hostile_kit.post(path, body))
        value = b'{"value":' + LISTS + b"}"
        put = hostile_kit.post("/api/state/ns/a", value, method="PUT")
        yield "a value", functools.partial(ask, port_of(console), put)

    assert await loop.dear(cases(), BODY_S) == {}
