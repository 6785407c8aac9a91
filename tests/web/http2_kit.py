"""A client of HTTP/2 that takes of its answers what a test lets it take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from http_kit import Serving, Wire

E = TypeVar("E", bound=h2.events.Event)

UNCHECKED = h2.config.H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


class Http2Client:
    """`window`: of each stream, until `open` is asked. Nothing is acknowledged but by `open`."""

    def __init__(self, wire: Wire, window: int) -> None:
        self.wire, self.frames = wire, h2.connection.H2Connection(UNCHECKED)
        self.frames.initiate_connection()
        self.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[h2.events.Event] = []
        self.bodies: dict[int, bytes] = {}
        self.ended = False
        self.flush()

    def flush(self) -> None:
        self.wire.writer.write(self.frames.data_to_send())

    def ask(
        self,
        id: int,
        path: str = "/",
        *fields: tuple[str, str],
        method: str = "GET",
        body: bytes | None = b"",
    ) -> None:
        """A whole request; None: its body is yet to come."""
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a"), *fields]
        self.frames.send_headers(id, head, end_stream=body == b"")
        if body:
            self.frames.send_data(id, body, end_stream=True)
        self.flush()

    def open(self, size: int, *ids: int) -> None:
        """Open the connection's window and those of the streams."""
        self.frames.increment_flow_control_window(size)
        for id in ids:
            self.frames.increment_flow_control_window(size, id)
        self.flush()

    async def until(self, met: Callable[[Http2Client], bool]) -> None:
        async with asyncio.timeout(20):
            while not met(self):
                assert not self.ended, self.events
                await self.read()

    async def event(self, kind: type[E], id: int | None = None) -> E:
        await self.until(lambda _: bool(self.all(kind, id)))
        return self.all(kind, id)[0]

    async def read(self) -> None:
        try:
            data = await self.wire.reader.read(1 << 16)
        except ConnectionResetError:
            data = b""
        self.ended = self.ended or not data
        for event in self.frames.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        self.flush()

    async def end(self) -> None:
        """Read until the server closed."""
        async with asyncio.timeout(20):
            while not self.ended:
                await self.read()
        self.close()

    def close(self) -> None:
        self.wire.writer.close()

    def all(self, kind: type[E], id: int | None = None) -> list[E]:
        return [
            each
            for each in self.events
            if isinstance(each, kind) and id in (None, getattr(each, "stream_id", None))
        ]

    def status(self, id: int) -> int:
        fields = self.all(h2.events.ResponseReceived, id)[0].headers
        return next(int(value) for name, value in fields if name == b":status")


async def http2(running: Serving, *, window: int = 65535) -> Http2Client:
    return Http2Client(await running.connect(), window)
