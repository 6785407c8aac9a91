"""JSON text from outside: read only where all of it can be stored as it stands. Knows no store and no schema.

Every door that takes text comes here: HTTP bodies, the command line, the console. Refused with the field,
beside what is no JSON: integers beyond 64 bits (orjson reads them as floats), a key that an object has twice
(readers keep one of the values), more than DEPTH_MAX levels. Handlers write some levels more
(storable.DEPTH_MAX): what came in can be wrapped.

Cheap where nothing is wrong: what was read is written again, by orjson, which refuses what cannot be stored;
and the text has as many colons as what was read, unless a member was lost.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import Any

import msgspec
import orjson

from iii.errors import Detail, Fault, ValidationError
from iii.formats import codec, storable
from iii.formats.storable import TOO_DEEP, find, scan

__all__ = [
    "DEPTH_MAX",
    "NOT_JSON",
    "REFUSED",
    "SHORT_TEXT",
    "SLOW_NUMBERS_MAX",
    "decode",
    "parse",
    "refuse_slow_numbers",
]

DEPTH_MAX = 200

NOT_JSON = "invalid JSON"
REFUSED = "validation failed"

SLOW_NUMBERS_MAX = 1000
SHORT_TEXT = 8192
"""Bytes that cannot hold many of them: no need to look."""
_SLOW = re.compile(
    rb"[\[,:\s]-?(?:[0-9][0-9.]*[eE][+-]?0*[2-9][0-9][0-9]|[0-9]{20}[0-9]*)(?=[\s,\]}])"
    rb"|\"-?[0-9]{20}[0-9]*\":"
)

_WRITTEN_MAX = 20  # characters of an integer that may fit in 64 bits
_PATH_STEPS_MAX = 50
_TOKENS = re.compile(rb'[\[\]{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Brackets and texts; a text that does not end is one, too, and so each byte is looked at once."""


class _Doubled(dict[str, Any]):
    """An object that the text gives `key` twice."""

    key = ""


def parse(raw: bytes, depth_max: int = DEPTH_MAX) -> Any:
    """The value of `raw`, all of which can be stored. ValidationError names the field that cannot."""
    value = decode(raw)
    try:
        if len(raw) > 2 * depth_max and raw.count(b"[") + raw.count(b"{") > depth_max:
            encoded = orjson.dumps(_wrapped(value, depth_max))
        else:
            encoded = orjson.dumps(value)
    except TypeError:
        raise _refused(scan(value, depth_max) or Fault((), "cannot be stored")) from None
    if raw.count(b":") != encoded.count(b":") or raw.find(b"\\u003") >= 0:  # a colon may be written \u003a
        _refuse_doubled(raw)
    return value


def decode(raw: bytes) -> Any:
    """The value of `raw`. ValidationError for what is no JSON, no UTF-8, or has numbers out of range."""
    refuse_slow_numbers(raw)
    try:
        return codec.decode_exactly(raw)
    except msgspec.ValidationError:
        raise _refused(_out_of_range(raw)) from None
    except msgspec.MsgspecError as error:
        problem = str(error).removeprefix("JSON is malformed: ")
        raise _not_json(_surrogate(raw) or Fault((), problem)) from None
    except UnicodeDecodeError:
        raise _not_json(Fault((), "is not UTF-8")) from None
    except RecursionError:
        raise _refused(Fault(_deep_at(raw), TOO_DEEP)) from None


def refuse_slow_numbers(raw: bytes) -> None:
    """ValidationError for a long text with many numbers that take longer than others: msgspec needs up to
    18 us for one near the ends of what a float holds (1e308), three seconds for a MiB of them; and beyond
    64 bits integers can be chosen that fall on one another in a set."""
    if len(raw) > SHORT_TEXT and next(islice(_SLOW.finditer(raw), SLOW_NUMBERS_MAX, None), None):
        problem = (
            f"more than {SLOW_NUMBERS_MAX:,} numbers beyond 64 bits, or with exponents of 200 or more; "
            "send fewer at once"
        )
        raise _not_json(Fault((), problem))


def _wrapped(value: object, depth_max: int) -> object:
    """`value` so deep inside that orjson refuses it where it has more than `depth_max` levels of its own."""
    for _ in range(storable.DEPTH_MAX - depth_max):
        value = [value]
    return value


def _deep_at(raw: bytes) -> tuple[str | int, ...]:
    """The field that is too deep for the readers; () where the whole is a list."""
    depth, key = 0, b""
    for match in _TOKENS.finditer(raw):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                break
        elif token in b"]}":
            depth -= 1
        elif depth == 1:
            key = token
    if not key or raw.lstrip()[:1] != b"{":
        return ()
    return (key[1:-1].decode(errors="replace"),)


def _refuse_doubled(raw: bytes) -> None:
    doubled: list[_Doubled] = []

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        doubled.append(_Doubled(found))
        counts = Counter(key for key, _ in pairs)
        doubled[-1].key = next(key for key in counts if counts[key] > 1)
        return doubled[-1]

    value = codec.uncollected(lambda raw: json.loads(raw, object_pairs_hook=made), raw)
    if doubled:
        path = find(value, lambda part: part is doubled[0])
        raise _refused(Fault((*path, doubled[0].key), "is there twice, and one value would be lost"))


def _out_of_range(raw: bytes) -> Fault:
    """The number that no machine has: its text is JSON all the same, unless the rest is not."""
    try:
        value = codec.uncollected(lambda raw: json.loads(raw, parse_int=_whole), raw)
    except (ValueError, RecursionError):
        return Fault((), "number out of range")
    fault = scan(value)
    return Fault(fault.path if fault is not None else (), "number out of range")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _WRITTEN_MAX else float("inf")


def _surrogate(raw: bytes) -> Fault | None:
    """The half of a pair that stands alone in a text, where that is what is wrong."""
    if raw.find(b"\\u") < 0:
        return None
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in str(error):
            return None
    return Fault(_surrogate_at(raw), storable.SURROGATE)


def _surrogate_at(raw: bytes) -> tuple[str | int, ...]:
    """Where it is, if the rest is JSON: Python's reader lets it in."""
    try:
        return find(codec.uncollected(json.loads, raw), _has_surrogate)
    except (ValueError, RecursionError):
        return ()


def _has_surrogate(part: object) -> bool:
    if type(part) is dict:
        return any(map(_has_surrogate, part))
    if type(part) is not str or part.isascii():
        return False
    return any("\ud800" <= character <= "\udfff" for character in part)


def _not_json(fault: Fault) -> ValidationError:
    return ValidationError(NOT_JSON, (_detail(fault),))


def _refused(fault: Fault) -> ValidationError:
    if fault.reason == TOO_DEEP:
        return _not_json(Fault(fault.path[:1], f"{TOO_DEEP}, over {DEPTH_MAX} levels"))
    return ValidationError(REFUSED, (_detail(fault),))


def _detail(fault: Fault) -> Detail:
    return Detail(".".join(map(str, fault.path[:_PATH_STEPS_MAX])), fault.reason)
