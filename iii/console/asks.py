"""One question to the API: its path, its parameters, its body, who asks. And the answers that are no data.

Owns what is refused before a page sees it: a parameter out of range, a body that is no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import orjson
from msgspec import UNSET
from starlette.requests import Request

from iii.console.hub import Hub
from iii.console.means import Means
from iii.console.security import Visit
from iii.errors import IIIError, InputError, ValidationError
from iii.formats.codec import uncollected
from iii.formats.json_text import DEPTH_MAX, NOT_JSON, parse
from iii.formats.percent import unquoted
from iii.formats.units import shown
from iii.web.request import parse_fields

__all__ = [
    "Ask",
    "BadField",
    "Missing",
    "Stale",
    "json_of",
    "path_of",
    "preview",
    "value_of",
]

PREVIEW_CHARS = 160
PARAMETER_CHARS_MAX = 16 << 10

T = TypeVar("T")
_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")


class BadField(InputError):
    """A parameter or a field of the body is wrong."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


class Missing(IIIError):
    """What the path names is not there."""


class Stale(IIIError):
    """A state value is not at the version that was asked for; `current`: as it is now."""

    def __init__(self, message: str, current: object) -> None:
        self.current = current
        super().__init__(message)


class Ask:
    """`means`: what to answer with; `hub`: what happens; `visit`: who asks; `lives`: may they still."""

    def __init__(
        self,
        means: Means,
        hub: Hub,
        request: Request,
        path: Mapping[str, str],
        body: bytes,
        visit: Visit,
        lives: Callable[[], bool],
    ) -> None:
        self.means, self.hub, self.request, self.path, self.body = means, hub, request, path, body
        self.visit, self.by, self.lives = visit, visit.actor, lives

    @cached_property
    def query(self) -> Mapping[str, str]:
        try:
            return parse_fields(self.request.scope.get("query_string", b""))
        except ValueError as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise BadField("query", reason) from None

    def text(self, name: str, default: str = "") -> str:
        found = self.query.get(name, default)
        if len(found) > PARAMETER_CHARS_MAX:
            raise BadField(name, f"at most {PARAMETER_CHARS_MAX} characters are allowed, got {len(found)}")
        return found

    def given(self, name: str) -> str | None:
        """None where it is absent or empty."""
        return self.text(name) or None

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        found = self.given(name)
        if found is None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", found) or not low <= int(found) <= high:
            raise BadField(name, f"expected a whole number from {low} to {high}, got {shown(found)}")
        return int(found)

    def before(self) -> int | None:
        """The cursor of a list that goes back in time."""
        return self.whole("before", 0, 1, 1 << 62) or None

    def choice(self, name: str, options: tuple[str, ...]) -> str | None:
        found = self.given(name)
        if found is not None and found not in options:
            raise BadField(name, f"expected one of {', '.join(options)}; got {shown(found)}")
        return found

    def read(self, kind: type[T]) -> T:
        """The body: all of it can be stored."""
        if self.body:
            _check(self.body)
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except msgspec.ValidationError as error:
            found = _FIELD.search(str(error))
            raise BadField(found[1] if found else "body", _FIELD.sub("", str(error))) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"the body is no JSON: {error}") from None


def _check(body: bytes) -> None:
    try:
        parse(body, DEPTH_MAX + 1)  # what is kept lies in a field of it
    except ValidationError as error:
        [detail] = error.details
        problem = detail.message if error.message != NOT_JSON else f"the body is no JSON: {detail.message}"
        if not detail.path:
            raise InputError(problem) from None
        raise BadField(detail.path, problem) from None


def path_of(scope: Mapping[str, Any]) -> list[str]:
    """The parts of a path, each decoded by itself: a part may have a slash in it. BadField: it is not UTF-8,
    and names nothing."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw.partition(b"?")[0]
    try:
        return [unquoted(part).decode() for part in path.split(b"/")[1:]]
    except UnicodeDecodeError:
        shown = path[:PREVIEW_CHARS].decode("latin-1")
        raise BadField("path", f"{shown!r} is not percent-encoded UTF-8") from None


# --------------------------------------------------------------------------------------------- values


def value_of(content: bytes) -> msgspec.Raw | str:
    """A payload or a state value as it goes into an answer: JSON digit for digit, else the text it looks
    like."""
    try:
        content.decode()
        return msgspec.json.decode(content, type=msgspec.Raw)  # without making what it stands for
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return content.decode(errors="replace")


def json_of(raw: msgspec.Raw | msgspec.UnsetType, field: str) -> bytes:
    """What somebody typed, as it is stored: without its white space, every digit of its numbers kept."""
    if raw is UNSET:
        raise BadField(field, "is missing")
    try:
        content = msgspec.json.format(bytes(raw), indent=-1)
        uncollected(orjson.loads, content)
    except (orjson.JSONDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise BadField(field, f"is no JSON that handlers could read: {error}") from None
    return content


def preview(content: bytes) -> str:
    """The beginning, on one line."""
    text = content[: 4 * PREVIEW_CHARS].decode(errors="replace")
    return text if len(text) <= PREVIEW_CHARS else f"{text[: PREVIEW_CHARS - 1]}…"
