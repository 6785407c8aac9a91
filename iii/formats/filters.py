"""When a state trigger fires: its `filter` against the value before and after a change. Pure.

A filter is a mapping: every key in it must be in the value with an equal value; a mapping inside is
matched the same way, a list must be equal as a whole. Equality is JSON's: true is not 1, 1 is 1.0,
and a missing key is not null.

A filter is turned into closures once and then asked about every change. The values it is asked about are
what JSON decodes to, so their types are exactly dict, list, str, int, float, bool or None's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Any, Protocol, TypeAlias

from iii.formats.units import is_unicode, type_name

__all__ = ["Firing", "Matcher", "Values", "doubts", "firing", "matcher", "plain", "problem"]

DEPTH_MAX = 64
CONDITION = "a filter compares with equal values alone; decide the rest in condition=lambda change, ctx: …"
_COMPARES = frozenset(
    ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists", "regex", "mod", "between")
)
_COMBINES = frozenset(("and", "or", "not", "nor"))
_OPERATORS = frozenset(
    ("$" + each) for each in (*_COMPARES, *_COMBINES, "all", "elemMatch", "expr", "where", "contains")
)
_SIGNS = frozenset(("=", "==", "!=", "<>", ">", ">=", "<", "<="))
_SUFFIX = re.compile(
    r".+__(?:eq|ne|gte?|lte?|in|not|i?exact|i?contains|i?startswith|i?endswith|isnull|range|i?regex)"
)
_PATH = re.compile(r"\w+(?:\.\w+|\[\w+\])+")
_MISSING = object()


class Values(Protocol):
    """A decoded value before and after a change, each read only where it matters; None = absent."""

    @property
    def old(self) -> object: ...
    @property
    def new(self) -> object: ...


Matcher: TypeAlias = Callable[[object], bool]
"""Whether a decoded value is as wanted."""

Firing: TypeAlias = Callable[[Values], bool]
"""Whether a change starts the step."""


def firing(filter: Mapping[str, Any], fire: str) -> Firing:
    """`fire`: "enter", where the new value matches and the old did not; "every", where the new one does."""
    matches = matcher(filter)
    if fire == "every":
        return lambda values: matches(values.new)
    return lambda values: matches(values.new) and not matches(values.old)


def matcher(filter: Mapping[str, Any]) -> Matcher:
    """Whether a value has everything that `filter`, which has no problem, asks for."""
    asked = [
        (key, matcher(wanted) if isinstance(wanted, Mapping) else _equals(wanted))
        for key, wanted in filter.items()
    ]

    def matches(value: object) -> bool:
        if type(value) is not dict:
            return False
        for key, is_wanted in asked:  # noqa: SIM110 (a generator costs more than the whole answer)
            if not is_wanted(value.get(key, _MISSING)):
                return False
        return True

    return matches


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
            if key in _OPERATORS or key.startswith(("$.", "$[")):
                what = "operator" if key in _OPERATORS else "path"
                return _under(at, key), f"there are no {what}s here: {CONDITION}"
            if found := _problem(part, _under(at, key), depth - 1):
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
        else (at, f"expected a JSON value, got {_type_name(value)}")
    )


def doubts(filter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What of a filter without a problem is probably not meant as it is taken, as `problem` tells it."""
    return _doubts(filter, "")


def _doubts(value: object, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for part in value:
            yield from _doubts(part, at)
    if not isinstance(value, Mapping):
        return
    if at and value and value.keys() <= _COMPARES | _SIGNS:
        yield at, f"is taken for a value that has {_listed(value)}: {CONDITION}"
        return
    for key, part in value.items():
        where = _under(at, key)
        if key.startswith("$") or _SUFFIX.fullmatch(key) or (key in _COMBINES and not _is_plain(part)):
            yield where, f'is taken for the name "{key}": {CONDITION}'
        elif _PATH.fullmatch(key):
            names = re.findall(r"\w+", key)
            nested = "".join(f'{{"{name}": ' for name in names) + "…" + "}" * len(names)
            remedy = CONDITION if any(map(str.isdigit, names)) else f"to look into a value write {nested}"
            yield where, f'is taken for the one name "{key}": {remedy}'
        yield from _doubts(part, where)


def _is_plain(value: object) -> bool:
    return not isinstance(value, Mapping | list)


def _listed(value: Mapping[str, Any]) -> str:
    return " and ".join(f'"{key}"' for key in value)


def _type_name(value: object) -> str:
    return "tuple (write a list)" if isinstance(value, tuple) else type_name(value)


def _under(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _equals(wanted: Any) -> Matcher:
    """Whether a value is `wanted` as a whole."""
    if isinstance(wanted, Mapping):
        values = {key: _equals(part) for key, part in wanted.items()}
        return lambda found: (
            type(found) is dict
            and found.keys() == values.keys()
            and all(equals(found[key]) for key, equals in values.items())
        )
    if isinstance(wanted, list):
        parts = [_equals(part) for part in wanted]
        return lambda found: (
            type(found) is list
            and len(found) == len(parts)
            and all(equals(part) for equals, part in zip(parts, found, strict=True))
        )
    types = _types(wanted)
    return lambda found: type(found) in types and found == wanted


def _types(wanted: object) -> tuple[type, ...]:
    """What a value that equals this one may be; Python alone would call true and 1 equal."""
    if isinstance(wanted, bool):
        return (bool,)
    if isinstance(wanted, int | float):
        return (int, float)
    return (str,) if isinstance(wanted, str) else (NoneType,)
