"""What is not to be seen: the values of configured names, at any depth and in any spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

__all__ = ["HIDDEN", "Redaction"]

HIDDEN = "[redacted]"
DEPTH_MAX = 8


class Redaction:
    """`names`: their values are hidden; apiKey, api_key and API-KEY are one name."""

    __slots__ = ("_hidden",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._hidden = frozenset(map(_fold, names))

    def __call__(self, value: Any) -> Any:
        """`value` with what lies under a hidden name replaced."""
        return self._redacted(value, 0)

    def json(self, value: Any) -> bytes:
        """The redacted value as JSON; what has none is told by its repr. Never fails."""
        return to_json(self(value))

    def _redacted(self, value: Any, depth: int) -> Any:
        if depth == DEPTH_MAX:
            return "..."
        if isinstance(value, Mapping):
            hidden = self._hidden
            return {
                key: HIDDEN if _fold(key) in hidden else self._redacted(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._redacted(item, depth + 1) for item in value]
        return value


def to_json(value: Any) -> bytes:
    """JSON of whatever there is to tell: a log line never fails."""
    try:
        return orjson.dumps(value, _repr, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):  # an integer over 64 bits, a surrogate, nested too deeply
        return orjson.dumps(_told(value))


def _fold(name: object) -> str:
    return str(name).lower().replace("_", "").replace("-", "")


def _told(value: Any) -> Any:
    """`value` with everything as text that JSON might not take."""
    if isinstance(value, Mapping):
        return {_text_of(key): _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return value if value is None or isinstance(value, bool | float) else _text_of(value)


def _text_of(value: Any) -> str:
    return (value if isinstance(value, str) else _repr(value)).encode(errors="replace").decode()


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"({type(value).__name__}: its repr fails with {type(error).__name__})"
