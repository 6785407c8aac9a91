"""The archive of requests, and one site behind two doors: the lane and Hypercorn alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from http_kit import serving
from msgspec import Struct, convert
from web_kit import get, post, step

from iii.config import HttpConfig
from iii.step import Response, http
from iii.web.endpoint import Answered, Begun, Endpoint
from iii.web.request import Request

ARCHIVE = Path(__file__).with_name("requests.yaml")
LIMITS = HttpConfig(body_bytes_max=4000, head_bytes_max=16 << 10)
QUIET_TURNS = 40
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class Many(Struct, frozen=True):
    of: str
    times: int


class Case(Struct, frozen=True):
    name: str
    send: str
    many: Many = Many("", 0)
    repeat: int = 1
    binary: bool = False

    @property
    def sent(self) -> bytes:
        return self.send.replace("<<MANY>>", self.many.of * self.many.times).encode("latin-1") * self.repeat


def cases() -> list[Case]:
    return convert(yaml.safe_load(ARCHIVE.read_text()), list[Case])


class Call(NamedTuple):
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    client: str | None


class Reply(NamedTuple):
    """`connection`: what the answer says of it."""

    status: int
    body: bytes
    content_type: str
    connection: str


class Outcome(NamedTuple):
    calls: list[Call]
    replies: list[Reply]
    rest: bytes  # what is no whole answer

    @property
    def classes(self) -> list[int]:
        return [reply.status // 100 for reply in self.replies]


class Door:
    """A site behind one of the two. Remembers each request that gets to the endpoint."""

    def __init__(self, port: int, calls: list[Call]) -> None:
        self.port, self.calls = port, calls

    async def outcome(self, parts: Sequence[bytes], *, half_closed: bool = False) -> Outcome:
        """What becomes of a client that sends these parts, one by one, and no more. half_closed: and says
        so with the last of them."""
        self.calls.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(30):
                for part in parts:
                    if reader.at_eof() or writer.is_closing():
                        break
                    writer.write(part)
                    await asyncio.sleep(0)
                if not half_closed:
                    await _quiet(reader)
                if not writer.is_closing():
                    writer.write_eof()
                answered = await reader.read()
        except TimeoutError:
            raise AssertionError(f"no answer, nor an end, within 30 s to {parts!r}") from None
        except (OSError, RuntimeError):  # RuntimeError: uvloop's, of a transport that is closed
            answered = bytes(reader._buffer)  # type: ignore[attr-defined]
        finally:
            writer.transport.abort()  # what was not sent would keep it open
        asked = b"".join(parts).partition(b" ")[0].decode("latin-1")
        methods = [call.method for call in self.calls] or [asked]
        return Outcome(list(self.calls), *_replies(answered, methods))


async def _quiet(reader: asyncio.StreamReader) -> None:
    """Until the server, on this very loop, has nothing left to do for what was sent."""
    size, turns = -1, 0
    while turns < QUIET_TURNS:
        await asyncio.sleep(0)
        arrived = len(reader._buffer)  # type: ignore[attr-defined]
        size, turns = arrived, turns + 1 if arrived == size else 0


class _Remembering(Endpoint):
    def __init__(self, endpoint: Endpoint, calls: list[Call]) -> None:
        self.__dict__.update(endpoint.__dict__)
        self._endpoint, self._calls = endpoint, calls
        self.begin = self._remember

    def _remember(self, request: Request, answered: Answered | None) -> Begun:
        call = (
            request.method,
            request.raw_path,
            request.query_string,
            list(request.raw_headers),
            request.raw,
        )
        self._calls.append(Call(*call, request.client))
        return self._endpoint.begin(request, answered)


def _replies(answered: bytes, methods: list[str]) -> tuple[list[Reply], bytes]:
    replies = []
    asked = iter(methods)
    while answered.startswith(b"HTTP/1.1 "):
        head, blank, rest = answered.partition(b"\r\n\r\n")
        if not blank:
            break
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        method = next(asked, "GET") if status >= 200 else ""
        body, rest = _body(rest, fields, bodiless=method == "HEAD" or status < 200 or status in (204, 304))
        if body is None:
            break
        connection = fields.get("connection", "").lower()
        replies.append(Reply(status, body, fields.get("content-type", ""), connection))
        answered = rest
    return replies, answered


def _body(rest: bytes, fields: dict[str, str], bodiless: bool) -> tuple[bytes | None, bytes]:
    if bodiless:
        return b"", rest
    if "content-length" in fields:
        length = int(fields["content-length"])
        return (rest[:length] if len(rest) >= length else None), rest[length:]
    if "transfer-encoding" not in fields:
        return rest, b""
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not size:
            return None, rest
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest


async def _record(request: Any) -> Any:
    return {"method": request.method, "path": request.path, "length": len(request.raw)}


async def _waits() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "waited"


async def _parts() -> AsyncIterator[str]:
    yield "one"
    yield "two"


async def _streams() -> Any:
    return _parts()


async def _fails() -> None:
    raise RuntimeError("on purpose")


async def _nothing() -> None:
    return None


async def _same() -> Response:
    return Response(304)


STEPS = (
    step(_record, *(http(method, "/echo") for method in METHODS), name="Echo"),
    get("/{name}", _record, name="Any"),
    get("/echo/{name}", _record, name="Below"),
    get("/waits", _waits, name="Waits"),
    get("/stream", _streams, name="Streams"),
    get("/fails", _fails, name="Fails"),
    get("/nothing", _nothing, name="Nothing"),
    get("/same", _same, name="Same"),
    post("/upload", _record, name="Upload"),
)


@asynccontextmanager
async def door(*, lane: bool) -> AsyncIterator[Door]:
    calls: list[Call] = []
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            serving(*STEPS, config=LIMITS, lane=lane, around=lambda endpoint: _Remembering(endpoint, calls))
        )
        yield Door(running.port, calls)
