"""JSON in and out of payloads, state values and HTTP bodies. Knows no store and no schema.

What can be stored, and as what, storable.py says; here the most of it goes straight through orjson, which
writes plain values as they are and refuses keys that are no strings, integers beyond 64 bits and what is
nested too deeply. What it refuses is looked at again, part by part.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import orjson

from iii.errors import Fault
from iii.formats.storable import form, plain, refused, scan

__all__ = ["decode", "decode_exactly", "encode", "uncollected"]

LARGE_BYTES = 64 << 10

T = TypeVar("T")

decode = orjson.loads

_AS_WE_SAY = orjson.OPT_PASSTHROUGH_DATACLASS  # orjson itself leaves out fields that begin with "_"


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
    """`value` as compact JSON. StepError says what of it cannot be stored, and where (`fault`)."""
    try:
        encoded = orjson.dumps(value, _form, _AS_WE_SAY)
    except TypeError:
        return _encode_in_parts(value)
    if encoded.find(b"null") >= 0:  # `in` takes half as long again
        fault = scan(value)  # NaN and Infinity become null, as None does
        if fault is not None:
            raise refused(value, fault)
    return encoded


def _encode_in_parts(value: object) -> bytes:
    made = plain(value)
    try:
        return orjson.dumps(made)
    except TypeError as error:
        raise refused(value, Fault((), str(error))) from None


def _form(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, enc_hook=form)
    return form(value)
