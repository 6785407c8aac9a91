"""The ASGI application: limits while reading, disconnects, mounts, lifespan, other scopes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from web_kit import Site, get, post, site

from iii.config import HttpConfig
from iii.step import Response
from iii.web.asgi import app
from iii.web.lifespan import Lifespan


class Client:
    """One ASGI connection: what the server would put in, and what it would send."""

    def __init__(self, running: Site, method: str = "GET", path: str = "/", **scope: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.waiting = asyncio.Event()
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            **scope,
        }
        self.task = asyncio.ensure_future(app(running.endpoint)(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self.incoming.empty():
            self.waiting.set()
        return await self.incoming.get()

    async def _send(self, event: Any) -> None:
        self.sent.append(event)

    def body(self, content: bytes = b"", more: bool = False) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def content(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])

    @property
    def ended(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", False) and len(self.sent) > 1

    def header(self, name: bytes) -> bytes | None:
        return dict(self.sent[0]["headers"]).get(name)


async def echo(request: Any) -> Any:
    return request.raw


async def test_a_body_in_chunks_is_put_together() -> None:
    async with site(post("/", echo)) as running:
        client = Client(running, "POST")
        for chunk in (b"a", b"", b"b"):
            client.body(chunk, more=True)
        client.body(b"c")
        await client.task
        assert (client.status, client.content, client.ended) == (200, b"abc", True)


SMALL = HttpConfig(body_bytes_max=10, head_bytes_max=200)


async def test_a_declared_body_over_the_limit_is_413_before_it_is_read() -> None:
    async with site(post("/", echo), config=SMALL) as running:
        client = Client(running, "POST", headers=[(b"content-length", b"11")])
        await client.waiting.wait()  # it lingers: nothing was read to answer
        assert (client.status, client.header(b"connection")) == (413, b"close")
        assert b"at most 10 bytes" in client.content
        client.leave()
        await client.task


async def test_a_body_that_grows_over_the_limit_is_413_without_reading_on() -> None:
    async with site(post("/", echo), config=SMALL) as running:
        client = Client(running, "POST")
        client.body(b"123456", more=True)
        client.body(b"12345", more=True)
        await client.waiting.wait()
        assert client.status == 413
        client.body(b"x" * 1000)
        await client.task
        assert client.ended


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with site(post("/", echo), config=SMALL) as running:
        client = Client(running, "POST", headers=[(b"content-length", b"10")])
        client.body(b"1234567890")
        await client.task
        assert client.status == 200


async def test_a_head_over_the_limit_is_431() -> None:
    async with site(get("/", echo), config=SMALL) as running:
        client = Client(running, headers=[(b"x-a", b"v" * 200)])
        client.body()
        await client.task
        assert client.status == 431
        assert b'"error"' in client.content


async def test_a_body_that_does_not_arrive_is_408() -> None:
    async with site(post("/", echo), config=HttpConfig(timeout_ms=20)) as running:
        client = Client(running, "POST")
        client.body(b"a", more=True)
        await client.waiting.wait()
        client.waiting.clear()
        await client.waiting.wait()
        assert client.status == 408
        client.leave()
        await client.task


async def test_a_client_that_leaves_before_its_request_is_whole_is_forgotten() -> None:
    async with site(post("/", echo)) as running:
        client = Client(running, "POST")
        client.body(b"a", more=True)
        client.leave()
        await client.task
        assert client.sent == []


async def test_a_client_that_leaves_does_not_cancel_the_handler() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(request: Any, ctx: Any) -> None:
        begun.set()
        await go.wait()
        await ctx.state.set("orders", "a", 1)

    async with site(post("/", handler)) as running:
        client = Client(running, "POST")
        client.body()
        await begun.wait()
        client.leave()
        go.set()
        await client.task
        assert running.value("orders", "a") == 1


# -------------------------------------------------------------------------------------------- streams


class Ticking:
    """An event stream that goes on until it is ended."""

    def __init__(self, kind: str = "text/event-stream") -> None:
        self.kind = kind
        self.ended = asyncio.Event()
        self.sent_one = asyncio.Event()

    async def _ticks(self) -> AsyncIterator[str]:
        try:
            yield "tick"
            self.sent_one.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def __call__(self) -> Response:
        return Response(200, self._ticks(), {"content-type": self.kind})


async def test_a_stream_ends_when_its_client_leaves() -> None:
    ticking = Ticking()
    async with site(get("/", ticking)) as running:
        client = Client(running)
        client.body()
        await ticking.sent_one.wait()
        assert client.content == b"data: tick\n\n"
        client.leave()
        await client.task
        assert ticking.ended.is_set()
        assert not client.ended


async def test_an_event_stream_ends_cleanly_when_the_engine_drains() -> None:
    ticking = Ticking()
    async with site(get("/", ticking)) as running:
        client = Client(running)
        client.body()
        await ticking.sent_one.wait()
        running.endpoint.drain()
        await client.task
        assert ticking.ended.is_set()
        assert client.ended


async def test_another_stream_goes_on_while_the_engine_drains() -> None:
    ticking = Ticking("text/plain")
    async with site(get("/", ticking)) as running:
        client = Client(running)
        client.body()
        await ticking.sent_one.wait()
        running.endpoint.drain()
        await asyncio.wait([client.task], timeout=0)
        assert not client.task.done()
        client.leave()
        await client.task


async def test_a_stream_that_breaks_is_left_without_its_end() -> None:
    async def parts() -> AsyncIterator[str]:
        yield "a"
        raise RuntimeError

    async def handler() -> Any:
        return parts()

    async with site(get("/", handler)) as running:
        client = Client(running)
        client.body()
        await client.task
        assert (client.status, client.content, client.ended) == (200, b"a", False)


async def test_a_cancelled_connection_ends_its_stream() -> None:
    ticking = Ticking()
    async with site(get("/", ticking)) as running:
        client = Client(running)
        client.body()
        await ticking.sent_one.wait()
        client.task.cancel()
        await asyncio.wait([client.task])
        assert ticking.ended.is_set()


# -------------------------------------------------------------------------------------- mounts, scopes


@asynccontextmanager
async def _browsing(application: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def where(request: Any) -> Any:
    return [request.path, request.path_params, dict(request.query)]


@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware)]], ids=["plain", "wrapped"])
async def test_it_mounts_in_starlette(middleware: list[Any]) -> None:
    if middleware:

        async def dispatch(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)]
    async with site(get("/orders/{id}", where), post("/", echo, name="Echo")) as running:
        hello = Route("/hello", lambda request: PlainTextResponse("hi"))
        outer = Starlette(routes=[hello, Mount("/api v1", app(running.endpoint))], middleware=middleware)
        async with _browsing(outer) as client:
            assert (await client.get("/hello")).text == "hi"
            reply = await client.get("/api%20v1/orders/a%2Fb?c=1")
            assert reply.json() == ["/orders/a/b", {"id": "a/b"}, {"c": "1"}]
            assert (await client.post("/api%20v1/", content=b"abc")).content == b"abc"
            assert (await client.get("/api%20v1/health")).json() == {"status": "ok"}
            assert (await client.get("/api%20v1/nothing")).json() == {"error": "not found"}


PATHS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"path": "/orders/1", "raw_path": b"/orders/1"}, "1"),
    "mounted": ({"path": "/api/orders/1", "raw_path": b"/api/orders/1", "root_path": "/api"}, "1"),
    "mounted, root with a slash": (
        {"path": "/api/orders/1", "raw_path": b"/api/orders/1", "root_path": "/api/"},
        "1",
    ),
    "a server that strips the root": ({"path": "/orders/1", "raw_path": None, "root_path": "/api"}, "1"),
    "no raw path": ({"path": "/orders/a b/é".replace("/é", "é"), "raw_path": None}, "a bé"),
    "absolute form": ({"path": "x", "raw_path": b"http://host:80/orders/1"}, "1"),
}


@pytest.mark.parametrize(("scope", "id"), PATHS.values(), ids=PATHS)
async def test_the_path_below_the_mount_is_what_counts(scope: dict[str, Any], id: str) -> None:
    async with site(get("/orders/{id}", lambda request: request.params["id"])) as running:
        client = Client(running, **scope)
        client.body()
        await client.task
        assert (client.status, client.content) == (200, id.encode())


async def test_the_mount_itself_is_the_root() -> None:
    async with site(get("/", lambda: "root")) as running:
        client = Client(running, path="/api", root_path="/api")
        client.body()
        await client.task
        assert client.content == b"root"


async def test_header_names_are_lowered() -> None:
    async with site(get("/", lambda request: request.headers["x-a"])) as running:
        client = Client(running, headers=[(b"X-A", b"1")])
        client.body()
        await client.task
        assert client.content == b"1"


async def test_a_websocket_is_closed_and_another_scope_is_an_error() -> None:
    async with site() as running:
        client = Client(running, type="websocket")
        client.incoming.put_nowait({"type": "websocket.connect"})
        await client.task
        assert client.sent == [{"type": "websocket.close", "code": 1000}]
        client = Client(running, type="smtp")
        with pytest.raises(RuntimeError, match="smtp"):
            await client.task


class Calls(list[str]):
    async def start(self) -> None:
        self.append("started")

    async def stop(self) -> None:
        self.append("stopped")

    async def fail(self) -> None:
        raise RuntimeError("no store")


async def events(*sent_by_server: str, lifespan: Lifespan | None) -> list[dict[str, str]]:
    """What an application answers; a server that has told everything cancels it."""
    waiting = iter(sent_by_server)
    answers: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        for event in waiting:
            return {"type": f"lifespan.{event}"}
        raise asyncio.CancelledError

    async def send(event: Any) -> None:
        answers.append(event)

    async with site() as running:
        with suppress(RuntimeError, asyncio.CancelledError):
            await app(running.endpoint, lifespan)({"type": "lifespan"}, receive, send)
    return answers


async def test_lifespan_starts_and_stops_however_the_server_ends() -> None:
    started, stopped = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}
    assert await events("startup", "shutdown", lifespan=None) == [started, stopped]
    calls = Calls()
    lifespan = Lifespan(calls.start, calls.stop)
    assert await events("startup", "shutdown", lifespan=lifespan) == [started, stopped]
    assert calls == ["started", "stopped"]
    calls.clear()
    assert await events("startup", lifespan=lifespan) == [started]
    assert calls == ["started", "stopped"]


async def test_lifespan_tells_the_server_what_failed() -> None:
    calls = Calls()
    assert await events("startup", lifespan=Lifespan(calls.fail, calls.stop)) == [
        {"type": "lifespan.startup.failed", "message": "no store"}
    ]
    assert calls == []  # what has not started is not stopped
    assert (await events("startup", "shutdown", lifespan=Lifespan(calls.start, calls.fail)))[-1] == {
        "type": "lifespan.shutdown.failed", "message": "no store",
    }  # fmt: skip
