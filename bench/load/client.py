"""An HTTP/1.1 client in a process of its own: `python -m bench.load.client '{...}'`.

Closed loop: each connection sends its next request when the last is answered. Open loop: requests are sent at
a steady pace whatever the answers do, and their latency counts from the time they were meant to be sent. Both
wait for every answer, so that what was sent is what was answered.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from bench.pace import pace
from bench.percentiles import named
from bench.programs.program import Asked, main
from bench.settings import Result, WrongResult

ANSWER_S = 60.0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way. `answered(self, status)` after each."""

    def __init__(self, answered: Callable[[Connection, int], None]) -> None:
        self._answered = answered
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self.meant_ns = 0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, content: bytes) -> None:
        self._parser.feed_data(content)

    def on_message_complete(self) -> None:
        self.busy = False
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        self._answered(self, status)

    def connection_lost(self, error: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._answered(self, 0)

    def send(self, request: bytes, meant_ns: int) -> None:
        assert self._transport is not None
        self.meant_ns, self.busy = meant_ns, True
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """`connections` to host:port. What is offered waits for a free one."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._free: list[Connection] = []
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._under_way = 0
        self._over = asyncio.Event()
        self.sent = self.answered = self.errors = 0
        self.took_ms: list[float] = []
        self.next: Callable[[], bytes | None] = lambda: None

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._asked["connections"]):
            _, connection = await loop.create_connection(
                lambda: Connection(self._take_answer), self._asked["host"], self._asked["port"]
            )
            self._free.append(connection)

    def close(self) -> None:
        for connection in self._free:
            connection.close()

    def offer(self, request: bytes, meant_ns: int) -> None:
        self.sent += 1
        if self._free:
            self._send(self._free.pop(), request, meant_ns)
        else:
            self._waiting.append((request, meant_ns))

    async def finished(self) -> None:
        """Until everything offered was answered."""
        self._over.clear()
        if self._under_way:
            async with asyncio.timeout(ANSWER_S):
                await self._over.wait()

    def _send(self, connection: Connection, request: bytes, meant_ns: int) -> None:
        self._under_way += 1
        connection.send(request, meant_ns)

    def _take_answer(self, connection: Connection, status: int) -> None:
        self._under_way -= 1
        if status == 200:
            self.answered += 1
            self.took_ms.append((time.monotonic_ns() - connection.meant_ns) / 1e6)
        else:
            self.errors += 1
        if self._waiting:
            self._send(connection, *self._waiting.popleft())
        elif (request := self.next()) is not None:
            self.sent += 1
            self._send(connection, request, time.monotonic_ns())
        else:
            self._free.append(connection)
            if not self._under_way:
                self._over.set()


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def client(asked: Asked) -> Result:
    """asked: host, port, connections, method, path, body, and either seconds or rate and count.

    With a rate the body is a JSON object, and gets `n` (from `first` on) and `meant_ns`.
    """
    one = Client(asked)
    await one.connect()
    started = time.perf_counter()
    if "rate" in asked:
        await _open_loop(one, asked)
    else:
        await _closed_loop(one, asked)
    await one.finished()
    seconds = time.perf_counter() - started
    one.close()
    if one.answered + one.errors != one.sent:
        raise WrongResult(f"{one.sent} requests, {one.answered} answers, {one.errors} errors")
    return {
        "requests": one.answered,
        "errors": one.errors,
        "seconds": seconds,
        **(named("took", one.took_ms) if one.took_ms else {}),
    }


async def _closed_loop(one: Client, asked: Asked) -> None:
    request = request_bytes(asked["method"], asked["path"], asked["body"].encode())
    end = time.perf_counter() + asked["seconds"]
    one.next = lambda: request if time.perf_counter() < end else None
    for _ in range(asked["connections"]):
        one.offer(request, time.monotonic_ns())


async def _open_loop(one: Client, asked: Asked) -> None:
    body = json.loads(asked["body"])

    def offer(i: int, meant_ns: int) -> None:
        content = json.dumps({**body, "n": asked["first"] + i, "meant_ns": meant_ns}).encode()
        one.offer(request_bytes(asked["method"], asked["path"], content), meant_ns)

    await pace(asked["rate"], asked["count"], offer)


if __name__ == "__main__":
    main(client)
