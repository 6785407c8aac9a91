"""How many connections may be open: only requests that are being answered keep others out."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import pytest
from http2_kit import Http2Client, http2
from http_kit import Serve, Serving, Wire
from web_kit import get, post

from iii.config import HttpConfig
from iii.web.crowd import CONSOLE_CONNECTIONS_MAX, RESERVE_FILES, connections_max, console_connections_max
from iii.web.request import Request

FIVE = HttpConfig(port=0, connections_max=5, h2=True)


class Clients:
    """Of a site whose route /gate waits until `opened`."""

    def __init__(self, running: Serving, gate: Gate, lane: bool = True) -> None:
        self.port = running.port
        self._running, self._gate, self._lane = running, gate, lane
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

    async def busy(self, *, body: bytes = b"", behind: bytes = b"") -> Wire:
        """One whose request is being answered; `behind` came with it."""
        wire = await self.silent()
        method = "POST" if body else "GET"
        wire.send(f"{method} /gate HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", body=body + behind)
        async with asyncio.timeout(10):
            await self._gate.entered.acquire()
        return wire

    async def uploading(self) -> Wire:
        """One whose body is not whole."""
        wire, head = await self.silent(), ("POST /taken HTTP/1.1", "Host: a", "Content-Length: 9")
        if self._lane:  # which reads it in the turn in which it answers what came with it
            wire.send("GET /health HTTP/1.1", "Host: a", "", *head)
            assert (await wire.reply())[0] == 200
        else:
            wire.send(*head, "Expect: 100-continue")
            assert (await wire.reply())[0] == 100
        return wire

    async def http2(self) -> Http2Client:
        """One of HTTP/2 that is idle now."""
        client = await http2(self._running)
        self._open.append(client.wire)
        await asks2(client, 1)
        return client

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


async def take(request: Request) -> int:
    return len(request.raw)


@asynccontextmanager
async def visited(serving: Serve, **lane: bool) -> AsyncIterator[Clients]:
    """A site with room for five."""
    gate = Gate()
    steps = (
        get("/gate", gate.pass_through),
        post("/gate", gate.pass_through, "Posted"),
        post("/taken", take, "Taken"),
    )
    async with serving(*steps, config=FIVE, **lane) as running:
        clients = Clients(running, gate, **lane)
        try:
            yield clients
        finally:
            gate.opened.set()
            clients.close()


async def asks(wire: Wire) -> None:
    wire.send("GET /health HTTP/1.1", "Host: a")
    assert (await wire.reply())[0] == 200


async def asks2(client: Http2Client, id: int) -> None:
    client.ask(id, "/health")
    await client.event(h2.events.StreamEnded, id)


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
    async with visited(serving) as clients:
        first, *others = [await clients.http2() for _ in range(6)]
        await first.end()
        for each in others:
            await asks2(each, 3)


async def test_the_longest_idle_goes_whether_it_speaks_http_1_or_2(serving: Serve) -> None:
    async with visited(serving) as clients:
        old = [await clients.http2(), await clients.http2()]
        young = [await clients.idle() for _ in range(3)]
        for each in old:
            young.append(await clients.idle())
            await each.end()
        for wire in young:
            await asks(wire)
        new = [await clients.http2(), await clients.http2()]
        assert [await is_closed(wire) for wire in young[:2]] == [True, True]
        for client in new:
            await asks2(client, 3)


async def test_a_head_that_has_begun_stays_while_an_idle_one_speaks_http_2(serving: Serve) -> None:
    async with visited(serving) as clients:
        begun = await clients.silent()
        begun.writer.write(b"GET /health HT")
        idle = [await clients.http2() for _ in range(4)]
        for each in idle:
            await clients.idle()
            await each.end()
        begun.send("TP/1.1", "Host: a")
        assert (await begun.reply())[0] == 200


@pytest.mark.parametrize("lane", [True, False])
async def test_a_body_that_still_arrives_goes_where_none_is_idle_and_is_told(
    serving: Serve, lane: bool
) -> None:
    async with visited(serving, lane=lane) as clients:
        slow = [await clients.uploading() for _ in range(4)]
        begun = await clients.silent()
        begun.writer.write(b"GET / HT")
        busy = [await clients.busy()]
        assert await is_closed(begun)
        for each in slow[:3]:
            busy.append(await clients.busy())
            status, fields, body = await each.reply()
            assert (status, fields["retry-after"]) == (503, "1") and b"still arriving" in body
            assert await is_closed(each)
        slow[3].writer.write(b"123456789")
        assert await slow[3].reply() and await asks(slow[3]) is None
        await clients.answer(busy)


@pytest.mark.parametrize("body", [b"", b"abcd"])
async def test_what_is_being_answered_stays_whatever_arrives_behind_it(serving: Serve, body: bytes) -> None:
    begun = b"POST /taken HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"
    async with visited(serving) as clients:
        busy = [await clients.busy(body=body, behind=begun) for _ in range(5)]
        assert (await (await clients.silent()).reply())[0] == 503
        await clients.answer(busy)


async def test_of_http_2_those_go_where_all_requests_still_arrive(serving: Serve) -> None:
    async with visited(serving) as clients:
        mixed, slow = await clients.http2(), await clients.http2()
        for each in (mixed, slow):
            each.ask(3, "/taken", method="POST", body=None)
        mixed.ask(5, "/gate")
        busy = [await clients.busy() for _ in range(4)]
        await slow.end()
        assert (await (await clients.silent()).reply())[0] == 503
        await clients.answer(busy)
        await mixed.event(h2.events.StreamEnded, 5)


@pytest.mark.parametrize("files", [64, 256, 300, 600, 1024, 4096])
def test_http_the_console_and_the_reserve_share_the_files(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
    try:
        http, console = connections_max(HttpConfig(), console=True), console_connections_max()
        assert http + console + min(RESERVE_FILES, files // 4) <= files
        assert http >= files // 2 and console <= CONSOLE_CONNECTIONS_MAX
        assert connections_max(HttpConfig()) == max(files - RESERVE_FILES, files // 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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
