"""Hostile bytes, and what they cost the loop: the CPU time of its longest callback, by its thread's clock.

What else the machine runs does not count into that clock. Where a callback takes too long the same is asked
again: a pass of the collector over all that the tests hold is not the request's. And it is judged by the pace
of the machine at that moment: slow or crowded processors take longer for everything.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

HEAD_BYTES = 60_000  # with the rest of a head below http.max_head
BODY_BYTES = 1 << 20
HEAD_S, BODY_S = 0.1, 0.25
TRIES = 3
REFERENCE_S = 0.02
"""What `slowness` runs on a processor of 3 GHz that has nothing else to do."""

ALPHABETS = (
    b";", b'"', b"\\", b"=", b",", b"%", b"a+", b"(", b"[", b"\xff", b"\xc3\xa9", b"9", b"%ff", b"%4", b"/",
    b"a=b;", b'a="\\', b"; ", b"a,", b"-", b"*/*;q=", b"0-1,", b"&a=", b"\x80", b"?", b".", b"@[", b'"\\"',
)  # fmt: skip

HEADERS = (
    "accept", "accept-encoding", "access-control-request-headers", "authorization", "baggage", "connection",
    "content-encoding", "content-type", "cookie", "expect", "forwarded", "host", "idempotency-key",
    "if-none-match", "keep-alive", "origin", "range", "referer", "sec-fetch-site", "te", "traceparent",
    "tracestate", "transfer-encoding", "upgrade", "user-agent", "x-forwarded-for", "x-forwarded-host",
    "x-anything",
)  # fmt: skip


def filled(pattern: bytes, size: int = HEAD_BYTES) -> bytes:
    """About `size` bytes of it."""
    return (pattern * (size // len(pattern))).strip(b" ")


def head(start: str, **headers: bytes) -> bytes:
    """A request's head; the connection ends with its answer."""
    said = {"host": b"localhost", "connection": b"close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"{start} HTTP/1.1".encode(), *(name.encode() + b": " + value for name, value in said.items())]
    return b"\r\n".join([*lines, b"", b""])


def post(path: str, body: bytes, kind: bytes = b"application/json", method: str = "POST") -> bytes:
    return head(f"{method} {path}", content_type=kind, content_length=b"%d" % len(body)) + body


async def ask(port: int, request: bytes) -> int:
    """The status of the answer; 0 where the connection ends without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        async with asyncio.timeout(30):
            writer.write(request)
            while b"\r\n\r\n" not in answer and (data := await reader.read(1 << 16)):
                answer += data
            if answer.startswith(b"HTTP/1.1 100"):
                answer = answer.partition(b"\r\n\r\n")[2] or await reader.read(1 << 16)
            writer.write_eof()
            await reader.read()
    except (ConnectionError, OSError):
        pass
    finally:
        writer.transport.abort()  # what was not sent would keep it open
    return int(answer[9:12] or 0)


def slowness() -> float:
    """How many times as long as on a quiet machine things take now; at least 1."""
    began_s = time.thread_time()
    numbers = json.loads(json.dumps(list(range(100_000))))
    total = 0
    for number in numbers:
        total += number
    return max(1.0, (time.thread_time() - began_s) / REFERENCE_S)


class Loop:
    """`longest_s`: of the callbacks since the last `costs`."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def costs(self, what: Callable[[], Awaitable[object]], limit_s: float) -> float:
        """The longest callback of `what`, in its best try, as if the machine were quiet."""
        best_s = float("inf")
        for _ in range(TRIES):
            self.longest_s = 0.0
            await what()
            best_s = min(best_s, self.longest_s)
            if best_s > limit_s:
                best_s /= slowness()
            if best_s <= limit_s:
                break
        return best_s

    async def dear(
        self, requests: Iterable[tuple[str, Callable[[], Awaitable[object]]]], limit_s: float
    ) -> dict[str, float]:
        """Those that hold the loop for longer than `limit_s`."""
        costs = {name: await self.costs(what, limit_s) for name, what in requests}
        return {name: seconds for name, seconds in costs.items() if seconds > limit_s}


@contextmanager
def watched(patch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """Every callback of asyncio's loop is timed."""
    seen = Loop()
    run: Callable[[Any], None] = asyncio.events.Handle._run

    def timed(handle: Any) -> None:
        began_s = time.thread_time()
        try:
            run(handle)
        finally:
            seen.longest_s = max(seen.longest_s, time.thread_time() - began_s)

    with patch.context() as patched:
        patched.setattr(asyncio.events.Handle, "_run", timed)
        yield seen
