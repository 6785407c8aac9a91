"""A client that resets its connection, whenever it does: that is its affair, and no error of the server's."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from http_kit import Serve, Serving
from web_kit import get

from iii.config import HttpConfig
from iii.web.response import Response

ROUNDS = 20
LARGE = b"x" * (4 << 20)
RESETS = struct.pack("ii", 1, 0)

SENT = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "a refused head": b"GET / HTTP/9.9\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x00",
    "half a body": b"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na",
    "a large body that is refused": b"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\na",
    "a request": b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
    "a last request": b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a stream": b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    "requests in a row": b"GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
}


async def stream() -> Any:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 65536

    return Response(200, parts())


STEPS = (
    get("/large", lambda: LARGE, name="Large"),
    get("/stream", stream, name="Streams"),
    get("/hello/{name}", lambda request: request.params["name"], name="Hello"),
)


async def reset(running: Serving, sent: bytes, *, turns: int, shuts: bool, reads: bool) -> None:
    """`turns`: of the loop, between what is sent and the reset."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", running.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        if sent:
            await loop.sock_sendall(client, sent)
        if reads and sent.startswith(b"GET /") and b"HTTP/9" not in sent and sent.endswith(b"\r\n\r\n"):
            await loop.sock_recv(client, 100)
        if shuts:
            client.shutdown(socket.SHUT_WR)
        for _ in range(turns):
            await asyncio.sleep(0)


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
@pytest.mark.parametrize("h2", [False, True])
async def test_a_client_that_resets_its_connection_is_no_error(
    serving: Serve, caplog: pytest.LogCaptureFixture, sent: bytes, h2: bool
) -> None:
    async with serving(*STEPS, config=HttpConfig(h2=h2)) as running:
        for at in range(ROUNDS):
            await reset(running, sent, turns=at // 2, shuts=bool(at & 1), reads=bool(at & 2))
        wire = await running.connect()
        wire.send("GET /hello/a HTTP/1.1", "Host: a", "Connection: close")
        assert (await wire.reply())[0] == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "code", [errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.EBADF, errno.ETIMEDOUT]
)
@pytest.mark.parametrize("when", ["write_eof", "wait_closed", "drain"])
async def test_however_a_system_says_that_the_client_has_left_it_is_no_error(
    serving: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, code: int, when: str
) -> None:
    asked = asyncio.Event()

    async def left(writer: asyncio.StreamWriter) -> None:
        asked.set()
        raise OSError(code, "the client has left")

    def left_at_once(writer: asyncio.StreamWriter) -> None:
        asked.set()
        raise OSError(code, "the client has left")

    async with serving(*STEPS, config=HttpConfig(h2=True)) as running:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.StreamWriter, when, left_at_once if when == "write_eof" else left)
            await reset(running, SENT["no HTTP"], turns=9, shuts=True, reads=False)
            await asyncio.wait_for(asked.wait(), 10)
            await until_idle(running)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def until_idle(running: Serving) -> None:
    """Until all that `running` has begun for its clients has ended."""
    own = {asyncio.current_task(), running.server}
    async with asyncio.timeout(10):
        while any("run_logged" in repr(task.get_coro()) for task in asyncio.all_tasks() - own):
            await asyncio.sleep(0)
