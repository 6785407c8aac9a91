"""What a Merge means: a JSON patch applied to a JSON value. Pure; knows no store and no clock.

A patch is an object (a shallow merge at the root) or a list of ops, applied in order:

    {"type": "set",       "path": P, "value": any}       whatever was there
    {"type": "merge",     "path": P, "value": object}    shallow; missing = {}
    {"type": "increment", "path": P, "by": number = 1}   missing = 0; an int stays an int
    {"type": "decrement", "path": P, "by": number = 1}
    {"type": "append",    "path": P, "value": any}       missing = []
    {"type": "remove",    "path": P}                     missing = nothing happens

P is a key, a list of keys (str) and list indexes (int from 0), or "" for the root. Missing parents are
created as objects. null is a value, not a missing one. The result is orjson's compact encoding with the
keys in the order they were first written: a patch that changes nothing gives the bytes it was given.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
import orjson
from msgspec import Meta, Struct

from iii.errors import BadMerge, BadName
from iii.formats.storable import scan

__all__ = ["OPS_MAX", "PATH_DEPTH_MAX", "encode_patch", "evaluate", "merged"]

PATH_DEPTH_MAX = 64
OPS_MAX = 1_000

_Key: TypeAlias = str | Annotated[int, Meta(ge=0)]
_Path: TypeAlias = str | Annotated[list[_Key], Meta(max_length=PATH_DEPTH_MAX)]
_ABSENT = object()
_ROOT = ""


class _Op(Struct, frozen=True, tag_field="type", tag=str.lower, forbid_unknown_fields=True):
    path: _Path


class Set(_Op, frozen=True):
    value: Any


class Merge(_Op, frozen=True):
    value: dict[str, Any]


class Increment(_Op, frozen=True):
    by: int | float = 1


class Decrement(_Op, frozen=True):
    by: int | float = 1


class Append(_Op, frozen=True):
    value: Any


class Remove(_Op, frozen=True):
    pass


_AnyOp: TypeAlias = Set | Merge | Increment | Decrement | Append | Remove
_Patch: TypeAlias = dict[str, Any] | Annotated[list[_AnyOp], Meta(min_length=1, max_length=OPS_MAX)]
_OP_NAMES = "set, merge, increment, decrement, append, remove"
_patches: msgspec.json.Decoder[_Patch] = msgspec.json.Decoder(_Patch)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def evaluate(old: bytes | None, patch: bytes) -> bytes:
    """The value after `patch`; `old` None = there is none yet. BadMerge where the two do not fit."""
    return merged(old, patch)[0]


def merged(old: bytes | None, patch: bytes) -> tuple[bytes, Any]:
    """As `evaluate`: the value encoded, and as what it decodes to."""
    try:
        change = _patches.decode(patch)
    except _DECODE_ERRORS as error:
        raise BadMerge(f"the patch is no patch: {error}") from None
    try:
        holder = {} if old is None else {_ROOT: msgspec.json.decode(old)}
    except _DECODE_ERRORS as error:
        raise BadMerge(f"the stored value is not JSON, nothing can be merged into it: {error}") from None
    if isinstance(change, dict):
        value = holder.setdefault(_ROOT, {})
        if not isinstance(value, dict):
            raise _misfit("merge", [_ROOT], "an object", value)
        value.update(change)
    else:
        for op in change:
            _apply(holder, op)
    try:
        value = holder.get(_ROOT, {})
        return orjson.dumps(value), value
    except TypeError as error:  # an integer over 64 bits, or nested too deeply
        raise BadMerge(f"the result cannot be stored as JSON: {error}") from None


def encode_patch(patch: object) -> bytes:
    """The patch as a Merge carries it. BadName where it is no patch at all, whatever it meets later."""
    if not isinstance(patch, dict | list | tuple):
        raise _no_patch(
            f"a patch is an object (a partial value) or a list of ops, not {type(patch).__name__}: "
            'state.update(ns, key, {"status": "done"}) or [{"type": "increment", "path": "count"}]',
            patch,
        )
    try:
        encoded = orjson.dumps(patch, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        change = _patches.decode(encoded)
    except (TypeError, *_DECODE_ERRORS) as error:
        raise _no_patch(f"bad patch: {error} (ops: {_OP_NAMES})", patch) from None
    if b"null" in encoded and (fault := scan(patch)) is not None:
        raise _no_patch(f"bad patch: {fault.reason}, at $.{fault.field}", patch)
    if not isinstance(change, dict) and any(isinstance(op, Remove) and not _steps(op.path) for op in change):
        raise _no_patch(
            "bad patch: remove needs a path; state.delete(ns, key) removes the whole value", patch
        )
    return encoded


def _no_patch(message: str, patch: object) -> BadName:
    return BadName(message, field="patch", given=patch)


def _apply(holder: dict[str, Any], op: _AnyOp) -> None:
    path = [_ROOT, *_steps(op.path)]
    match op:
        case Set():
            parent = _parent(holder, path)
            _write(parent, path, op.value)
        case Merge():
            _merge(holder, path, op.value)
        case Increment():
            _add(holder, path, op.by)
        case Decrement():
            _add(holder, path, -op.by)
        case Append():
            _append(holder, path, op.value)
        case Remove():
            _remove(holder, path)


def _steps(path: str | list[str | int]) -> list[str | int]:
    if isinstance(path, str):
        return [path] if path else []
    return path


def _merge(holder: dict[str, Any], path: list[Any], value: dict[str, Any]) -> None:
    parent = _parent(holder, path)
    target = _read(parent, path)
    if target is _ABSENT:
        _write(parent, path, value)
    elif isinstance(target, dict):
        target.update(value)
    else:
        raise _misfit("merge", path, "an object", target)


def _add(holder: dict[str, Any], path: list[Any], by: int | float) -> None:
    parent = _parent(holder, path)
    target = _read(parent, path)
    number = 0 if target is _ABSENT else target
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _misfit("increment", path, "a number", number)
    try:
        total = number + by
    except OverflowError:
        total = float("inf")
    if isinstance(total, float) and not -float("inf") < total < float("inf"):
        raise BadMerge(f"increment of {_shown(path)} by {by} leaves the range of a float")
    if isinstance(total, int) and not -(1 << 63) <= total < 1 << 64:
        raise BadMerge(f"increment of {_shown(path)} by {by} gives {total}, an integer over 64 bits")
    _write(parent, path, total)


def _append(holder: dict[str, Any], path: list[Any], value: Any) -> None:
    parent = _parent(holder, path)
    target = _read(parent, path)
    if target is _ABSENT:
        _write(parent, path, [value])
    elif isinstance(target, list):
        target.append(value)
    else:
        raise _misfit("append", path, "a list", target)


def _remove(holder: dict[str, Any], path: list[Any]) -> None:
    if len(path) == 1:
        raise BadMerge("remove needs a path; a Delete removes the whole value")
    parent: Any = holder
    for depth in range(1, len(path)):
        parent = _read(parent, path[:depth])
        if parent is _ABSENT:
            return
    if _read(parent, path) is not _ABSENT:
        del parent[path[-1]]


def _parent(holder: dict[str, Any], path: list[Any]) -> Any:
    """What holds the last key of `path`; missing parents are created."""
    node: Any = holder
    for depth in range(1, len(path)):
        child = _read(node, path[:depth])
        if child is _ABSENT:
            child = {}
            _write(node, path[:depth], child)
        node = child
    return node


def _read(node: Any, path: list[Any]) -> Any:
    """What `node` holds under the last key of `path`, or _ABSENT; BadMerge where it can hold no such key."""
    key = path[-1]
    if isinstance(key, str):
        if not isinstance(node, dict):
            raise _misfit(f"the key {key!r:.60}", path[:-1], "an object", node)
        return node.get(key, _ABSENT)
    if not isinstance(node, list):
        raise _misfit(f"the index {key}", path[:-1], "a list", node)
    return node[key] if key < len(node) else _ABSENT


def _write(node: Any, path: list[Any], value: Any) -> None:
    """Set the last key of `path` in the node that _read has been asked about."""
    key = path[-1]
    _read(node, path)
    if isinstance(key, int) and key >= len(node):
        raise BadMerge(
            f"no index {key} in the list of {len(node)} at {_shown(path[:-1])}; append adds to a list"
        )
    node[key] = value


def _misfit(what: str, path: list[Any], wanted: str, found: Any) -> BadMerge:
    return BadMerge(f"{what} needs {wanted} at {_shown(path)}, which is {_kind(found)}")


def _shown(path: list[Any]) -> str:
    return f"{'.'.join(map(str, path[1:])) or 'the root':.100}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return "a string"
    return "a number"
