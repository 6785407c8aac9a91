"""Hypercorn's HTTP/1, but for clients that begin to speak HTTP/2: nothing is upgraded to it, and its preface
is the connection's to answer."""

from __future__ import annotations

import re

import h11
from h2.errors import ErrorCodes
from hypercorn.events import Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol

from iii.web.http2.frames import refusal

__all__ = ["OFF", "Http1", "Preface"]

OFF = refusal(b"HTTP/2 is off here (http.h2); use HTTP/1.1", ErrorCodes.HTTP_1_1_REQUIRED)

_NO_PREFACE = refusal(b"neither HTTP/1 nor the preface of HTTP/2", ErrorCodes.PROTOCOL_ERROR)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
_LINE_BYTES_MAX = 8 << 10
_OF_HTTP_1 = re.compile(rb"HTTP/\d\.\d\r?\Z")


class Preface(Exception):
    """The client speaks HTTP/2: `data` is what came, its preface included."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


class Http1(H11Protocol):
    """`h2`: whether the connection may be one of HTTP/2, so that a client whose first line is none of HTTP/1
    is told in frames."""

    def __init__(self, wrapper: ProtocolWrapper, *, h2: bool) -> None:
        super().__init__(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            wrapper.task_group,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        self._h2 = h2
        self._begun = b""

    async def handle(self, event: Event) -> None:
        if self._h2 and isinstance(event, RawData) and not self._has_line:
            self._begun += event.data[:_LINE_BYTES_MAX]
        await super().handle(event)

    @property
    def _has_line(self) -> bool:
        return b"\n" in self._begun or len(self._begun) >= _LINE_BYTES_MAX

    async def _check_protocol(self, event: h11.Request) -> None:
        if (event.method, event.target, event.http_version) == (b"PRI", b"*", b"2.0"):
            assert isinstance(self.connection, h11.Connection)
            lines = b"".join(b"%s: %s\r\n" % pair for pair in event.headers)  # there are none in a preface
            raise Preface(_PREFACE[:-2] + lines + b"\r\n" + self.connection.trailing_data[0])

    async def _send_error_response(self, status_code: int) -> None:
        line = self._begun.partition(b"\n")[0]
        if self._h2 and self.keep_alive_requests == 0 and not _OF_HTTP_1.search(line):
            await self.send(RawData(data=_NO_PREFACE))
        else:
            await super()._send_error_response(status_code)
