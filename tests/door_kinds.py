"""What no door lets in, each kind once, and where it lies: the same field is told at every door.

A text is JSON as a client sends it; a value is Python's, as a handler or an embedder gives it. Both lie at
"a.b".
"""

from __future__ import annotations

import enum
import math
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """`field`: whose path the error has; `says`: a word of the reason."""

    content: Any
    says: str
    field: str = "a.b"


def _text(part: str) -> str:
    return f'{{"x": [1, 2.5, null, "http://x:1"], "a": {{"b": {part}, "c": 1}}}}'


def nested(depth: int, inner: Any = 1) -> Any:
    value = inner
    for _ in range(depth):
        value = [value]
    return value


class Colour(enum.Enum):
    RED = "red"


LONG_KEY = "k" * 381

TEXTS = {
    "2^64": Kind(_text("18446744073709551616"), "64 bits"),
    "-2^63 - 1": Kind(_text("-9223372036854775809"), "64 bits"),
    "30 digits": Kind(_text("123456789012345678901234567890"), "64 bits"),
    "5,000 digits": Kind(_text("9" * 5_000), "out of range"),
    "1e400": Kind(_text("1e400"), "out of range"),
    "-1e400": Kind(_text("-1e400"), "out of range"),
    "a big integer in a list": Kind(_text("[1, {}, [18446744073709551616]]"), "64 bits", "a.b.2.0"),
    "a key twice": Kind(_text('{"k": 1, "k": 1}'), "twice", "a.b.k"),
    "a key twice, once escaped": Kind(_text('{"key": 1, "k\\u0065y": 2}'), "twice", "a.b.key"),
    "a key twice beside escaped colons": Kind(_text('{"k": "\\u003a", "k": 2}'), "twice", "a.b.k"),
    "a key twice, blanks before colons": Kind(_text('{"k" : 1, "k"\t: 2}'), "twice", "a.b.k"),
    "a lone surrogate": Kind(_text('"\\ud800"'), "surrogate"),
    "a low surrogate": Kind(_text('"x\\udc00y"'), "surrogate"),
    "201 levels": Kind(_text("[" * 199 + "]" * 199), "deep", "a"),
    "300 levels": Kind(_text("[" * 300 + "]" * 300), "deep", "a"),
    "300 levels of objects": Kind(_text('{"k":' * 300 + "1" + "}" * 300), "deep", "a"),
    "100,000 levels": Kind(_text("[" * 100_000 + "]" * 100_000), "deep", "a"),
}

VALUES = {
    "2^64": Kind(1 << 64, "64 bits"),
    "-2^63 - 1": Kind(-(1 << 63) - 1, "64 bits"),
    "5,000 digits": Kind(10**5_000, "64 bits"),
    "NaN": Kind(math.nan, "NaN"),
    "Infinity": Kind(-math.inf, "NaN"),
    "NaN in a tuple in a set": Kind({(1, math.nan)}, "NaN", "a.b.0.1"),
    '1 and "1"': Kind({1: "x", "1": "y"}, "two keys", "a.b.1"),
    'None and "null"': Kind({None: 1, "null": 2}, "two keys", "a.b.null"),
    'True and "true"': Kind({True: 1, "true": 2}, "two keys", "a.b.true"),
    'an Enum and "red"': Kind({Colour.RED: 1, "red": 2}, "two keys", "a.b.red"),
    "NaN as a key": Kind({math.nan: 1}, "key"),
    "a tuple as a key": Kind({(1, 2): 1}, "key"),
    "2^64 as a key": Kind({1 << 64: 1}, "64 bits"),
    "a lone surrogate": Kind("\ud800", "surrogate"),
    "a lone surrogate as a key": Kind({"\udc00": 1}, "surrogate"),
    "bytes": Kind(b"raw", "no JSON form"),
    "complex": Kind(1j, "no JSON form"),
    "an object": Kind(object(), "no JSON form"),
    "a class": Kind(Colour, "no JSON form"),
    "a generator": Kind((n for n in range(3)), "no JSON form"),
    "300 levels": Kind(nested(300), "deep", "a"),
    "100,000 levels": Kind(nested(100_000), "deep", "a"),
}

KEPT = {
    "the least integer": -(1 << 63),
    "the greatest integer": (1 << 64) - 1,
    "an odd integer beyond 2^53": (1 << 53) + 1,
    "-0.0": -0.0,
    "the greatest float": 1.7976931348623157e308,
    "the least float": 5e-324,
    "a tenth": 0.1,
    "null": None,
    "NUL": "a\0b",
    "every plane": "ä€😀",
    "198 levels": nested(198),
    "an empty key": {"": 1},
    "keys of numbers as texts": {"1": 1, "01": 2, "1.0": 3},
}
"""Each is read back as it was written, whichever door it came in by."""


def whole(part: Any) -> dict[str, Any]:
    """`part` at "a.b"."""
    return {"x": [1, None], "a": {"b": part, "c": 1}}
