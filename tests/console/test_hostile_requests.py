"""Whatever bytes are sent to steps or console, before a login or after it: the answer is below 500, and the
log has neither an error nor a traceback for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from hostile_engine import Running, running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from odd_bytes import (
    KNOWN,
    bodies,
    frames_of,
    headers,
    http2_of,
    in_url,
    json_objects,
    odd,
    pseudo_headers,
    request_of,
)

from iii import http, queue
from iii.console.app import PAGES
from iii.definitions.loader import make_step

TOKEN = "a token of the console"
RIGHT = [(b"Authorization", f"Bearer {TOKEN}".encode())]
NOT_OURS = (501, 505)  # a transfer coding, a version of HTTP that nobody knows here (RFC 9112)
PARAMETERS = [
    "limit",
    "before",
    "after",
    "q",
    "field",
    "value",
    "state",
    "step",
    "topics",
    "trace",
    "level",
    "x",
]
PARAMETERS += ["outcome", "if_version", "prefix", "key", "namespace", "tag"]

few = settings(
    max_examples=80,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Body(msgspec.Struct):
    text: str
    n: int = 0


class Query(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    tag: list[str] = []


async def echo(request: Any) -> dict[str, str]:
    seen = (request.path_params, request.query, request.cookies, request.headers, request.body, request.path)
    return {str(number): repr(each) for number, each in enumerate(seen)}


async def typed(request: Any, ctx: Any) -> Any:
    await ctx.state.set("texts", "last", request.body.text)
    return {"n": request.body.n, "limit": request.query_params.limit}


async def mail(data: Any) -> None: ...


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    echoes = [http(verb, path) for verb in ("GET", "POST", "PUT") for path in ("/echo", "/echo/{a}/{b}")]
    steps = [
        make_step({"name": "Echo", "triggers": echoes}, echo),
        make_step(
            {"name": "Typed", "triggers": [http("POST", "/typed", body_schema=Body, query_params=Query)]},
            typed,
        ),
        make_step({"name": "Mail", "triggers": [queue("mail")]}, mail),
    ]
    with running(tmp_path_factory.mktemp("hostile"), steps, TOKEN) as found:
        yield found


def check(engine: Running, port: int, data: bytes) -> list[int]:
    engine.wrong.clear()
    answered = engine.ask(port, data)
    assert engine.wrong == [], data
    assert all(status < 500 or status in NOT_OURS for status in answered), (answered, data)
    return answered


def target_of(path: str, parts: list[bytes], query: list[tuple[str, bytes]]) -> bytes:
    filled = iter(parts)
    target = re.sub(r"\{\w+\}", lambda _: next(filled).decode("latin-1"), path).encode("latin-1")
    return target + (
        b"?" + b"&".join(name.encode() + b"=" + value for name, value in query) if query else b""
    )


API = [(verb, path) for page in PAGES for verb, path, _ in page.ROUTES if path != "/api/events"]
parts = st.lists(in_url, min_size=3, max_size=3)
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), in_url), max_size=3)
json_bodies = json_objects.map(lambda value: json.dumps(value).encode())
few_headers = st.one_of(
    st.just([(b"Content-Type", b"application/json")]),
    st.sampled_from(KNOWN[b"Content-Type"]).map(lambda value: [(b"Content-Type", value)]),
    headers.map(lambda pair: [(b"Content-Type", b"application/json"), pair]),
)
anything = st.builds(
    request_of,
    st.one_of(st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"PRI"]), odd),
    st.one_of(
        st.sampled_from([b"/", b"/echo", b"/typed", b"/health", b"/api/login", b"/api/events", b"/metrics"]),
        st.one_of(
            *(odd.map(lambda each, at=at: at + each) for at in (b"", b"/", b"/echo/a/b?", b"/static/"))
        ),
    ),
    st.lists(headers, max_size=3),
    bodies,
    framed=st.booleans(),
    version=st.sampled_from([b"1.1", b"1.1", b"1.0", b"2.0", b"x"]),
    lf=st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
)
frames = st.one_of(
    st.builds(http2_of, pseudo_headers, st.lists(headers, max_size=3), bodies),
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=20)),
        max_size=6,
    ).map(frames_of),
    st.binary(max_size=100),
)


def test_the_consoles_api_refuses_what_is_wrong(engine: Running) -> None:
    seen: set[int] = set()

    @few
    @given(st.sampled_from(API), parts, queries, few_headers, st.one_of(json_bodies, json_bodies, bodies))
    def ask(route: Any, parts: Any, query: Any, fields: Any, body: bytes) -> None:
        verb, path = route
        target = target_of(path, parts, query)
        data = request_of(verb.encode(), target, [*RIGHT, *fields], body, framed=True)
        seen.update(check(engine, engine.console, data))

    ask()
    assert {200, 400, 404} <= seen, "it gets as far as the pages"


def test_steps_routes_refuse_what_is_wrong(engine: Running) -> None:
    seen: set[int] = set()
    paths = st.sampled_from(["/echo", "/echo/{a}/{b}", "/typed"])

    @few
    @given(
        st.sampled_from([b"GET", b"POST", b"PUT"]), paths, parts, queries, few_headers, bodies | json_bodies
    )
    def ask(verb: bytes, path: str, parts: Any, query: Any, fields: Any, body: bytes) -> None:
        data = request_of(verb, target_of(path, parts, query), fields, body, framed=True)
        seen.update(check(engine, engine.http, data))

    ask()
    assert {200, 400} <= seen, "it gets as far as the handlers"


@pytest.mark.parametrize("which", ["http", "console"])
def test_bytes_that_are_hardly_http_are_refused(engine: Running, which: str) -> None:
    @few
    @given(anything)
    def ask(data: bytes) -> None:
        check(engine, getattr(engine, which), data)

    ask()


@pytest.mark.parametrize("which", ["http", "console"])
def test_http_2_frames_are_refused(engine: Running, which: str) -> None:
    @few
    @given(frames)
    def ask(data: bytes) -> None:
        check(engine, getattr(engine, which), data)

    ask()


LOGIN = b'{"token":' + b"[" * 3_000 + b"]" * 3_000 + b"}"
CASES = {
    "an Origin that is no URL": (b"GET", b"/", [(b"Origin", b"http://[::1")], b""),
    "an Origin with a name in brackets": (b"GET", b"/api/overview", [(b"Origin", b"http://[x]")], b""),
    "a Host that is no URL": (b"GET", b"/", [(b"Host", b"[::1")], b""),
    "a Host with a port that is none": (b"GET", b"/", [(b"Host", b"localhost:x")], b""),
    "a long static name": (b"GET", b"/static/" + b"a" * 300 + b".js", [], b""),
    "a static name of odd characters": (b"GET", b"/static/%00%ff%ed%a0%80.js", [], b""),
    "a deep login": (b"POST", b"/api/login", [(b"Content-Type", b"application/json")], LOGIN),
    "a login that is not UTF-8": (b"POST", b"/api/login", [], b'{"token":"\xff"}'),
    "a login with a lone surrogate": (b"POST", b"/api/login", [], b'{"token":"\\ud800"}'),
    "no path": (b"OPTIONS", b"*", [], b""),
    "a cookie of odd bytes": (b"GET", b"/api/overview", [(b"Cookie", b"iii_console=\xff.\xff")], b""),
    "a bearer of odd bytes": (b"GET", b"/api/overview", [(b"Authorization", b"Bearer \xff\xe9")], b""),
    "a cursor that is none": (b"GET", b"/api/traces?before=%D9%A3-%ff", RIGHT, b""),
    "a huge limit": (b"GET", b"/api/runs?limit=" + b"9" * 5_000, RIGHT, b""),
    "a place that is none": (b"GET", b"/api/queues/mail/messages?after=%00..%ff", RIGHT, b""),
    "an id that is none": (b"GET", b"/api/messages/%F0%9F%92%A9", RIGHT, b""),
    "a long key": (b"GET", b"/api/state/n/" + b"k" * 900, RIGHT, b""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_console_answers_each_odd_request_below_500(engine: Running, case: str) -> None:
    verb, target, fields, body = CASES[case]
    (status,) = check(engine, engine.console, request_of(verb, target, fields, body, framed=True))
    assert 400 <= status < 500


def test_the_page_is_served_all_the_same(engine: Running) -> None:
    for target in (b"/", b"/static/all.css", b"/static/app.js"):
        assert check(engine, engine.console, request_of(b"GET", target, [], b"", framed=True)) == [200]
