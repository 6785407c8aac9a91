"""From what a handler returned to what goes over the wire. Knows no transport and no store.

returned                                        answered
None                                            204
Response, or a dict of status (an int), body,   that
  headers and nothing else
anything else                                   200 with it as the body

body             content-type unless the handler set one
None             -                            (empty)
str              text/plain; charset=utf-8
bytes            application/octet-stream
(async) iterator application/octet-stream     (streamed; text/event-stream: see stream.py)
anything else    application/json
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from iii.errors import Detail, Fault, StepError, ValidationError
from iii.formats import codec
from iii.schema import Validator
from iii.step import Cancel, Response, Snooze
from iii.trace import Trace
from iii.web.stream import Stream

__all__ = [
    "Answer",
    "answer",
    "check_schema",
    "failure",
    "headers_of",
    "is_header_text",
    "is_json",
    "is_stream",
    "open_headers",
    "respond",
]

RawHeaders = list[tuple[bytes, bytes]]

JSON, TEXT, BYTES = b"application/json", b"text/plain; charset=utf-8", b"application/octet-stream"
_JSON_HEADER, _JSON_TYPES = (b"content-type", JSON), (dict, list)
NO_BODY = frozenset({204, 304})
_WHOLE = (dict, list, str, bytes, int, float, type(None))  # asked first: an ABC takes a microsecond

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2 token
is_header_text = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
"""§5.5: no control characters, so no CR and no LF."""
_OURS = frozenset(
    {
        *("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        "traceparent",
    }
)


class Answer(Struct, eq=False):
    """What a transport sends: header names in lower case, content-length set unless the body is streamed."""

    status: int
    headers: RawHeaders
    body: bytes | Stream = b""

    def header(self, name: bytes) -> bytes:
        """The first header of this name, b"" where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.body!r})"


def respond(value: object) -> Response:
    """The Response a returned value means. StepError for what is none."""
    if type(value) is dict:  # most
        status = value.get("status")
        if type(status) is int and _RESPONSE_KEYS.issuperset(value):
            response = Response(status, value.get("body"), value.get("headers"))
            return response if status == 200 else _checked(response)
        return Response(200, value)
    if isinstance(value, Response):
        return _checked(value)
    if value is None:
        return Response(204)
    if isinstance(value, Snooze | Cancel):
        raise StepError(f"a request cannot be answered with {type(value).__name__}: it has no message")
    return Response(200, value)


_RESPONSE_KEYS = frozenset({"status", "body", "headers"})


def open_headers(response: Response) -> Response:
    """`response` with headers of its own to add to: a dict, whatever a handler gave."""
    given = {} if response.headers is None else response.headers
    if not isinstance(given, Mapping):
        return response  # `answer` refuses it
    headers = {
        name: list(value) if isinstance(value, list | tuple) else value for name, value in given.items()
    }
    return Response(response.status, response.body, headers)


def _checked(response: Response) -> Response:
    status = response.status
    if type(status) is not int or not 200 <= status <= 599:
        raise StepError(f"status {status!r} is none a handler can send; use 200 to 599")
    if status in NO_BODY and response.body is not None:
        raise StepError(f"a {status} has no body; leave it out, or use another status")
    return response


def answer(response: Response) -> Answer:
    """`response` with its body encoded; a streamed one is left to be wrapped. StepError: no such answer."""
    body = response.body
    if response.headers is None and type(body) in _JSON_TYPES:  # most answers
        encoded = codec.encode(body)
        length = (b"content-length", b"%d" % len(encoded))
        return Answer(response.status, [_JSON_HEADER, length], encoded)
    headers = headers_of(response) if response.headers else []
    if isinstance(body, dict | list):
        encoded, kind = codec.encode(body), JSON
    elif body is None:
        encoded, kind = b"", b""
    elif isinstance(body, str):
        encoded, kind = body.encode(), TEXT
    elif isinstance(body, bytes | bytearray | memoryview):
        encoded, kind = bytes(body), BYTES
    elif is_stream(body):
        encoded, kind = b"", BYTES
    else:
        encoded, kind = codec.encode(body), JSON
    if kind and not (headers and any(name == b"content-type" for name, _ in headers)):
        headers.append((b"content-type", kind))
    if response.status not in NO_BODY and not is_stream(body):
        headers.append((b"content-length", b"%d" % len(encoded)))
    return Answer(response.status, headers, encoded)


def is_stream(body: object) -> bool:
    return not isinstance(body, _WHOLE) and isinstance(body, AsyncIterator | Iterator)


def is_json(answer: Answer) -> bool:
    media = answer.header(b"content-type").partition(b";")[0].strip().lower()
    return media == JSON or media.endswith(b"+json")


def check_schema(schemas: Mapping[int, Validator], sent: Answer) -> None:
    """StepError where the answer does not fit the response_schema of its status. It is sent as it is."""
    schema = schemas.get(sent.status)
    if schema is None or isinstance(sent.body, Stream):
        return
    try:
        if _JSON_HEADER in sent.headers or is_json(sent):
            schema.validate_json(sent.body)
        else:
            schema.validate(sent.body.decode() if sent.body else None)
    except (ValidationError, UnicodeDecodeError) as error:
        raise StepError(f"the answer does not fit response_schema[{sent.status}]: {error}") from None


def failure(
    status: int,
    message: str,
    *,
    details: Sequence[Detail] = (),
    headers: Sequence[tuple[bytes, bytes]] = (),
    trace: Trace | None = None,
) -> Answer:
    """An answer of the engine's own: {"error", "details"?, "traceId"?}. 5xx carry the trace id."""
    body: dict[str, Any] = {"error": message}
    if details:
        body["details"] = [{"path": path, "message": text} for path, text in details]
    if trace is not None and status >= 500:
        body["traceId"] = trace.trace_id
    sent = answer(Response(status, body))
    sent.headers.extend(headers)
    return sent


def headers_of(response: Response) -> RawHeaders:
    """A handler's headers, each checked: what could end a header line too soon is refused."""
    given: object = response.headers
    if not given:
        return []
    if not isinstance(given, Mapping):
        raise StepError(f"headers: expected a mapping of names to values, got {type(given).__name__}")
    headers: RawHeaders = []
    for name, values in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StepError(f"{name!r} is no header name")
        lowered = name.lower()
        if lowered in _OURS:
            raise StepError(f"header {name} is set by the server; leave it out")
        for value in values if isinstance(values, list | tuple) else (values,):
            headers.append((lowered.encode(), _header_value(name, value)))
    return headers


def _header_value(name: str, value: object) -> bytes:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if text is None:
        raise StepError(
            f"header {name}: expected a str, an int or a list of them, got {type(value).__name__}"
        )
    if not is_header_text(text):
        error = StepError(f"header {name}: {text!r} has characters that no header may hold (RFC 9110 §5.5)")
        error.fault = Fault(("headers", name), "has characters that no header may hold", text)
        raise error
    return text.strip().encode("latin-1")
