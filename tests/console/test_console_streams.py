"""Streams of events have places, which nobody gets twice and nobody keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from console_kit import Console, serving, until
from starlette.requests import ClientDisconnect

from iii.console import events
from iii.console.app import App

PATH = "/api/events?topics=queues"


async def is_free(console: Console) -> bool:
    async with console.http.stream("GET", PATH) as answer:
        return answer.status_code == 200


async def test_there_are_no_more_than_their_bound_however_many_come_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LISTENERS_MAX", 3)
    async with serving(tmp_path) as console, AsyncExitStack() as streams:

        async def opened() -> int:
            answer = await console.http.send(console.http.build_request("GET", PATH), stream=True)
            streams.push_async_callback(answer.aclose)
            return answer.status_code

        told = Counter(await asyncio.gather(*(opened() for _ in range(10))))
        assert told == {200: 3, 503: 7}
        await streams.aclose()
        await until(lambda: is_free(console))


async def test_who_leaves_before_the_first_event_and_who_asks_for_the_head_alone_keep_no_place(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as console:
        host, port = console.address.removeprefix("http://").split(":")
        for _ in range(events.LISTENERS_MAX + 10):
            assert (await console.http.head(PATH)).status_code == 200
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await writer.drain()
            writer.transport.abort()
        await until(lambda: is_free(console))


@pytest.mark.parametrize("step", ["http.response.start", "http.response.body"])
async def test_a_stream_that_cannot_be_sent_keeps_no_place(tmp_path: Path, step: str) -> None:
    async with serving(tmp_path) as console:
        app = App(console.engine._means())
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/api/events", "scheme": "http",
            "query_string": b"topics=queues", "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1), "asgi": {"spec_version": "2.4"},
        }  # fmt: skip
        listening: list[int] = []

        async def send(event: Any) -> None:
            listening.append(app.hub.listening)
            if event["type"] == step:
                raise OSError

        async def receive() -> Any:
            await asyncio.Event().wait()

        with suppress(OSError, ClientDisconnect):
            await app(scope, receive, send)
        assert listening[0] == 1 and app.hub.listening == 0
        app.hub.close()
