"""When a state trigger fires: its `filter` against the value before and after a change. Pure.

A filter is a mapping: every key in it must be in the value with an equal value; a mapping inside is
matched the same way, a list must be equal as a whole. Equality is JSON's: true is not 1, 1 is 1.0,
and a missing key is not null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iii.formats.units import type_name

__all__ = ["fires", "matches", "problem"]


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


def problem(filter: object, at: str = "") -> tuple[str, str] | None:
    """What keeps `filter` from being one, as (path inside it, sentence); None when it is fine."""
    if not isinstance(filter, Mapping):
        return at, f'expected a mapping like {{"status": "done"}}, got {type_name(filter)}'
    for key, wanted in filter.items():
        if not isinstance(key, str):
            return at, f"its keys must be strings, got {type_name(key)} {key!r}"
        inner = f"{at}.{key}" if at else key
        if isinstance(wanted, Mapping):
            if found := problem(wanted, inner):
                return found
        elif not _is_json(wanted):
            return inner, f"expected a JSON value, got {type_name(wanted)}"
    return None


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(part) for key, part in value.items())
    if isinstance(value, float):
        return value - value == 0  # neither NaN nor an infinity
    return value is None or isinstance(value, str | int)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(part, b[key]) for key, part in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
