"""A site on a real socket, served as in production, and raw connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import structs
from web_kit import Site, get, post, site

from iii.config import HttpConfig
from iii.step import Step
from iii.web.endpoint import Endpoint
from iii.web.port import address_of, listen
from iii.web.server import serve


class Text(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1)]


async def store_text(request: Any, ctx: Any) -> Any:
    await ctx.state.set("texts", "a", request.body.text)
    return {"ok": True}


STEPS = (
    post("/texts", store_text, name="Store", body_schema=Text),
    get("/hello/{name}", lambda request: f"hello {request.params['name']}", name="Hello"),
    post("/raw", lambda request: request.raw, name="Raw"),
)


class Serving:
    def __init__(self, running: Site, port: int, server: asyncio.Task[None], shutdown: asyncio.Event) -> None:
        self.site, self.port, self.server, self.shutdown = running, port, server, shutdown
        self.url = f"http://127.0.0.1:{port}"
        self._wires: list[Wire] = []

    async def connect(self) -> Wire:
        """Closed with the site, also where a test fails before it closes it."""
        return self.keep(*await asyncio.open_connection("127.0.0.1", self.port))

    def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Wire:
        """Of a connection that was made otherwise."""
        wire = Wire(reader, writer)
        self._wires.append(wire)
        return wire

    async def leave(self) -> None:
        for wire in self._wires:
            wire.writer.transport.abort()
            with suppress(OSError):
                await wire.writer.wait_closed()


class Serve(Protocol):
    def __call__(
        self, *steps: Step, config: HttpConfig | None = None, drain_ms: int = 10_000
    ) -> AbstractAsyncContextManager[Serving]: ...


class Wire:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *lines: str, body: bytes = b"") -> None:
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(head[0].split()[1]), headers, body

    async def end(self) -> bytes:
        """The rest, once the server closed."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""
            finally:
                self.writer.close()


@asynccontextmanager
async def serving(
    *steps: Step,
    config: HttpConfig | None = None,
    drain_ms: int = 10_000,
    lane: bool = True,
    around: Callable[[Endpoint], Endpoint] = lambda endpoint: endpoint,
) -> AsyncIterator[Serving]:
    """`around`: what to serve in place of the site's endpoint. Its host is "a" unless the config has some."""
    config = structs.replace(config or HttpConfig(port=0), lane=lane)
    config = structs.replace(config, hosts=config.hosts or ("a",))
    async with site(*(steps or STEPS), config=config) as running:
        sockets = listen("127.0.0.1", 0)
        shutdown = asyncio.Event()
        server = asyncio.ensure_future(serve(around(running.endpoint), sockets, shutdown, drain_ms=drain_ms))
        served = Serving(running, address_of(sockets)[1], server, shutdown)
        try:
            yield served
        finally:
            running.endpoint.drain()
            shutdown.set()
            try:
                await asyncio.wait_for(server, 15)
            finally:
                await served.leave()
