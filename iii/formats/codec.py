"""JSON in and out of payloads, state values and HTTP bodies. Knows no store and no schema.

Beside what orjson takes itself (datetime, dataclass, Enum, UUID), msgspec Structs, pydantic models, sets,
Decimal and paths are encoded. What JSON cannot say (NaN, bytes, an open file) is refused with its path.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import orjson

from iii.errors import StepError

__all__ = ["decode", "decode_exactly", "encode", "uncollected"]

LARGE_BYTES = 64 << 10

T = TypeVar("T")

decode = orjson.loads


def decode_exactly(raw: bytes) -> Any:
    """As `decode`, but integers keep every digit. msgspec's errors, UnicodeDecodeError, RecursionError."""
    return _exactly(raw) if len(raw) < LARGE_BYTES else uncollected(_exactly, raw)


def uncollected(call: Callable[[bytes], T], raw: bytes) -> T:
    """`call(raw)` while the cyclic collector stands still: it finds no cycles in what JSON decodes to, and
    to look through half a million new lists takes four times as long as to make them."""
    if not gc.isenabled():
        return call(raw)
    gc.disable()
    try:
        return call(raw)
    finally:
        gc.enable()


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("Number out of range")
    return number


_exactly = msgspec.json.Decoder(float_hook=_finite).decode
"""msgspec's own reader of floats takes 20 µs for some; Python's takes a third of one for any."""


def encode(value: object) -> bytes:
    """`value` as compact JSON. StepError says what of it is no JSON."""
    try:
        encoded = orjson.dumps(value, _plain)
    except TypeError:
        encoded = _encode_unusual(value)
    if encoded.find(b"null") >= 0 and (path := _find_not_finite(value)):  # `in` takes half as long again
        raise StepError(f"NaN and Infinity are not JSON, at {path}: use None or leave it out")
    return encoded


def _encode_unusual(value: object) -> bytes:
    """Keys that are no strings (written as strings), else the reason why not."""
    try:
        return orjson.dumps(value, _plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError) as error:
        cause = error.__cause__ or error
        raise StepError(
            f"this {type(value).__name__} is not JSON: {cause}; use str, int (64 bits), float, bool, None, "
            "list, dict, datetime, a dataclass, a msgspec Struct or a pydantic model"
        ) from None


def _plain(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, builtin_types=_NATIVE, str_keys=True, enc_hook=_plain)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Decimal | os.PathLike):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_NATIVE: tuple[type, ...] = ()


def _find_not_finite(value: object, path: str = "$") -> str | None:
    """The path of the first NaN or Infinity, which orjson would write as null."""
    if isinstance(value, float):
        return None if -float("inf") < value < float("inf") else path
    for step, child in _children(value):
        if at := _find_not_finite(child, path + step):
            return at
    return None


def _children(value: object) -> Iterator[tuple[str, object]]:
    """(path from `value`, part) of everything that holds parts."""
    if isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{n}]", child) for n, child in enumerate(value))
        return
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, msgspec.Struct):
        parts = ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value):
        parts = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif callable(dump := getattr(value, "model_dump", None)):
        parts = dump().items()
    yield from ((f".{name}", child) for name, child in parts)
