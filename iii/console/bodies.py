"""The bodies of requests as they arrive: read within a bound and a time, or thrown away.

Hypercorn holds up a connection whose body nobody takes, and to close on a client that still sends would
reset its connection before it could read why. So what is left of a body when its answer is sent is read and
dropped, for a while, and the connection ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from iii.errors import InputError
from iii.web.refused import body_too_large, body_too_slow
from iii.web.sending import LINGER_BYTES_MAX, LINGER_MS

__all__ = ["BODY_BYTES_MAX", "BODY_MS", "DROPPED_MAX", "Arriving", "Drops", "arriving_body"]

BODY_BYTES_MAX = 8 << 20
BODY_MS = 30_000
DROPPED_MAX = 64

Receive = Callable[[], Awaitable[Any]]


class Arriving:
    """What comes in of a request; `receive` is ASGI's."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        names = {name.lower(): value for name, value in scope["headers"]}
        self._receive = receive
        self.ended = b"transfer-encoding" not in names and names.get(b"content-length", b"0") == b"0"

    async def receive(self) -> Any:
        event = await self._receive()
        if event["type"] == "http.disconnect" or not event.get("more_body", False):
            self.ended = True
        return event


class Drops:
    """What is being dropped, DROPPED_MAX at a time, as each keeps a connection; nothing is of the others."""

    def __init__(self) -> None:
        self._now = 0

    async def drop(self, body: Arriving) -> None:
        if self._now >= DROPPED_MAX:
            return
        self._now += 1
        size = 0
        try:
            async with asyncio.timeout(LINGER_MS / 1000):
                while not body.ended and size < LINGER_BYTES_MAX:
                    size += len((await body.receive()).get("body", b""))
        except TimeoutError:
            return
        finally:
            self._now -= 1


async def arriving_body(request: Request) -> bytes:
    """Refused: 413 where it is too large, 408 where it is too slow. InputError where it ends too soon."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > BODY_BYTES_MAX:
        raise body_too_large(BODY_BYTES_MAX)
    try:
        async with asyncio.timeout(BODY_MS / 1000):
            return await _read(request)
    except TimeoutError:
        raise body_too_slow(BODY_MS) from None
    except ClientDisconnect:
        raise InputError("the body did not come to its end") from None


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise body_too_large(BODY_BYTES_MAX)
        chunks.append(chunk)
    return b"".join(chunks)
