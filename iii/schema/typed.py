"""Python types as schemas, checked by msgspec: Struct, dataclass, TypedDict, attrs and the typing vocabulary.

msgspec stops at the first misfit and names the place like `$.metadata[...]`, without the key of a
mapping: `_culprit` searches for it, so that the path reads `metadata.userId`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from iii.errors import Detail, ValidationError
from iii.formats.json_text import SHORT_TEXT
from iii.schema.automaton import refuse_slow_pattern
from iii.schema.validator import (
    Validator,
    dotted,
    misfit,
    not_json,
    parse_json,
    refuse_slow_numbers,
    unsupported,
)
from iii.schema.work import Work, too_much

_AT = re.compile(r"(?P<what>.*?) - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_QUOTED = re.compile(r"`(\w+)`")
_LENGTH = re.compile(r"Expected (\w+) of length (?:(>=|<=) )?(\d+)")
_SEARCHED_MAX = 64 << 10  # bytes: in a longer text the key of a mapping is not searched for
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`")

_BYTES = (msgspec.inspect.BytesType, msgspec.inspect.ByteArrayType, msgspec.inspect.MemoryViewType)
_NUMBERS = (msgspec.inspect.IntType, msgspec.inspect.FloatType, msgspec.inspect.UnionType)
_OBJECT_STEPS, _POST_INIT_STEPS = 20, 10  # of an instance that Python completes, or is called for
_CLASSES = (msgspec.inspect.StructType, msgspec.inspect.DataclassType, msgspec.inspect.NamedTupleType)


class TypeValidator(Validator):
    def __init__(self, schema: Any, lax: bool) -> None:
        self.schema, self.lax = schema, lax
        try:
            self._decode = msgspec.json.Decoder(schema, strict=not lax).decode
            parts = list(_parts(msgspec.inspect.type_info(schema), set()))
        except (TypeError, NameError, ValueError, RecursionError) as error:
            raise unsupported(schema, str(error)) from None
        strangers = [
            p.cls for p in parts if isinstance(p, msgspec.inspect.CustomType) and p.cls is not object
        ]
        if strangers:
            raise unsupported(schema, f"the fields of {strangers[0].__qualname__} are unknown")
        for part in parts:
            if isinstance(part, msgspec.inspect.StrType) and part.pattern is not None:
                refuse_slow_pattern(part.pattern, part.max_length)
        if any(isinstance(part, _BYTES) for part in _loose(msgspec.inspect.type_info(schema))):
            raise unsupported(
                schema, "bytes that lie in no class cannot be stored; make them the field of one, or use str"
            )
        keys = [part.key_type for part in parts if isinstance(part, msgspec.inspect.DictType)]
        self.is_exact = not lax and not any(isinstance(key, _NUMBERS) for key in keys)
        self._complete = any(isinstance(part, msgspec.inspect.DataclassType) for part in parts)
        self._object_steps = _OBJECT_STEPS if self._complete else 0
        if any(hasattr(getattr(part, "cls", None), "__post_init__") for part in parts):
            self._object_steps += _POST_INIT_STEPS

    def validate_json(self, raw: bytes) -> Any:
        if len(raw) > SHORT_TEXT:
            refuse_slow_numbers(raw)
            if self._object_steps:
                self._weigh_objects(raw)
        try:
            value = self._decode(raw)
        except msgspec.ValidationError as error:
            # Where raw is no JSON after the first misfit, that is the news.
            raise self._explained(str(error), parse_json(raw), len(raw)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parse_json(raw)
            raise not_json("cannot be read") from None
        return _completed(value) if self._complete else value

    def _weigh_objects(self, raw: bytes) -> None:
        work = Work(len(raw))
        if raw.count(b"{") * self._object_steps > work.allowed:
            parse_json(raw)  # where it is no JSON, that is the news
            raise too_much(work)

    def validate(self, value: object) -> Any:
        try:
            converted = msgspec.convert(value, self.schema, strict=not self.lax)
        except msgspec.ValidationError as error:
            raise self._explained(str(error), value) from None
        except RecursionError:
            raise not_json("nested too deeply") from None
        return _completed(converted) if self._complete else converted

    def json_schema(self) -> dict[str, Any]:
        return msgspec.json.schema(self.schema, schema_hook=lambda _: {})

    def _explained(self, message: str, value: object, size: int = 0) -> ValidationError:
        """msgspec's message as a Detail, with the place spelt out and the allowed values named."""
        match = _AT.fullmatch(message)
        what = match["what"] if match else message
        search = self._complaint if size <= _SEARCHED_MAX else None
        path = _path(message, match["path"], value, search) if match else []
        if match and match["key"]:
            what = f"one of its keys is wrong: {what}"
        if field := _FIELD.fullmatch(what):
            path.append(field["name"])
            what = "is required" if field["what"] == "missing required" else "unknown field"
        elif what.startswith("Invalid enum value") and (allowed := _allowed(self.json_schema(), path)):
            got = what.removeprefix("Invalid enum value ")
            what = f"expected one of {', '.join(map(str, allowed))}; got {got}"
        return misfit(Detail(dotted(path), _plain(what)))

    def _complaint(self, value: object) -> str:
        """What msgspec says to a value of plain JSON types; "" when it fits (or is none)."""
        try:
            self._decode(msgspec.json.encode(value))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            return str(error)
        return ""


def _parts(
    shape: msgspec.inspect.Type, seen: set[Any], closed: tuple[type[msgspec.inspect.Type], ...] = ()
) -> Iterator[msgspec.inspect.Type]:
    """The type and all types inside it, classes once; what is `closed` is not looked into."""
    yield shape
    if isinstance(shape, closed):
        return
    inner = [getattr(shape, name, None) for name in ("item_type", "key_type", "value_type", "type")]
    inner += [*getattr(shape, "item_types", ()), *getattr(shape, "types", ())]
    cls = getattr(shape, "cls", None)
    if cls not in seen:
        inner += [field.type for field in getattr(shape, "fields", ())]
        seen.add(cls)
    for part in inner:
        if isinstance(part, msgspec.inspect.Type):
            yield from _parts(part, seen, closed)


def _loose(shape: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """The types in `shape` whose values are kept outside of the classes that say what they are."""
    return _parts(shape, set(), _CLASSES)


def _completed(value: Any) -> Any:
    """The defaults of dataclasses, set in the instances: msgspec leaves them to the class, and a value
    that is encoded later would lose them."""
    if dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING and field.name not in value.__dict__:
                object.__setattr__(value, field.name, field.default)
        parts: Iterable[Any] = value.__dict__.values()
    elif isinstance(value, msgspec.Struct):
        parts = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        parts = value.values()
    else:
        parts = value if isinstance(value, list | tuple | set | frozenset) else ()
    for part in parts:
        if type(part) not in _SCALARS:
            _completed(part)
    return value


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


# ---------------------------------------------------------------------------- from message to Detail


def _path(
    message: str, steps: str, value: object, complaint: Callable[[object], str] | None
) -> list[str | int]:
    path: list[str | int] = []
    for step in _STEP.finditer(steps):
        if step["name"] is not None:
            path.append(step["name"])
        elif step["index"] is not None:
            path.append(int(step["index"]))
        elif complaint is not None:
            path += _culprit(message, value, path, complaint)
    return path


def _plain(what: str) -> str:
    """In the words of JSON: "Expected `str`, got `int`" -> "expected string, got integer"."""
    what = _QUOTED.sub(lambda match: _WORDS.get(match[1], match[1]), what)
    length = _LENGTH.fullmatch(what)
    if length:
        kind, bound, count = length.groups()
        unit = {"string": "character", "bytes": "byte"}.get(kind, "item")
        amount = {">=": "at least ", "<=": "at most "}.get(bound, "")
        what = f"Expected {kind} of {amount}{count} {unit}{'' if count == '1' else 's'}"
    return what[:1].lower() + what[1:]


def _allowed(root: dict[str, Any], path: list[str | int]) -> list[Any]:
    """The values that the JSON Schema `root` allows at `path`; [] where it does not say."""
    schemas = _with_options(root, [root])
    for step in path:
        schemas = _with_options(root, [_inside(schema, step) for schema in schemas])
    return [value for schema in schemas for value in schema.get("enum", ())]


def _with_options(root: dict[str, Any], schemas: list[Any]) -> list[dict[str, Any]]:
    """`schemas` and what they refer to or choose from, each once however many ways lead to it."""
    found: dict[int, dict[str, Any]] = {}
    while schemas:
        schema = schemas.pop(0)
        if isinstance(schema, dict) and id(schema) not in found:
            found[id(schema)] = schema
            schemas += schema.get("anyOf", ())
            if "$ref" in schema:
                schemas.append(root["$defs"].get(schema["$ref"].removeprefix("#/$defs/")))
    return list(found.values())


def _inside(schema: dict[str, Any], step: str | int) -> Any:
    if not isinstance(step, int):
        return schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    prefixed = schema.get("prefixItems", ())
    return prefixed[step] if step < len(prefixed) else schema.get("items")


def _culprit(
    message: str, value: object, path: list[str | int], complaint: Callable[[object], str]
) -> list[str | int]:
    """The key (or index) at `path` that the message means by "[...]": [] where it cannot be told.

    msgspec reads in order, so the first n items draw the same complaint exactly when the culprit is
    among them: a binary search for the smallest such n.
    """
    container = _at(value, path)
    if not isinstance(container, dict | list | tuple):
        return []
    keys: list[str | int] = list(container) if isinstance(container, dict) else list(range(len(container)))

    def complains(count: int) -> bool:
        items = list(container.items() if isinstance(container, dict) else container)[:count]
        part = dict(items) if isinstance(container, dict) else items
        return complaint(_with(value, path, part)) == message

    low, high = 1, len(keys)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if complains(middle) else (middle + 1, high)
    return [keys[low - 1]] if keys and complains(low) else []


def _at(value: Any, path: list[str | int]) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _with(value: Any, path: list[str | int], part: object) -> object:
    """A copy of `value` with `part` at `path`."""
    if not path:
        return part
    head, *rest = path
    if isinstance(value, dict):
        return {**value, head: _with(value[head], rest, part)}
    copy = list(value)
    copy[int(head)] = _with(copy[int(head)], rest, part)
    return copy
