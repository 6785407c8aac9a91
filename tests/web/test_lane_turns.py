"""What the lane writes at the end of a turn of the loop, what at once, and in which order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from http_kit import Serve
from web_kit import get, site

from iii.config import HttpConfig
from iii.web.hosts import Hosts
from iii.web.lane import connection
from iii.web.lane.connection import Connection
from iii.web.lane.lane import Lane
from iii.web.lane.outgoing import BYTES_MAX

QUICK_S = 0.1


class Transport:
    """What a connection asks of one."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def bodies(self) -> list[bytes]:
        return [each.partition(b"\r\n\r\n")[2] for each in self.written]


def connect(lane: Lane) -> tuple[Connection, Transport]:
    transport = Transport()
    made = lane.connection("127.0.0.1")
    made.connection_made(cast(asyncio.Transport, transport))
    return made, transport


async def quick() -> str:
    return "quick"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stop us for longer than an answer is given to be quick."""
    monkeypatch.setattr(connection, "QUICK_S", QUICK_S)


async def slow() -> str:
    end = time.perf_counter() + QUICK_S
    while time.perf_counter() <= end:
        pass
    return "slow"


async def large() -> str:
    return "x" * BYTES_MAX


STEPS = (
    get("/quick", quick, name="Quick"),
    get("/slow", slow, name="Slow"),
    get("/large", large, name="Large"),
)


def asks(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


async def turn(call: Any) -> None:
    """Call from the loop, as a transport does; nothing of what it left for later has run then."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: (call(), done.set_result(None)))
    await done


async def test_answers_that_are_made_in_one_turn_are_written_at_its_end() -> None:
    async with site(*STEPS) as running:
        lane = Lane(running.endpoint, cast(Any, None), Hosts())
        connections = [connect(lane) for _ in range(3)]

        def arrives() -> None:
            for _ in range(2):  # the second head is known already
                for one, transport in connections:
                    one.data_received(asks("/quick"))
                    assert not transport.written

        await turn(arrives)
        await turn(lambda: None)
        assert [transport.bodies() for _, transport in connections] == [[b"quick"] * 2] * 3
        await lane.eager.aclose()


async def test_an_answer_that_took_long_or_is_large_goes_at_once_and_takes_along_what_waits() -> None:
    async with site(*STEPS) as running:
        lane = Lane(running.endpoint, cast(Any, None), Hosts())
        one, other = connect(lane), connect(lane)

        def arrives() -> None:
            one[0].data_received(asks("/quick"))
            other[0].data_received(asks("/slow"))
            assert [one[1].bodies(), other[1].bodies()] == [[b"quick"], [b"slow"]]
            one[0].data_received(asks("/quick") + asks("/large"))
            assert one[1].bodies()[1:] == [b"quick", b"x" * BYTES_MAX]

        await turn(arrives)
        await lane.eager.aclose()


async def test_a_connection_closes_after_its_answer_and_a_closed_one_is_written_nothing() -> None:
    async with site(*STEPS) as running:
        lane = Lane(running.endpoint, cast(Any, None), Hosts())
        closes, gone = connect(lane), connect(lane)

        def arrives() -> None:
            gone[0].data_received(asks("/quick"))
            gone[1].closed = True
            closes[0].data_received(asks("/quick", "Connection: close"))
            assert closes[1].bodies() == [b"quick"] and closes[1].closed

        await turn(arrives)
        await turn(lambda: None)
        assert gone[1].written == []
        await lane.eager.aclose()


async def test_a_stream_follows_the_answers_before_it(serving: Serve) -> None:
    async def parts() -> AsyncIterator[str]:
        yield "one"

    async def streams() -> Any:
        return parts()

    async with serving(get("/stream", streams, name="Streams"), *STEPS) as running:
        wire = await running.connect()
        wire.writer.write(
            asks("/quick") + asks("/stream") + asks("/quick") + asks("/none", "Connection: close")
        )
        bodies = [each.partition(b"\r\n\r\n")[2] for each in (await wire.end()).split(b"HTTP/1.1 ")[1:]]
        assert bodies[:3] == [b"quick", b"3\r\none\r\n0\r\n\r\n", b"quick"]
        assert bodies[3] == b'{"error":"not found"}'


async def test_a_connection_that_goes_on_asking_is_not_idle(serving: Serve) -> None:
    config = HttpConfig(keep_alive_ms=50)
    async with serving(*STEPS, config=config) as running:
        wire = await running.connect()
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            wire.writer.write(asks("/quick"))
            assert (await wire.reply())[0] == 200
        assert await wire.end() == b"", "and then it is"
