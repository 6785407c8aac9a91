"""When two JSON values are equal (JSON Schema §4.2.2: 1 and 1.0 are, true and 1 are not, objects by content),
told by keys, so that n values are compared in n steps.

A key is a str or bytes: Python salts the hashes of those, so nobody can send values whose keys collide. The
hashes of numbers are known to all, and all multiples of 2**61 - 1 have the same one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from iii.schema.work import Work

__all__ = ["all_unique", "key"]

_EXACT = 1 << 53  # below it each integer is a float
# What may be written in two ways, looked for in the whole text: found in a string it costs time only.
_TWO_WAYS = re.compile(rb"\d[.eE]|\d{16}|-0")
_BYTES_A_STEP = 8
_encode = msgspec.json.Encoder(order="sorted").encode


def key(value: Any, work: Work) -> str | bytes:
    """Equal for equal values, and for no others."""
    if type(value) is str:
        work.spend(1 + len(value) // 64)
        return value
    encoded = _encode(value)
    work.spend(8 + len(encoded) // _BYTES_A_STEP)
    if _TWO_WAYS.search(encoded):
        work.spend(20 + len(encoded))
        encoded = _encode(_one_way(value))
    return encoded


def all_unique(values: list[Any], work: Work) -> bool:
    work.spend(8 + len(values))
    kinds = set(map(type, values))
    if kinds <= {str} or (kinds == {int} and min(values) > -_EXACT and max(values) < _EXACT):
        return len(set(values)) == len(values)
    seen: set[str | bytes] = set()
    for value in values:
        found = key(value, work)
        if found in seen:
            return False
        seen.add(found)
    return True


def _one_way(value: Any) -> Any:
    """`value` with each number in the one form that all numbers equal to it take."""
    if isinstance(value, dict):
        return {name: _one_way(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_one_way(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if -_EXACT < value < _EXACT:
        return int(value) if value == int(value) else value
    try:
        near = float(value)
    except OverflowError:
        return value
    return near if near == value else value
