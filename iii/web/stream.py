"""A body that is sent while it is made: an (async) iterator, as bytes or as server-sent events.

The handler has returned and its effects are committed when the first chunk is asked for; its context stays
open until the stream ends, whatever ends it. Format of events: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import UNSET

from iii.errors import StepError
from iii.formats import codec
from iii.observe.step_logger import StepLogger
from iii.running.settler import describe
from iii.step import SSE, Raw

__all__ = ["EVENT_STREAM", "Stream", "StreamBroken", "chunk_of", "event_frame"]

EVENT_STREAM = b"text/event-stream"

Source: TypeAlias = AsyncIterator[Any] | Iterator[Any]
Call: TypeAlias = Callable[[Callable[..., Any]], Awaitable[Any]]
"""Calls a function with the source: on the loop, or in a thread where it may block."""

_END = object()
_FIELDS = frozenset({"event", "data", "id", "retry"})


class StreamBroken(Exception):
    """The body ended in an error, which is logged: the transport cuts the connection, so that no client
    takes what came so far for the whole."""


class Stream:
    """Chunks to send, until StopAsyncIteration or StreamBroken. Whoever sends them calls `aclose` in the end.

    endless: server-sent events, which a drain ends instead of waiting for them.
    """

    def __init__(
        self, source: Source, *, events: bool, call: Call, ended: Callable[[], None], logger: StepLogger
    ) -> None:
        self._call, self._ended, self._logger = call, ended, logger
        self._blocking = isinstance(source, Iterator)
        self._next: Callable[..., Any] = _next if self._blocking else _anext
        self._close: Callable[..., Any] = _close if self._blocking else _aclose
        self._thread: asyncio.Future[Any] | None = None  # the `next` that may still run in one
        self._encode = event_frame if events else chunk_of
        self.endless = events
        self._closed = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        try:
            item = await self._item()
            if item is not _END:
                return self._encode(item)
        except Exception as error:
            message = f"Streamed body failed: {describe(error)}"
            self._logger.tell(logging.ERROR, "Streamed body failed", message=message, exc_info=error)
            await self.aclose()
            raise StreamBroken(describe(error)) from None
        await self.aclose()
        raise StopAsyncIteration

    async def _item(self) -> Any:
        if not self._blocking:
            return await self._call(self._next)
        self._thread = asyncio.ensure_future(self._call(self._next))
        return await asyncio.shield(self._thread)

    async def aclose(self) -> None:
        """End the source (its `finally` blocks run) and the handler's context. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            await asyncio.wait((self._thread,))
        try:
            await self._call(self._close)
        except Exception as error:
            self._logger.tell(logging.ERROR, "Streamed body failed while closing", exc_info=error)
        finally:
            self._ended()


async def _anext(source: AsyncIterator[Any]) -> Any:
    return await anext(source, _END)


def _next(source: Iterator[Any]) -> Any:
    return next(source, _END)


async def _aclose(source: AsyncIterator[Any]) -> None:
    if (aclose := getattr(source, "aclose", None)) is not None:
        await aclose()


def _close(source: Iterator[Any]) -> None:
    if (close := getattr(source, "close", None)) is not None:
        close()


def chunk_of(item: object) -> bytes:
    """str and bytes as they are, anything else as a line of JSON."""
    if isinstance(item, Raw):
        item = item.content
    if isinstance(item, str):
        return _encoded(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, SSE):
        raise StepError('SSE events need the header content-type: "text/event-stream"')
    return codec.encode(item) + b"\n"


def event_frame(item: object) -> bytes:
    """One event, ended by a blank line.

    str      its data, whatever it looks like: a "data:" line for each of its lines
    bytes    the same, as UTF-8
    SSE      that event; a dict of event, data, id and retry only likewise
    Raw      what it holds, as it is
    other    (a dict with other keys too) data, as JSON
    """
    if isinstance(item, SSE):
        return _event(item)
    if isinstance(item, Raw):
        return chunk_of(item)
    if isinstance(item, Mapping) and item and item.keys() <= _FIELDS:
        return _event(SSE(**item))
    return _data(item) + b"\n"


def _event(event: SSE) -> bytes:
    lines = [] if event.comment is None else [_lines("", event.comment)]
    for name in ("event", "id", "retry"):
        if (value := getattr(event, name)) is not None:
            lines.append(_encoded(f"{name}: {value}\n"))
    if event.data is not UNSET:
        lines.append(_data(event.data))
    return b"".join(lines) + b"\n"


def _data(value: object) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError as error:
            raise StepError(
                f"data of an event is UTF-8, these bytes are not ({error}); encode them"
            ) from None
    return _lines("data", value if isinstance(value, str) else codec.encode(value).decode())


def _lines(field: str, text: str) -> bytes:
    """A line of this field for each line of `text`: CR, LF and CRLF end one, and nothing else does."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _encoded("".join(f"{field}: {line}\n" for line in lines))


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise StepError(f"the text is no valid Unicode ({error})") from None
