"""What pydantic runs of Python's for one value, in steps of 0.1 µs, told from a type's core schema:
validators that others wrote, and pydantic's own that are written in Python (enums, addresses, paths)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["letter_steps", "object_steps", "steps"]

_FUNCTION = 20
_OF_PYDANTIC = 60
_DEAR = {"import_string": 700, "validate_str_is_valid_iana_tz": 500, "pattern_either_validator": 300,
         "EmailStr._validate": 300, "NameEmail._validate": 300}  # fmt: skip
_PATTERN_LETTER = 20  # re.compile, for each character of what it is given
_KINDS = {"enum": 50, "fraction": 60, "url": 20, "multi-host-url": 30, "is-instance": 10, "is-subclass": 10,
          "callable": 10, "call": _FUNCTION, "decimal": 8, "complex": 8, "date": 4, "datetime": 4, "time": 4,
          "timedelta": 4, "uuid": 6}  # fmt: skip
_INSIDE = ("model-fields", "typed-dict", "dataclass-args", "list", "tuple", "set", "frozenset", "dict")
_OBJECTS = ("model", "dataclass")
_CHEAP = (list, dict, set, tuple, frozenset)


def steps(core: Any, definitions: Mapping[str, Any], above: frozenset[str] = frozenset()) -> int:
    """Of a value at this place, without what lies inside it and without what only objects go through."""
    if not isinstance(core, Mapping) or core.get("type") in _INSIDE or _is_of_object(core):
        return 0
    if core.get("type") == "definition-ref":
        name = core["schema_ref"]
        return 0 if name in above else steps(definitions.get(name), definitions, above | {name})
    if core.get("type") == "union":
        choices = [each[0] if isinstance(each, tuple) else each for each in core["choices"]]
        return sum(steps(each, definitions, above) for each in choices)
    if core.get("type") == "chain":
        return sum(steps(each, definitions, above) for each in core["steps"])
    tagged = core.get("choices")
    inner: list[Any] = list(tagged.values()) if isinstance(tagged, Mapping) else []
    inner += [part for name, part in core.items() if name == "schema" or name.endswith("_schema")]
    return _own(core) + max((steps(each, definitions, above) for each in inner), default=0)


def object_steps(core: Mapping[str, Any]) -> int:
    """Of an object that this schema is the whole of."""
    return _own(core) if _is_of_object(core) else 0


def _is_of_object(core: Mapping[str, Any]) -> bool:
    inner = core
    while isinstance(inner, Mapping) and inner.get("type") == "function-after":
        inner = inner["schema"]
    return isinstance(inner, Mapping) and inner.get("type") in _OBJECTS


def letter_steps(core: Mapping[str, Any]) -> float:
    return _PATTERN_LETTER if _name(core) == "pattern_either_validator" else 0.0


def _own(core: Mapping[str, Any]) -> int:
    kind = str(core.get("type"))
    if kind.startswith("function-"):
        module = getattr(_function(core), "__module__", None) or ""
        return _DEAR.get(
            _name(core), _OF_PYDANTIC if module.startswith(("pydantic", "ipaddress")) else _FUNCTION
        )
    found = _KINDS.get(kind, 0)
    found += _FUNCTION if core.get("post_init") or core.get("custom_init") else 0
    factory = core.get("default_factory")
    return found + (0 if factory is None else 3 if factory in _CHEAP else _FUNCTION)


def _function(core: Mapping[str, Any]) -> Any:
    given = core.get("function")
    return given.get("function") if isinstance(given, Mapping) else given


def _name(core: Mapping[str, Any]) -> str:
    return getattr(_function(core), "__qualname__", "")
