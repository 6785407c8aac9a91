"""How many connections may be open: whoever opens many keeps nobody out, as long as his are idle."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import pytest
from http2_kit import http2
from http_kit import Serve, Serving, Wire
from web_kit import get

from iii.config import HttpConfig
from iii.web.crowd import RESERVE_FILES, connections_max

FIVE = HttpConfig(port=0, connections_max=5)


class Clients:
    """Of a site whose route /gate waits until `opened`."""

    def __init__(self, running: Serving, gate: Gate) -> None:
        self.port = running.port
        self._running, self._gate = running, gate
        self._open: list[Wire] = []

    async def silent(self) -> Wire:
        """One that has connected, and asks nothing."""
        wire = await self._running.connect()
        self._open.append(wire)
        return wire

    async def idle(self) -> Wire:
        """One that has asked once, and is idle now."""
        wire = await self.silent()
        await asks(wire)
        return wire

    async def is_served(self) -> bool:
        """Whether one is that asks once and leaves."""
        wire = await self.silent()
        wire.send("GET /health HTTP/1.1", "Host: a", "Connection: close")
        status, _, _ = await wire.reply()
        assert await is_closed(wire)
        return status == 200

    async def busy(self) -> Wire:
        wire = await self.silent()
        wire.send("GET /gate HTTP/1.1", "Host: a")
        async with asyncio.timeout(10):
            await self._gate.entered.acquire()
        return wire

    async def answer(self, busy: list[Wire]) -> None:
        """Those that were busy get their answers."""
        self._gate.opened.set()
        for each in busy:
            assert (await each.reply())[0] == 200

    def close(self) -> None:
        for each in self._open:
            each.writer.close()


class Gate:
    """A handler that waits."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Semaphore(0), asyncio.Event()

    async def pass_through(self) -> str:
        self.entered.release()
        await self.opened.wait()
        return "through"


@asynccontextmanager
async def visited(serving: Serve) -> AsyncIterator[Clients]:
    """A site with room for five."""
    gate = Gate()
    async with serving(get("/gate", gate.pass_through), config=FIVE) as running:
        clients = Clients(running, gate)
        try:
            yield clients
        finally:
            gate.opened.set()
            clients.close()


async def asks(wire: Wire) -> None:
    wire.send("GET /health HTTP/1.1", "Host: a")
    assert (await wire.reply())[0] == 200


async def is_closed(wire: Wire) -> bool:
    return await wire.end() == b""


async def test_beyond_the_limit_the_oldest_idle_connection_goes_for_the_new_one(serving: Serve) -> None:
    async with visited(serving) as clients:
        first = [await clients.idle() for _ in range(5)]
        later = []
        for old in first[:3]:
            later.append(await clients.idle())
            assert await is_closed(old)
        for kept in (*first[3:], *later):
            await asks(kept)


async def test_connections_that_never_ask_keep_nobody_out(serving: Serve) -> None:
    async with visited(serving) as clients:
        silent = [await clients.silent() for _ in range(60)]
        loud = await clients.idle()
        assert [await is_closed(each) for each in silent[:56]] == [True] * 56
        for each in (*silent[56:], loud):
            await asks(each)


async def test_a_burst_of_requests_is_answered_or_told_503_and_nobody_is_reset(serving: Serve) -> None:
    """More than may be open, more than may linger, all there before the loop looks at the first of them."""
    async with visited(serving) as clients:
        burst = [connected(clients.port) for _ in range(200)]
        for each in burst:
            ask(each)
        statuses = [await asyncio.to_thread(reply, each) for each in burst]
        assert {*statuses} == {200, 503}
        assert statuses[:5] == [200] * 5
        await clients.idle()


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_connection_whose_request_waits_to_be_read_is_not_idle(serving: Serve, turns: int) -> None:
    async with visited(serving) as clients:
        kept = [await clients.idle() for _ in range(5)]
        new = connected(clients.port)
        await several(turns)
        for each in kept:
            each.send("GET /health HTTP/1.1", "Host: a")
        ask(new)
        assert await asyncio.to_thread(reply, new) in (200, 503)
        assert [(await each.reply())[0] for each in kept] == [200] * 5


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_had_no_turn_to_be_read_is_not_idle(serving: Serve, turns: int) -> None:
    async with visited(serving) as clients:
        first = [connected(clients.port) for _ in range(5)]
        await several(turns)
        refused = connected(clients.port)
        assert await asyncio.to_thread(reply, refused) == 503
        for each in first:
            ask(each)
        assert [await asyncio.to_thread(reply, each) for each in first] == [200] * 5


async def several(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def connected(port: int) -> socket.socket:
    """Without a turn of the loop."""
    return socket.create_connection(("127.0.0.1", port))


def ask(client: socket.socket) -> None:
    client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def reply(client: socket.socket) -> int:
    with client:
        client.settimeout(10)
        answered = b""
        while data := client.recv(1 << 16):
            answered += data
        return int(answered.split()[1])


async def test_where_all_are_busy_the_new_one_gets_503_at_once_and_is_closed(
    serving: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with visited(serving) as clients:
        busy = [await clients.busy() for _ in range(5)]
        for _ in range(40):
            wire = await clients.silent()
            status, fields, body = await wire.reply()  # without having asked
            assert (status, fields["retry-after"], fields["connection"]) == (503, "1", "close")
            assert b"too many connections" in body
            assert await is_closed(wire)
        told = [record for record in caplog.records if "http.max_connections" in record.message]
        assert len(told) == 1 and told[0].levelno == logging.WARNING
        await clients.answer(busy)
        await clients.idle()


async def test_who_reads_a_503_yet_is_closed_with_the_server(serving: Serve) -> None:
    async with visited(serving) as clients:
        busy = [await clients.busy() for _ in range(5)]
        refused = connected(clients.port)
        assert b" 503 " in await asyncio.to_thread(refused.recv, 4096)
        await clients.answer(busy)
        clients.close()
    with refused, pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_on(refused)


def send_on(client: socket.socket) -> None:
    for _ in range(1000):
        client.send(b"x")


async def test_heads_that_only_begin_go_where_none_is_idle(serving: Serve) -> None:
    async with visited(serving) as clients:
        slow = await clients.silent()
        slow.writer.write(b"GET / HT")
        busy = [await clients.busy() for _ in range(4)]
        await clients.idle()
        assert await is_closed(slow)
        await clients.answer(busy)


async def test_a_closed_connection_makes_room(serving: Serve) -> None:
    async with visited(serving) as clients:
        busy = [await clients.busy() for _ in range(4)]
        for _ in range(20):
            async with asyncio.timeout(10):
                while not await clients.is_served():  # the last one may be closing yet
                    await asyncio.sleep(0)
        await clients.answer(busy)


async def test_connections_of_http_2_count_and_go_too(serving: Serve) -> None:
    config = HttpConfig(port=0, connections_max=5, h2=True)
    async with serving(config=config) as running:
        clients = []
        for _ in range(6):
            client = await http2(running)
            client.ask(1, "/health")
            await client.event(h2.events.StreamEnded, 1)
            clients.append(client)
        await clients[0].end()
        clients[5].ask(3, "/health")
        await clients[5].event(h2.events.StreamEnded, 3)
        for client in clients[1:]:
            client.close()


@pytest.mark.parametrize(("files", "room"), [(4096, 4096 - RESERVE_FILES), (300, 150)])
def test_as_many_as_the_files_allow(files: int, room: int, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        assert connections_max(HttpConfig()) == room
        assert connections_max(HttpConfig(connections_max=10)) == 10
        assert not caplog.records
        assert connections_max(HttpConfig(connections_max=10_000)) == room
        assert "ulimit" in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
