"""What is not to be seen in log lines, run records, errors and spans, at any depth and in any spelling.

    under a name     whose words say so (secret_names.py): in mappings, in pairs like the list of a request's
                     headers, in {"name": ..., "value": ...}
    within a text    secret_text.py

Owns what of a value is told at all: DEPTH_MAX levels, VALUES_MAX values, TEXT_CHARS_MAX of a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from iii.observe.secret_names import SecretNames
from iii.observe.secret_text import HIDDEN, TEXT_CHARS_MAX, SecretText

__all__ = ["HIDDEN", "NOTHING_HIDDEN", "Redaction", "to_json"]

DEPTH_MAX = 8
VALUES_MAX = 2_000
CHARS_MAX = 128 << 10
LEFT_OUT = "..."

_PLAIN = frozenset((int, float, bool, type(None)))


class Redaction:
    """`names`: their values are hidden; none: nothing is."""

    __slots__ = ("_hides", "text", "traceback")

    def __init__(self, names: Iterable[str] = ()) -> None:
        known = SecretNames(names)
        self._hides = known.hides if known else None
        within = SecretText(known) if known else None
        self.text = within if within is not None else _as_it_is
        """A message or an error without its secrets."""
        self.traceback = within.of_traceback if within is not None else _as_it_is

    def __call__(self, value: Any) -> Any:
        """`value` with what must not be seen replaced."""
        return _Walk(self).of(value, 0)

    def fields(self, fields: Mapping[str, Any]) -> dict[Any, Any]:
        """As that, of the fields of a log line."""
        hides, text = self._hides, self.text
        told: dict[Any, Any] = {}
        walk: _Walk | None = None
        for name, value in fields.items():
            kind = type(value)
            if hides is not None and hides(name, value):
                told[name] = HIDDEN
            elif kind is str and len(value) <= TEXT_CHARS_MAX:
                told[name] = text(value)
            elif kind in _PLAIN:
                told[name] = value
            else:
                walk = walk or _Walk(self)
                told[name] = walk.of(value, 1)
        return told

    def shallow(self, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """`values` as they are, for a text to take from, but for those under a name that hides them."""
        hides = self._hides
        if hides is None:
            return values
        return {name: HIDDEN if hides(name, value) else value for name, value in values.items()}

    def json(self, value: Any) -> bytes:
        """The redacted value as JSON; what has none is told by its repr. Never fails."""
        return to_json(self(value))


class _Walk:
    """Through one value, as far as a log line goes."""

    __slots__ = ("_chars", "_hides", "_text", "_values")

    def __init__(self, redaction: Redaction) -> None:
        self._hides, self._text = redaction._hides, redaction.text
        self._values, self._chars = VALUES_MAX, CHARS_MAX

    def of(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if depth >= DEPTH_MAX or self._values < 0:
            return LEFT_OUT
        if isinstance(value, str):
            return self._told(value)
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple):
            return self._list(value, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            held = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
            return self._mapping(held, depth)
        return value if _is_told_by_json(value) else self._told(_repr(value))

    def _told(self, text: str) -> str:
        self._chars -= min(len(text), TEXT_CHARS_MAX)
        return LEFT_OUT if self._chars < 0 else self._text(text)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        hides, told = self._hides, {}
        named = value.get("name", value.get("key")) if "value" in value else None
        for key, item in value.items():
            if self._values < 0:
                told[LEFT_OUT] = LEFT_OUT
                break
            is_hidden = hides is not None and (
                hides(key, item) or (key == "value" and isinstance(named, str | bytes) and hides(named, item))
            )
            told[key] = HIDDEN if is_hidden else self.of(item, depth + 1)
        return told

    def _list(self, value: Sequence[Any], depth: int) -> list[Any]:
        if len(value) == 2 and self._hides is not None and self._hides(value[0], value[1]):
            return [self.of(value[0], depth + 1), HIDDEN]
        told: list[Any] = []
        for item in value:
            if self._values < 0:
                told.append(LEFT_OUT)
                break
            told.append(self.of(item, depth + 1))
        return told


def to_json(value: Any) -> bytes:
    """JSON of whatever there is to tell: a log line never fails."""
    try:
        return orjson.dumps(value, _repr, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):  # an integer over 64 bits, a surrogate, nested too deeply
        return orjson.dumps(_told(value))


def _as_it_is(text: str) -> str:
    return text


def _is_told_by_json(value: object) -> bool:
    """Dates, UUIDs, enumerations: they hold no names."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _told(value: Any) -> Any:
    """`value` with as text what JSON does not take, and nothing else."""
    if isinstance(value, Mapping):
        return {_text_of(key): _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return value if _is_told_by_json(value) else _text_of(value)


def _text_of(value: Any) -> str:
    return (value if isinstance(value, str) else _repr(value)).encode(errors="replace").decode()


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"({type(value).__name__}: its repr fails with {type(error).__name__})"


NOTHING_HIDDEN = Redaction()
