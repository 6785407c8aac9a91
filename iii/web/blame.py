"""Whom an error of a handler is blamed on: where a request's own text (or number) is what cannot be stored,
the client is told the field, 400, or 413 where it is size. Knows requests, no routes, logs or records.

    key, topic, group, header …       it is the text of a field; or such a text is in it, and another in its
                                      place would be taken (_is_to_blame)
    a number in a value               the text of a field is that number: int(text), float(text), "nan" too;
                                      not a header's: each small number is in one
    nested too deeply                 the body, which the handler wrapped, is deep
    value, payload, headers too large the body is at least half of it
    a message that its input refuses  it is the body as it came

All else is the handler's own fault, 500. This is a guess, as a client may send what is the handler's own name
too: what is blamed on a client is logged (failing.py) and leaves a run record as every failure does. It runs
where something was refused, and looks at PARTS_MAX parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from iii.errors import BadName, Detail, Fault, IIIError, StepError, TooLarge, ValidationError
from iii.formats import codec
from iii.formats.json_text import REFUSED
from iii.formats.storable import TOO_DEEP, depth_of
from iii.web.refused import Refused
from iii.web.request import MultiDict, Request
from iii.web.response import is_header_text

__all__ = ["of_request"]

PARTS_MAX = 20_000
INSIDE_MAX = 100
CHARS_MIN = 3  # of a text in a name: a blank or a slash is in many
DEEP = 64
_NUMBER_CHARS = 400
_SHARE = 16  # how much shorter than a long name a part may be that makes it too long


def of_request(error: BaseException, request: Request) -> Refused | None:
    """What the client is told, where `error` comes of its request."""
    if isinstance(error, BadName):
        if isinstance(error.given, str):
            path = _of_text(error.given, error.allows, request)
        else:
            path = _of_value(error.given, request)
        return None if path is None else _told(400, path, str(error))
    if isinstance(error, TooLarge):
        return _of_size(error, request)
    if isinstance(error, ValidationError) and error.given is not None and error.given is request.body:
        return Refused(400, error.message, error.details)
    if isinstance(error, StepError) and error.fault is not None and not error.fault.is_type:
        path = _of_fault(error.fault, request)
        return None if path is None else _told(400, path, error.fault.reason)
    return None


def _told(status: int, path: str, message: str) -> Refused:
    return Refused(status, REFUSED, (Detail(path, message),))


def _of_text(name: str, allows: Callable[[str], object], request: Request) -> str | None:
    """The part that is `name`; or the longest that is in it and without which it would be allowed; or the
    longest in it, where it takes several."""
    is_long = not allows("x" * len(name.encode(errors="replace")))
    least = max(CHARS_MIN, len(name) // _SHARE if is_long else 0)
    inside: dict[str, str] = {}
    for path, part in islice(_fields(request), PARTS_MAX):
        if not isinstance(part, str) or len(part) < min(least, len(name)):
            continue
        if part == name or (not name and not part.strip()):
            return path
        _note(part, path, name, least, inside)
    for path, part in islice(_headers(request), PARTS_MAX):
        if part == name:
            return path
        _note(part, path, name, max(least, len(name) // 2), inside)
    longest = sorted(inside, key=len, reverse=True)[:INSIDE_MAX]
    for text in longest:
        if _is_to_blame([text], name, allows, is_long):
            return inside[text]
    return inside[longest[0]] if longest and _is_to_blame(longest, name, allows, is_long) else None


def _note(part: str, path: str, name: str, least: int, inside: dict[str, str]) -> None:
    """What of `part`, `least` characters long, is in `name`."""
    if len(part) < least:
        return
    for text in {part, part.strip(), part.lower(), part.upper()}:
        if len(text) >= least and text in name:
            inside.setdefault(text, path)


def _is_to_blame(texts: Sequence[str], name: str, allows: Callable[[str], object], is_long: bool) -> bool:
    """Whether `name` would be allowed without them. Of one that is too long they must be half together: in a
    long text of the handler's own many a short one is found."""
    if is_long and sum(map(len, texts)) * 2 < len(name):
        return False
    for text in texts:
        name = name.replace(text, "x")
    return bool(allows(name))


def _of_value(given: object, request: Request) -> str | None:
    for path, part in islice(_fields(request), PARTS_MAX):
        if (type(part) is type(given) and part == given) or (type(given) is int and _reads_as(part, given)):
            return path
    return None


def _of_size(error: TooLarge, request: Request) -> Refused | None:
    if not error.field:
        return None
    size = len(request.raw) + len(request.query_string)
    if error.field == "headers":
        size += sum(len(name) + len(value) for name, value in request.raw_headers)
    elif size * _SHARE > error.size:  # numbers may be longer as they are stored
        size = max(size, _stored_size(request.body))
    return _told(413, "", str(error)) if size * 2 >= error.size else None


def _stored_size(body: object) -> int:
    try:
        return len(codec.encode(body))
    except IIIError:
        return 0


def _of_fault(fault: Fault, request: Request) -> str | None:
    if fault.reason == TOO_DEEP:
        return "" if depth_of(_body(request)) >= DEEP else None
    if isinstance(fault.given, str):
        return _of_text(fault.given, is_header_text, request)
    if fault.given is None:
        return None
    parts = islice(_fields(request), PARTS_MAX)
    return next((path for path, part in parts if _reads_as(part, fault.given)), None)


def _reads_as(part: object, number: object) -> bool:
    if not isinstance(part, str) or len(part) > _NUMBER_CHARS:
        return False
    try:
        read = int(part) if isinstance(number, int) else float(part)
    except ValueError:
        return False
    return read == number or (read != read and number != number)


# --------------------------------------------------------------------------------- a request's parts


def _headers(request: Request) -> Iterator[tuple[str, str]]:
    yield from request.headers.items()
    yield from request.cookies.items()


def _fields(request: Request) -> Iterator[tuple[str, Any]]:
    """(field, text, number, list or object) of what the client sent in path, query and body."""
    yield from request.path_params.items()
    for name, texts in request.query.lists().items() if request.query_string else ():
        yield from ((name, text) for text in texts)
    body = _body(request)
    stack: list[tuple[str, Any]] = [("", body)]
    while stack:
        path, part = stack.pop()
        yield path, part
        step = f"{path}." if path else ""
        if isinstance(part, dict):
            stack += [(f"{step}{key}", child) for key, child in islice(part.items(), PARTS_MAX)]
            yield from ((f"{step}{key}", key) for key in islice(part, PARTS_MAX))
        elif isinstance(part, list):
            stack += [(f"{step}{n}", child) for n, child in enumerate(part[:PARTS_MAX])]


def _body(request: Request) -> Any:
    """As it came: of a form the lists of its fields, of JSON its value whatever a schema made of it."""
    if isinstance(request.body, MultiDict):
        return {name: part for name, parts in request.body.lists().items() for part in parts}
    try:
        return codec.decode(request.raw)
    except ValueError:
        return request.raw.decode(errors="replace")
