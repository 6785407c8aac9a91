"""An ASGI 3 application around an Endpoint: for Hypercorn (server.py) and to mount in Starlette or FastAPI.

Reads the whole body, within its limits of size and time, and sends the Answer. A client that leaves before
its request is complete is forgotten; later the handler goes on, and only a streamed body ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import quote

from iii.web.endpoint import Endpoint
from iii.web.lifespan import Lifespan, serve_lifespan
from iii.web.refused import Refused, body_too_large, body_too_slow
from iii.web.request import Request
from iii.web.sending import LINGER_BYTES_MAX, LINGER_MS, send_stream
from iii.web.stream import Stream

__all__ = ["AsgiApp", "app"]

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Left(Exception):
    """The client is gone before its request was complete."""


def app(endpoint: Endpoint, lifespan: Lifespan | None = None) -> AsgiApp:
    """The ASGI application. `lifespan` is entered and left on the events of a server that sends them; a
    framework sends none to what it mounts."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await _serve_http(endpoint, scope, receive, send)
            case "lifespan":
                await serve_lifespan(lifespan, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise RuntimeError(f"this application serves HTTP; the server sent the scope {other!r}")

    return serve


async def _serve_http(endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
    request = _request(scope)
    closing = False
    try:
        _check_head(request, endpoint.config.head_bytes_max)
        _check_framing(request, scope.get("http_version", "1.1"))
        closing = _waits_for_nothing(request, endpoint)
        if not closing:
            request.raw = await _read_body(request, receive, endpoint)
        sent = await endpoint.answer(request)
    except Refused as refused:
        sent, closing = endpoint.refuse(request, refused), True
    except _Left:
        return
    if (closing or endpoint.drained.is_set()) and scope.get("http_version", "1.1").startswith("1"):
        sent.headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": sent.status, "headers": sent.headers})
    if isinstance(sent.body, Stream):
        await _send_stream(sent.body, endpoint.drained, receive, send)
    elif closing:
        await send({"type": "http.response.body", "body": sent.body, "more_body": True})
        await _linger(receive)
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": sent.body})


# -------------------------------------------------------------------------------------- the request


def _request(scope: Scope) -> Request:
    client = scope.get("client")
    return Request(
        scope["method"],
        _path_below(scope),
        scope.get("query_string", b""),
        [(name.lower(), value) for name, value in scope["headers"]],
        client=client[0] if client else None,
        scheme=scope.get("scheme", "http"),
    )


def _path_below(scope: Scope) -> str:
    """The percent-encoded path below where the application is mounted."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else quote(scope["path"], safe="/:@!$&'()*+,;=~-._")
    if path[:1] != "/" and "://" in path:  # absolute form, RFC 9112 §3.2.2
        path = "/" + path.partition("://")[2].partition("/")[2]
    root = scope.get("root_path", "")
    if root:
        for prefix in (root, quote(root)):
            if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                return path[len(prefix.rstrip("/")) :] or "/"
    return path


def _check_head(request: Request, bytes_max: int) -> None:
    size = len(request.raw_path) + len(request.query_string)
    size += sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
    if size > bytes_max:
        raise Refused(431, f"the request head has {size} bytes, at most {bytes_max} are allowed")


def _check_framing(request: Request, version: str) -> None:
    """Refuse a length beside a transfer coding, and a coding in HTTP/1.0: whoever sent that through a proxy
    may mean another request to begin in it (RFC 9112 §6.1)."""
    if b"transfer-encoding" in request.fields and (b"content-length" in request.fields or version == "1.0"):
        raise Refused(
            400, "the request is framed in two ways: send Content-Length or Transfer-Encoding, not both"
        )


def _waits_for_nothing(request: Request, endpoint: Endpoint) -> bool:
    """Whether the client asks before it sends its body, and nobody would read that."""
    asks = request.fields.get(b"expect", b"").lower() == b"100-continue"
    return asks and not endpoint.reads(request.method, request.raw_path)


async def _read_body(request: Request, receive: Receive, endpoint: Endpoint) -> bytes:
    """The whole body. Refused 413 as soon as it is known to be too large, 408 where it is too slow."""
    bytes_max = endpoint.config.body_bytes_max
    declared = request.fields.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > bytes_max:
        raise body_too_large(bytes_max)
    try:
        async with asyncio.timeout(endpoint.config.timeout_ms / 1000) as limit:
            return await _receive_body(receive, bytes_max)
    except TimeoutError:
        if not limit.expired():
            raise
    raise body_too_slow(endpoint.config.timeout_ms)


async def _receive_body(receive: Receive, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Left
        chunk = event.get("body", b"")
        if chunk:
            size += len(chunk)
            if size > bytes_max:
                raise body_too_large(bytes_max)
            chunks.append(chunk)
        if not event.get("more_body", False):
            return b"".join(chunks)


async def _linger(receive: Receive) -> None:
    """Throw away what a refused client still sends, for a while: to close on it at once would reset the
    connection, and it might never read why. (Hypercorn also hangs on a body that nobody takes.)"""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_MS / 1000):
            while size < LINGER_BYTES_MAX:
                event = await receive()
                size += len(event.get("body", b""))
                if event["type"] == "http.disconnect" or not event.get("more_body", False):
                    return


# ----------------------------------------------------------------------------------------- the answer


async def _send_stream(stream: Stream, drained: asyncio.Event, receive: Receive, send: Send) -> None:
    """A stream that broke is left without its end: the server then cuts it off."""

    async def write(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    if await send_stream(stream, drained, write, _until_left(receive)):
        await send({"type": "http.response.body", "body": b""})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
