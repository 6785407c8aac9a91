"""When a state trigger fires: its `filter` against the value before and after a change. Pure.

A filter is a mapping: every key in it must be in the value with an equal value; a mapping inside is
matched the same way, a list must be equal as a whole. Equality is JSON's: true is not 1, 1 is 1.0,
and a missing key is not null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iii.formats.units import is_unicode, type_name

__all__ = ["fires", "matches", "plain", "problem"]

DEPTH_MAX = 64


def matches(filter: Mapping[str, Any], value: object) -> bool:
    """Whether `value` (of plain JSON types) has everything that `filter` asks for."""
    if not isinstance(value, Mapping):
        return False
    return all(
        key in value
        and (matches(wanted, value[key]) if isinstance(wanted, Mapping) else _equal(wanted, value[key]))
        for key, wanted in filter.items()
    )


def fires(filter: Mapping[str, Any] | None, fire: str, old: object, new: object) -> bool:
    """Whether the change from `old` to `new` (None = absent) starts a step with this filter.

    "enter": the new value matches and the old did not; "every": the new value matches. Without a
    filter every change does, a deletion too.
    """
    if filter is None:
        return True
    return matches(filter, new) and (fire == "every" or not matches(filter, old))


def problem(filter: object) -> tuple[str, str] | None:
    """What keeps `filter` from being one, as (path inside it, sentence); None when it is fine."""
    if not isinstance(filter, Mapping):
        return "", f'expected a mapping like {{"status": "done"}}, got {type_name(filter)}'
    return _problem(filter, "", DEPTH_MAX)


def plain(filter: Mapping[str, Any]) -> dict[str, Any]:
    """A filter without a problem, as dicts and lists of its own."""
    return {key: _plain(wanted) for key, wanted in filter.items()}


def _problem(value: object, at: str, depth: int) -> tuple[str, str] | None:
    """`depth`: how much deeper it may go."""
    if not depth:
        return "", f"is nested more than {DEPTH_MAX} deep; does it contain itself?"
    if isinstance(value, Mapping):
        for key, part in value.items():
            if not isinstance(key, str):
                return at, f"its keys must be strings, got {type_name(key)} {key!r}"
            if not is_unicode(key):
                return at, f"its key {key!r} is not valid Unicode (a lone surrogate)"
            if found := _problem(part, f"{at}.{key}" if at else key, depth - 1):
                return found
        return None
    if isinstance(value, list):
        return next(filter(None, (_problem(part, at, depth - 1) for part in value)), None)
    if isinstance(value, str):
        return None if is_unicode(value) else (at, f"{value!r} is not valid Unicode (a lone surrogate)")
    if isinstance(value, float):
        infinite = value - value != 0  # neither NaN nor an infinity is JSON
        return (at, f"expected a JSON value, got {value}") if infinite else None
    return (
        None
        if value is None or isinstance(value, int)
        else (at, f"expected a JSON value, got {type_name(value)}")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(part, b[key]) for key, part in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
