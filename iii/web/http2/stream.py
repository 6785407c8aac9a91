"""One request of an HTTP/2 connection, as an ASGI application sees it.

A body is sent by reference: `send` returns when the client's windows have taken all of it, so that nothing is
copied into a buffer and a streamed body's next chunk is made only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from h2.errors import ErrorCodes

from iii.web.asgi import AsgiApp, Event, Scope
from iii.web.response import NO_BODY, RawHeaders

__all__ = ["Gone", "Http2Stream", "Sender"]


class Gone(ConnectionError):
    """Nobody takes this stream's answer any more: it was reset, or its connection ended."""


class Sender(Protocol):
    """What a stream asks of its connection."""

    async def send_head(self, stream: Http2Stream, status: int, headers: RawHeaders, *, ends: bool) -> None:
        """Gone where it cannot be sent."""

    def offer(self, stream: Http2Stream) -> None:
        """`unsent` is to be sent."""

    async def end(self, stream: Http2Stream) -> None: ...

    async def room(self, stream: Http2Stream) -> None:
        """Wait until the connection may hold more."""

    def consumed(self, stream: Http2Stream) -> None:
        """The application has taken what arrived."""


class Http2Stream:
    """`declared_bytes`: what content-length says, None without one.

    broken_code: what resets it where its application ends before its answer does.

    answered: its head was sent; ended: all of its answer was; gone: the application gets nothing and is
    taken nothing from any more.
    """

    def __init__(
        self, id: int, scope: Scope, app: AsgiApp, sender: Sender, *, declared_bytes: int | None = None
    ) -> None:
        self.id, self.scope, self._app, self._sender = id, scope, app, sender
        self.path: str = scope["path"]
        self.declared_bytes = declared_bytes
        self.head_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
        self.received_bytes = 0
        self.unacknowledged_bytes = 0
        self.broken_code = ErrorCodes.INTERNAL_ERROR
        self.complete = self.answered = self.ended = self.gone = False
        self.unsent: memoryview | bytes = b""
        self.offered_bytes = 0  # the size of what `unsent` is the rest of: it is in memory until all is taken
        self.ending = False
        self.since = 0.0  # when `unsent` began to wait, or last moved
        self.moved_bytes = 0  # since then
        self._body = bytearray()
        self._told_all = False
        self._news, self._taken = asyncio.Event(), asyncio.Event()
        self._start: Mapping[str, Any] = {}

    @property
    def request_bytes(self) -> int:
        return self.head_bytes + self.received_bytes

    @property
    def waits_for_body(self) -> bool:
        """Whether the application has all that arrived, and it is not all."""
        return not (self.complete or self._body or self.gone)

    async def run(self) -> None:
        await self._app(self.scope, self.receive, self.send)

    # ------------------------------------------------------------------------------ for the connection

    def arrived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._body += data
        self._news.set()

    def request_ended(self) -> None:
        self.complete = True
        self._news.set()

    def took(self, size: int) -> None:
        """The client's windows took `size` bytes of `unsent`."""
        self.unsent = self.unsent[size:]
        self.moved_bytes += size
        if not self.unsent:
            self._taken.set()

    def leave(self) -> None:
        """Its client is gone, or has its whole answer. Idempotent."""
        self.gone = True
        self.unsent = b""
        self._body.clear()
        self._news.set()
        self._taken.set()

    # ----------------------------------------------------------------------------- for the application

    async def receive(self) -> Event:
        while not self.gone:
            if self._body or (self.complete and not self._told_all):
                data, self._body = bytes(self._body), bytearray()
                self._told_all = self.complete
                self._sender.consumed(self)
                return {"type": "http.request", "body": data, "more_body": not self.complete}
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        if self.gone:
            raise Gone
        if event["type"] == "http.response.start":
            self._start = event
        else:
            await self._send_body(event.get("body", b""), event.get("more_body", False))

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self.answered:
            await self._send_head(ends=not (data or more))
        if data and not self.gone:
            await self._wait_until_taken(data, ending=not more)
        elif not (more or self.gone):
            await self._sender.end(self)
        if self.gone and not self.ended:
            raise Gone
        if more:
            await self._sender.room(self)

    async def _send_head(self, *, ends: bool) -> None:
        status = self._start["status"]
        ends = ends or self.scope["method"] == "HEAD" or status in NO_BODY
        await self._sender.send_head(self, status, list(self._start.get("headers", ())), ends=ends)

    async def _wait_until_taken(self, data: bytes, *, ending: bool) -> None:
        self.unsent, self.offered_bytes, self.ending = memoryview(data), len(data), ending
        self._taken.clear()
        self._sender.offer(self)
        await self._taken.wait()
