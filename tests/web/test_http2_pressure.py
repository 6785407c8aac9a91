"""HTTP/2 clients that take nothing, or next to nothing, of what they ask for: little is held for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import h2.events
import pytest
from h2.errors import ErrorCodes
from http2_kit import Http2Client, http2
from http_kit import Serve
from web_kit import get, post

from iii.config import HttpConfig
from iii.step import Response
from iii.web.http2.connection import HELD_BYTES_MAX
from iii.web.http2.sizes import KNOWN_BYTES_MIN, UNKNOWN_BYTES

ON = HttpConfig(h2=True)
HASTY = HttpConfig(h2=True, send_timeout_ms=200)
PART = b"x" * (16 << 10)
LARGE = b"y" * (900 << 10)


class Parts:
    """A streamed body of `count` chunks that knows how many were made, and when it ended."""

    def __init__(self, count: int, *, chunk: Any = PART, kind: str = "application/octet-stream") -> None:
        self.count, self.chunk, self.kind = count, chunk, kind
        self.made = 0
        self.closed = asyncio.Event()

    async def __call__(self) -> Response:
        return Response(200, self._parts(), {"Content-Type": self.kind})

    async def _parts(self) -> AsyncIterator[Any]:
        try:
            for _ in range(self.count):
                self.made += 1
                yield self.chunk
        finally:
            self.closed.set()


class Waits:
    """A handler that waits for `go` and knows how many of its runs there were at once."""

    def __init__(self) -> None:
        self.most = self._runs = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self._runs += 1
        self.most = max(self.most, self._runs)
        await self.go.wait()
        self._runs -= 1
        return "a"


async def answered(client: Http2Client, *ids: int) -> None:
    """Wait until the heads of these answers are here, and what follows had time to be made."""
    for id in ids:
        await client.event(h2.events.ResponseReceived, id)
    for _ in range(300):
        await asyncio.sleep(0)


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


async def test_a_closed_window_holds_a_streamed_body_back(serving: Serve) -> None:
    parts = Parts(50)
    async with serving(get("/", parts), config=ON) as running:
        client = await http2(running, window=0)
        client.ask(1)
        await answered(client, 1)
        assert parts.made == 1
        client.open(len(PART) * 3, 1)
        await client.until(lambda _: len(client.bodies.get(1, b"")) == 3 * len(PART))
        assert parts.made <= 4
        for _ in range(47):
            client.open(len(PART), 1)
        await client.event(h2.events.StreamEnded, 1)
        assert client.bodies[1] == PART * 50
        client.close()


async def test_a_closed_window_holds_events_back(serving: Serve) -> None:
    parts = Parts(10_000, chunk={"data": "z" * 4000}, kind="text/event-stream")
    async with serving(get("/", parts), config=ON) as running:
        client = await http2(running, window=0)
        client.ask(1)
        await answered(client, 1)
        assert parts.made == 1
        client.close()
        await asyncio.wait_for(parts.closed.wait(), 10)


async def test_a_stream_that_takes_nothing_is_reset_and_others_go_on(serving: Serve) -> None:
    stuck, moves = Parts(1000), Parts(10_000)
    async with serving(get("/", stuck), get("/b", moves, name="B"), config=HASTY) as running:
        client = await http2(running, window=0)
        client.ask(1)
        client.ask(3, "/b")

        async def take() -> None:
            while not client.all(h2.events.StreamReset, 1):
                client.open(4096, 3)
                await asyncio.sleep(0.01)

        taking = asyncio.ensure_future(take())
        assert (await client.event(h2.events.StreamReset, 1)).error_code == ErrorCodes.CANCEL
        await taking
        await asyncio.wait_for(stuck.closed.wait(), 10)
        assert stuck.made == 1 and moves.made > 1
        size = len(client.bodies[3])
        client.open(len(PART), 3)
        await client.until(lambda _: len(client.bodies[3]) > size)
        client.close()


async def test_a_whole_answer_that_is_not_taken_is_reset_too(serving: Serve) -> None:
    async with serving(get("/", lambda: LARGE), get("/b", Parts(10_000), name="B"), config=HASTY) as running:
        client = await http2(running, window=0)
        client.ask(1)
        client.ask(3, "/b")
        while not client.all(h2.events.StreamReset, 1):
            client.open(4096, 3)
            await client.read()
        client.close()


async def test_a_connection_that_takes_nothing_is_closed(serving: Serve) -> None:
    async with serving(get("/", Parts(10)), config=HASTY) as running:
        client = await http2(running, window=0)
        client.ask(1)
        await client.end()
        assert client.all(h2.events.ConnectionTerminated)[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_closed_connection_window_counts_like_a_streams(serving: Serve) -> None:
    parts = Parts(1000)
    async with serving(get("/", parts), config=HASTY) as running:
        client = await http2(running, window=1 << 30)  # the connection's is 65,535 bytes
        client.ask(1)
        await client.end()
        assert parts.made <= 6
        await asyncio.wait_for(parts.closed.wait(), 10)


async def test_a_window_that_opens_by_a_byte_at_a_time_is_no_progress(serving: Serve) -> None:
    parts = Parts(10)
    async with serving(get("/", parts), config=HASTY) as running:
        client = await http2(running, window=0)
        client.ask(1)
        while not client.ended:
            if not client.all(h2.events.ConnectionTerminated):
                client.open(1, 1)
            await client.read()
        client.close()
        assert 0 < len(client.bodies[1]) < 1024 * 10
        await asyncio.wait_for(parts.closed.wait(), 10)


async def test_handlers_do_not_begin_while_answers_wait_to_be_taken(serving: Serve) -> None:
    begun = 0

    def large() -> bytes:
        nonlocal begun
        begun += 1
        return LARGE

    async def large_at_once() -> bytes:
        return large()

    ids = range(1, 61, 2)
    async with serving(get("/", large_at_once), config=ON) as running:
        client = await http2(running, window=0)
        for id in ids:
            client.ask(id)
        await answered(client, 1, 3)
        assert begun * len(LARGE) <= 3 * HELD_BYTES_MAX
        while len(client.all(h2.events.StreamEnded)) < len(ids):
            asked = {each.stream_id for each in client.all(h2.events.ResponseReceived)}
            for id in asked - {each.stream_id for each in client.all(h2.events.StreamEnded)}:
                if client.frames.inbound_flow_control_window < len(LARGE):
                    client.open(len(LARGE) * 2)
                if client.frames.remote_flow_control_window(id) < len(LARGE):
                    client.frames.increment_flow_control_window(len(LARGE), id)
            client.flush()
            await client.read()
        assert begun == len(ids) and all(len(body) == len(LARGE) for body in client.bodies.values())
        client.close()


async def test_no_more_handlers_of_a_connection_run_than_it_has_room_for(serving: Serve) -> None:
    waits = Waits()
    async with serving(get("/", waits), get("/b", lambda: "b", name="B"), config=ON) as running:
        client, other = await http2(running), await http2(running)
        for id in range(1, 201, 2):
            client.ask(id)
        other.ask(1, "/b")
        await other.event(h2.events.StreamEnded, 1)
        for _ in range(500):
            await asyncio.sleep(0)
        assert waits.most == HELD_BYTES_MAX // UNKNOWN_BYTES
        waits.go.set()
        await client.until(lambda _: len(client.all(h2.events.StreamEnded)) == 100)
        client.close()
        other.close()


@pytest.mark.parametrize("size", [10, len(LARGE)])
async def test_how_many_handlers_run_at_once_follows_from_what_they_gave(serving: Serve, size: int) -> None:
    runs, most = 0, 0
    waiting: list[asyncio.Event] = []

    async def waits() -> bytes:
        nonlocal runs, most
        runs += 1
        most = max(most, runs)
        waiting.append(go := asyncio.Event())
        await go.wait()
        runs -= 1
        return LARGE[:size]

    async with serving(get("/", waits), config=ON) as running:
        client, other = await http2(running, window=1 << 24), await http2(running)
        client.open(1 << 24)
        client.ask(1)
        await until(lambda: bool(waiting))
        waiting[0].set()
        await client.event(h2.events.StreamEnded, 1)
        for id in range(1, 201, 2):
            other.ask(id)
        await until(lambda: len(waiting) > 1)
        for _ in range(500):
            await asyncio.sleep(0)
        assert most == (HELD_BYTES_MAX // KNOWN_BYTES_MIN if size == 10 else 2)
        client.close()
        other.close()
        for go in waiting:
            go.set()


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not met():
            await asyncio.sleep(0)


async def test_one_large_download_does_not_keep_other_requests_waiting(serving: Serve) -> None:
    steps = get("/", lambda: LARGE * 4), get("/b", lambda: "b", name="B")
    async with serving(*steps, config=ON) as running:
        client = await http2(running)
        client.ask(1)
        await client.event(h2.events.DataReceived, 1)
        client.ask(3, "/b")
        client.open(1 << 20)
        await client.event(h2.events.StreamEnded, 3)
        client.close()


async def test_memory_is_bounded_whatever_clients_do_not_take(serving: Serve) -> None:
    endless = Parts(1 << 40)

    async def large() -> bytes:
        return bytes(LARGE)

    async def events() -> Response:
        return await Parts(1 << 40, chunk={"data": "z" * 4000}, kind="text/event-stream")()

    steps = get("/", large), get("/parts", endless, name="P"), get("/events", events, name="E")
    async with serving(*steps, config=ON) as running:
        before = resident_bytes()
        clients = []
        for path in ("/", "/parts", "/events") * 3:
            client = await http2(running, window=0)
            for id in range(1, 201, 2):
                client.ask(id, path)
            await answered(client, 1)
            clients.append(client)
        grown = resident_bytes() - before
        assert grown < 64 << 20, f"{grown >> 20} MiB for {len(clients)} connections of 100 streams each"
        for client in clients:
            client.close()


async def test_bodies_that_never_end_are_held_back_and_the_oldest_one_can_end(serving: Serve) -> None:
    async with serving(post("/", lambda request: len(request.raw)), config=ON) as running:
        client = await http2(running)
        ids = range(1, 201, 2)
        sent = dict.fromkeys(ids, 0)
        for id in ids:
            client.ask(id, method="POST", body=None)

        async def push(id: int) -> bool:
            size = min(client.frames.local_flow_control_window(id), 16 << 10, (900 << 10) - sent[id])
            if size <= 0:
                return False
            client.frames.send_data(id, b"x" * size)
            client.flush()
            await client.wire.writer.drain()
            sent[id] += size
            return True

        stalled = 0
        while stalled < 20:
            moved = [await push(id) for id in ids]
            stalled = 0 if any(moved) else stalled + 1
            if not any(moved):
                await turn(client)
        assert sum(sent.values()) < (1 << 20) + len(ids) * 65535 + (1 << 20)
        assert sent[1] >= 65535
        client.frames.end_stream(1)
        client.flush()
        await client.event(h2.events.StreamEnded, 1)
        client.close()


async def turn(client: Http2Client) -> None:
    """Read what is there already."""
    try:
        async with asyncio.timeout(0.02):
            await client.read()
    except TimeoutError:
        pass


async def test_a_client_that_asks_and_resets_is_answered_no_faster_than_its_handlers_run(
    serving: Serve,
) -> None:
    waits = Waits()
    async with serving(get("/", waits), get("/b", lambda: "b", name="B"), config=ON) as running:
        client, other = await http2(running), await http2(running)
        for id in range(1, 4001, 2):
            client.ask(id)
            client.frames.reset_stream(id, ErrorCodes.CANCEL)
            client.flush()
        await client.wire.writer.drain()
        other.ask(1, "/b")
        await other.event(h2.events.StreamEnded, 1)
        assert waits.most <= HELD_BYTES_MAX // UNKNOWN_BYTES
        waits.go.set()
        client.ask(4001, "/b")
        await client.event(h2.events.StreamEnded, 4001)
        client.close()
        other.close()


async def test_settings_and_pings_hold_up_nobody_else(serving: Serve) -> None:
    count, answered_bytes = 5000, 0
    async with serving(get("/b", lambda: "b"), config=ON) as running:
        client, other = await http2(running), await http2(running)

        async def count_answers() -> None:
            nonlocal answered_bytes
            while answered_bytes < count * 26:
                answered_bytes += len(await client.wire.reader.read(4096))

        counting = asyncio.ensure_future(count_answers())
        settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
        ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"
        client.wire.writer.write((settings + ping) * count)
        other.ask(1, "/b")
        await other.event(h2.events.StreamEnded, 1)
        assert answered_bytes < count * 26 / 2
        await asyncio.wait_for(counting, 20)
        client.close()
        other.close()
