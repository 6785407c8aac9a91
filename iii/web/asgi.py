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
from iii.web.refused import Refused
from iii.web.request import Request
from iii.web.stream import Stream, StreamBroken

__all__ = ["AsgiApp", "app"]

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook: TypeAlias = Callable[[], Awaitable[object]]

LINGER_S = 1.0
LINGER_BYTES_MAX = 8 << 20


class _Left(Exception):
    """The client is gone before its request was complete."""


def app(endpoint: Endpoint, *, startup: Hook | None = None, shutdown: Hook | None = None) -> AsgiApp:
    """The ASGI application. startup and shutdown run on the lifespan events of a server that sends them;
    a framework sends none to what it mounts."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await _serve_http(endpoint, scope, receive, send)
            case "lifespan":
                await _serve_lifespan(receive, send, startup, shutdown)
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
        request.raw = await _read_body(request, receive, endpoint)
        sent = await endpoint(request)
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


async def _read_body(request: Request, receive: Receive, endpoint: Endpoint) -> bytes:
    """The whole body. Refused 413 as soon as it is known to be too large, 408 where it is too slow."""
    bytes_max = endpoint.config.body_bytes_max
    declared = request.fields.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > bytes_max:
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(endpoint.config.timeout_ms / 1000) as limit:
            return await _receive_body(receive, bytes_max)
    except TimeoutError:
        if not limit.expired():
            raise
    raise Refused(408, f"the request body did not arrive within {endpoint.config.timeout_ms} ms")


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
                raise _too_large(bytes_max)
            chunks.append(chunk)
        if not event.get("more_body", False):
            return b"".join(chunks)


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, f"the body is too large; at most {bytes_max} bytes are allowed")


async def _linger(receive: Receive) -> None:
    """Throw away what a refused client still sends, for a while: to close on it at once would reset the
    connection, and it might never read why. (Hypercorn also hangs on a body that nobody takes.)"""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while size < LINGER_BYTES_MAX:
                event = await receive()
                size += len(event.get("body", b""))
                if event["type"] == "http.disconnect" or not event.get("more_body", False):
                    return


# ----------------------------------------------------------------------------------------- the answer


async def _send_stream(stream: Stream, drained: asyncio.Event, receive: Receive, send: Send) -> None:
    """Send chunks until the stream ends, the client leaves or, for endless ones, the engine drains.

    A stream that broke is left without its end: the server then cuts the connection.
    """
    pump = asyncio.ensure_future(_pump(stream, send))
    watchers: list[asyncio.Future[Any]] = [asyncio.ensure_future(_until_left(receive))]
    if stream.endless:
        watchers.append(asyncio.ensure_future(drained.wait()))
    try:
        await asyncio.wait({pump, *watchers}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pump, *watchers):
            task.cancel()
        await asyncio.wait({pump, *watchers})
        await stream.aclose()
    if pump.cancelled():
        whole = stream.endless and drained.is_set()
    else:
        whole = pump.result()
    if whole:
        await send({"type": "http.response.body", "body": b""})


async def _pump(stream: Stream, send: Send) -> bool:
    """Whether all of it was sent."""
    try:
        async for chunk in stream:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (StreamBroken, OSError):  # OSError: the client is gone
        return False
    return True


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# ------------------------------------------------------------------------------------------- lifespan


async def _serve_lifespan(receive: Receive, send: Send, startup: Hook | None, shutdown: Hook | None) -> None:
    hooks = {"lifespan.startup": startup, "lifespan.shutdown": shutdown}
    while True:
        event = (await receive())["type"]
        hook = hooks[event]
        try:
            if hook is not None:
                await hook()
        except Exception as error:
            await send({"type": f"{event}.failed", "message": str(error)})
            raise
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
