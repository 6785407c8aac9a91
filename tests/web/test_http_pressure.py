"""Over real sockets: clients that send faster than they are answered, or read too slowly, or nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from http_kit import Serve, Serving, Wire
from web_kit import get, post

from iii.config import HttpConfig

BIG = b"x" * (64 << 10)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def narrow(running: Serving) -> Wire:
    """A connection whose client has little room for what it does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", running.port))
    return running.keep(*await asyncio.open_connection(sock=client, limit=4096))


def widen(wire: Wire) -> None:
    """Let the client read at full speed again."""
    wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)


async def test_a_client_that_sends_more_than_is_answered_is_held_back(serving: Serve) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    bodies = 0

    async def waits(request: Any) -> int:
        nonlocal bodies
        begun.set()
        await go.wait()
        bodies += 1
        return len(request.raw)

    count = 800
    async with serving(post("/", waits)) as running:
        wire = await running.connect()
        for _ in range(count):
            wire.send("POST / HTTP/1.1", "Host: a", f"Content-Length: {len(BIG)}", body=BIG)
        await begun.wait()
        await turns(2000)
        unsent = wire.writer.transport.get_write_buffer_size()
        assert unsent > count * len(BIG) / 2  # the rest is in the system's buffers, and 64 KiB in ours
        go.set()
        for _ in range(count):
            assert (await wire.reply())[::2] == (200, str(len(BIG)).encode())
        assert bodies == count
        wire.writer.close()


async def test_a_client_that_reads_nothing_is_not_answered_any_further(serving: Serve) -> None:
    answered = 0

    async def big() -> bytes:
        nonlocal answered
        answered += 1
        return BIG

    count = 400
    async with serving(get("/", big)) as running:
        wire = await narrow(running)
        for _ in range(count):
            wire.send("GET / HTTP/1.1", "Host: a")
        await turns(2000)
        assert 0 < answered < count / 2
        widen(wire)
        for _ in range(count):
            assert len((await wire.reply())[2]) == len(BIG)
        assert answered == count
        wire.writer.close()


async def test_a_stream_waits_for_its_client(serving: Serve) -> None:
    made = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(400):
            made += 1
            yield BIG

    async def streams() -> Any:
        return parts()

    async with serving(get("/", streams)) as running:
        wire = await narrow(running)
        wire.send("GET / HTTP/1.1", "Host: a", "Connection: close")
        await turns(2000)
        assert 0 < made < 200
        widen(wire)
        assert len(await wire.end()) > 400 * len(BIG)
        assert made == 400


async def test_a_client_that_never_reads_is_cut_off_and_nobody_else_suffers(serving: Serve) -> None:
    ended = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield BIG
        finally:
            ended.set()

    async def streams() -> Any:
        return parts()

    config = HttpConfig(send_timeout_ms=100)
    async with serving(get("/", streams), get("/a", lambda: "a", name="A"), config=config) as running:
        stuck, other = await narrow(running), await running.connect()
        stuck.send("GET / HTTP/1.1", "Host: a")
        async with asyncio.timeout(10):
            await ended.wait()
        other.send("GET /a HTTP/1.1", "Host: a")
        assert (await other.reply())[2] == b"a"
        other.writer.close()
        stuck.writer.close()


async def test_a_client_that_never_reads_its_last_answer_does_not_hold_up_the_drain(serving: Serve) -> None:
    async def big() -> bytes:
        return BIG * 256

    async with serving(get("/", big), config=HttpConfig(send_timeout_ms=100)) as running:
        wire = await narrow(running)
        wire.send("GET / HTTP/1.1", "Host: a", "Connection: close")
        await wire.reader.readuntil(b"\r\n\r\n")
        running.shutdown.set()
        await asyncio.wait_for(running.server, 8)  # of the 10 s that a drain may take
        wire.writer.close()


async def test_a_client_that_reads_slowly_but_reads_gets_all_of_it(serving: Serve) -> None:
    async def big() -> bytes:
        return BIG * 64

    async with serving(get("/", big), config=HttpConfig(send_timeout_ms=200)) as running:
        wire = await narrow(running)
        wire.send("GET / HTTP/1.1", "Host: a", "Connection: close")
        head = await wire.reader.readuntil(b"\r\n\r\n")
        size = 0
        while size < 1 << 20:  # for about half a second
            size += len(await wire.reader.read(16 << 10))
            await asyncio.sleep(0.008)
        widen(wire)
        assert size + len(await wire.end()) == len(BIG) * 64
        assert head.startswith(b"HTTP/1.1 200")
        wire.writer.close()


async def test_a_body_that_stops_arriving_is_408(serving: Serve) -> None:
    async with serving(config=HttpConfig(timeout_ms=100)) as running:
        wire = await running.connect()
        wire.send("POST /raw HTTP/1.1", "Host: a", "Content-Length: 10", body=b"abc")
        status, headers, body = await wire.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert b"100 ms" in body
        await wire.end()


async def test_a_broken_http_2_stream_is_reset(serving: Serve) -> None:
    async def parts() -> AsyncIterator[str]:
        yield "one"
        raise RuntimeError("on purpose")

    async def breaks() -> Any:
        return parts()

    steps = get("/", breaks), get("/a", lambda: "a", name="A")
    async with serving(*steps, config=HttpConfig(h2=True)) as running:
        wire = await running.connect()
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        found: list[h2.events.Event] = []

        async def ask(stream_id: int, path: str, until: type[h2.events.Event]) -> None:
            head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "a")]
            connection.send_headers(stream_id, head, end_stream=True)
            wire.writer.write(connection.data_to_send())
            async with asyncio.timeout(10):
                while not any(isinstance(event, until) for event in found):
                    found.extend(connection.receive_data(await wire.reader.read(65536)))

        await ask(1, "/", h2.events.StreamReset)
        await ask(3, "/a", h2.events.StreamEnded)  # the connection goes on
        wire.writer.close()


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"


def _goes_away() -> bytes:
    """A request, and the end of the connection right behind it."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
    connection.send_headers(1, head, end_stream=True)
    connection.close_connection()
    return connection.data_to_send()


def _takes_nothing() -> bytes:
    """A request whose answer is larger than the window that is open for it."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    head = [(":method", "GET"), (":path", "/big"), (":scheme", "http"), (":authority", "a")]
    connection.send_headers(1, head, end_stream=True)
    return connection.data_to_send()


@pytest.mark.parametrize(
    "sent",
    [
        UPGRADE + b"what is no HTTP/2",
        UPGRADE,
        UPGRADE.replace(b"GET", b"CONNECT"),
        _goes_away(),
        _takes_nothing(),
    ],
    ids=[
        "no upgrade and then no request",
        "no upgrade and left",
        "an upgrade by connect",
        "goes away",
        "takes nothing",
    ],
)
async def test_an_http_2_connection_that_ends_leaves_nothing_that_waits(serving: Serve, sent: bytes) -> None:
    async def stream() -> Any:
        return parts()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield BIG

    steps = get("/", lambda: "a"), get("/big", stream, name="Big")
    async with serving(*steps, config=HttpConfig(h2=True)) as running:
        wire = await running.connect()
        wire.send("GET / HTTP/1.1", "Host: a", "Connection: close")
        await wire.end()
        await turns(100)
        before = len(asyncio.all_tasks())
        for _ in range(5):
            wire = await running.connect()
            wire.writer.write(sent)
            await wire.writer.drain()
            await wire.reader.read(1)
            wire.writer.close()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0)
