"""What can be stored, sent and answered: the one rule behind every door. Knows no store, schema or HTTP.

    null, bool, str             str: of valid Unicode
    int                         -2^63 to 2^64-1
    float                       finite
    list, tuple, set            an array
    dict, Mapping               an object; int, float, bool, None, date, UUID and Enum keys as text, each once
    dataclass, msgspec Struct,  what their fields are; bytes inside as base64, as msgspec reads them back
    attrs, NamedTuple, pydantic
    datetime, date, time,       text (ISO 8601, decimal digits, a path)
    timedelta, UUID, Decimal, Path, IP address, URL
    Enum                        its value

At most DEPTH_MAX levels. All else is refused: nothing is rounded, shortened or dropped. `plain` is the rule
in full and slow; codec.py says the same with orjson for what needs no change.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import ipaddress
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import orjson

from iii.errors import Fault, StepError

__all__ = ["DEPTH_MAX", "TOO_DEEP", "depth_of", "find", "form", "plain", "refused", "scan"]

DEPTH_MAX = 254
"""What orjson writes."""

INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
_INF = float("inf")
_SHOWN_BITS = 256

TOO_DEEP = "nested too deeply"
NOT_FINITE = "NaN and Infinity are not JSON: use None or leave it out"
SURROGATE = "a lone surrogate, which no text has"

Path: TypeAlias = list[str | int]
_TEXTS = (Decimal, os.PathLike, ipaddress._BaseAddress, ipaddress._BaseNetwork)
_DATES = (date, time)  # a datetime is a date


def refused(value: object, fault: Fault) -> StepError:
    """The error of who gave `value`."""
    place = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault.path)
    error = StepError(f"this {type(value).__name__} is not JSON: {fault.reason}, at {place:.200}")
    error.fault, error.field = fault, fault.field
    return error


class _Found(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def scan(value: object, depth_max: int = DEPTH_MAX) -> Fault | None:
    """What of `value` cannot be stored; None where all can. Its keys are known to be texts. Quick where it is
    made of JSON's own types."""
    path: Path = []
    stack: list[Iterator[tuple[Any, Any]]] = [iter(((None, value),))]
    while stack:
        for key, child in stack[-1]:
            kind = type(child)
            if kind is str or child is None or kind is bool:
                continue
            if kind is int:
                if INT_MIN <= child <= INT_MAX:
                    continue
            elif kind is float:
                if -_INF < child < _INF:
                    continue
            elif (kind is dict or kind is list or kind is tuple) and len(stack) <= depth_max:
                if not child:
                    continue
                path.append(key)
                stack.append(iter(child.items()) if kind is dict else enumerate(child))
                break
            elif (dumped := _dumped(child)) is not None and len(stack) <= depth_max:
                path.append(key)
                stack.append(iter(dumped.items()))
                break
            if (fault := _fault([*path, key][1:], child, depth_max)) is not None:
                return fault
        else:
            stack.pop()
            if path:
                path.pop()
    return None


def find(value: object, wrong: Callable[[object], bool]) -> tuple[str | int, ...]:
    """The path of the first part of a decoded JSON value that is `wrong`; () where none is."""
    path: Path = []
    stack: list[Iterator[tuple[Any, Any]]] = [iter(((None, value),))]
    while stack:
        for key, child in stack[-1]:
            if wrong(child):
                return tuple([*path, key][1:])
            if isinstance(child, dict | list):
                path.append(key)
                stack.append(iter(child.items()) if isinstance(child, dict) else enumerate(child))
                break
        else:
            stack.pop()
            if path:
                path.pop()
    return ()


def depth_of(value: object) -> int:
    """How many levels a decoded JSON value has."""
    deepest, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        deepest += 1
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
    return deepest


def _fault(path: Path, value: object, depth_max: int) -> Fault | None:
    try:
        _walk(value, path, 0, depth_max)
    except _Found as found:
        return found.fault
    except RecursionError:
        return Fault(tuple(path[:1]), TOO_DEEP)
    return None


def plain(value: object) -> Any:
    """`value` made of what orjson writes as it is. StepError names the first part that cannot be stored."""
    try:
        return _walk(value, [], 0, DEPTH_MAX)
    except _Found as found:
        raise refused(value, found.fault) from None
    except RecursionError:
        raise refused(value, Fault((), TOO_DEEP)) from None


def _refuse(path: Path, reason: str, given: object = None, *, is_type: bool = False) -> _Found:
    return _Found(Fault(tuple(path), reason, given, is_type))


def _walk(value: Any, path: Path, packed: int, depth_max: int) -> Any:
    """packed: in what it lies, see is_packed."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, path)
    if isinstance(value, enum.Enum):
        return _walk(value.value, path, packed, depth_max)
    if isinstance(value, int):
        return _int(int(value), path)
    if isinstance(value, float):
        if not -_INF < value < _INF:
            raise _refuse(path, NOT_FINITE, float(value))
        return float(value)
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, _DATES):
        return msgspec.to_builtins(value) if packed == 2 or isinstance(value, time) else value
    if isinstance(value, UUID):
        return value
    if isinstance(value, bytes | bytearray | memoryview) and packed:
        return base64.b64encode(value).decode()
    try:
        parts = form(value)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise _refuse(path, reason, is_type=True) from None
    if not isinstance(parts, dict | list):
        return _walk(parts, path, packed, depth_max)
    if len(path) >= depth_max:
        raise _refuse(path[:1], TOO_DEEP)
    packed = max(packed, is_packed(value))
    if isinstance(parts, dict):
        return _object(value, parts, path, packed, depth_max)
    return [_walk(child, [*path, n], packed, depth_max) for n, child in enumerate(parts)]


def _object(value: object, parts: dict[Any, Any], path: Path, packed: int, depth_max: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    attributes = _attributes(type(value)) if isinstance(value, msgspec.Struct) else {}
    for key, child in parts.items():
        name = _name(key, path)
        if name in made:
            raise _refuse([*path, name], f"two keys are {name!r:.60} in JSON, and one value would be lost")
        made[name] = _walk(child, [*path, attributes.get(name, name)], packed, depth_max)
    return made


def _name(key: Any, path: Path) -> str:
    """A key as JSON has it."""
    if isinstance(key, enum.Enum):
        return _name(key.value, path)
    if isinstance(key, str):
        return _text(str.__str__(key), path)
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, int):
        return str(_int(int(key), path))
    if isinstance(key, float):
        if not -_INF < key < _INF:
            raise _refuse(path, f"the key {key} is not JSON", float(key))
        return orjson.dumps(float(key)).decode()
    if isinstance(key, UUID | date | time):
        return str(msgspec.to_builtins(key)) if isinstance(key, time) else orjson.dumps(key)[1:-1].decode()
    raise _refuse(path, f"a key of type {type(key).__name__} has no JSON form", is_type=True)


def _text(text: str, path: Path) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _refuse(path, SURROGATE, text) from None
    return text


def _int(number: int, path: Path) -> int:
    if INT_MIN <= number <= INT_MAX:
        return number
    shown = str(number) if number.bit_length() <= _SHOWN_BITS else f"one of {number.bit_length()} bits"
    raise _refuse(path, f"an integer beyond 64 bits ({shown}): send it as a string", number)


# ------------------------------------------------------------------------------ one level of a value


def form(value: Any) -> Any:
    """A value of a type that JSON has not, as what stands for it: mostly a text, a list or a dict, and of
    those this level alone. TypeError where nothing does."""
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json", by_alias=True)
    if (of_pydantic := getattr(type(value), "__pydantic_serializer__", None)) is not None:
        return of_pydantic.to_python(value, mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value, (field.name for field in dataclasses.fields(value)))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(value)
    if isinstance(value, timedelta | time):
        return str(msgspec.to_builtins(value))
    if isinstance(value, _TEXTS):
        return str(value)
    if attributes := getattr(type(value), "__attrs_attrs__", None):
        return _fields(value, (each.name for each in attributes))
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(bytes(value))
    if type(value).__module__.startswith(("pydantic.networks", "pydantic_core")) and hasattr(value, "host"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _dumped(value: object) -> dict[str, Any] | None:
    """A pydantic model as an object; what fails at it is told of later."""
    if not callable(getattr(value, "model_dump", None)) or isinstance(value, type):
        return None
    try:
        dumped = form(value)
    except Exception:
        return None
    return dumped if isinstance(dumped, dict) else None


def is_packed(value: object) -> int:
    """2 in a Struct, all of which msgspec writes; 1 in others that say of which types their parts are; 0."""
    if isinstance(value, msgspec.Struct):
        return 2
    is_tuple = isinstance(value, tuple) and hasattr(type(value), "_fields")
    return int(is_tuple or dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__"))


@lru_cache(maxsize=1024)
def _attributes(cls: type[msgspec.Struct]) -> dict[str, str]:
    """How its renamed fields are called in Python, where the paths of errors are read."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(cls)}


def _fields(value: object, names: Iterable[str]) -> dict[Any, Any]:
    parts = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return {name: part for name, part in parts.items() if part is not msgspec.UNSET}


def _struct(value: msgspec.Struct) -> list[Any] | dict[Any, Any]:
    config, cls = value.__struct_config__, type(value)
    tag = [] if config.tag is None else [(config.tag_field, config.tag)]
    if config.array_like:
        return [each for _, each in tag] + [getattr(value, name) for name in cls.__struct_fields__]
    parts: dict[Any, Any] = dict(tag)
    for field in msgspec.structs.fields(cls):
        part = getattr(value, field.name)
        if part is msgspec.UNSET or (config.omit_defaults and _is_default(part, field)):
            continue
        parts[field.encode_name] = part
    return parts


def _is_default(part: object, field: msgspec.structs.FieldInfo) -> bool:
    if part is field.default:
        return True
    factory = field.default_factory
    return factory in (list, dict, set) and type(part) is factory and not part
