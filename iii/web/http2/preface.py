"""How HTTP/2 begins on a connection, and what a client is told that begins it wrongly, or where it is off."""

from __future__ import annotations

from h2.errors import ErrorCodes

from iii.web.http2.frames import refusal

__all__ = ["LINE", "NO_PREFACE", "OFF", "Preface"]

LINE = b"PRI * HTTP/2.0\r\n"

OFF = refusal(b"HTTP/2 is off here (http.h2); use HTTP/1.1", ErrorCodes.HTTP_1_1_REQUIRED)
NO_PREFACE = refusal(b"neither HTTP/1 nor the preface of HTTP/2", ErrorCodes.PROTOCOL_ERROR)


class Preface(Exception):
    """The client speaks HTTP/2: `data` is what came, its preface included."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
