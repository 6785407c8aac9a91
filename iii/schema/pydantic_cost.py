"""What pydantic may do with a body, told from a type's core schema: how often one value is looked at, and
what would have no bound at all, which is refused at start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from iii.errors import StepError
from iii.schema import pydantic_calls
from iii.schema.automaton import is_small, refuse_slow_pattern, size

__all__ = ["Cost", "most_costly", "refuse_endless"]

_OBJECTS = frozenset({"model", "model-fields", "typed-dict", "dict", "dataclass", "dataclass-args"})
_ARRAYS = frozenset({"list", "tuple", "set", "frozenset", "generator", "arguments"})


_HELD = frozenset({"dict", "list", "tuple", "set", "frozenset", "generator"})
_PATTERN_SIZE_MAX = 500
_PATTERN_STEPS_MAX = 500_000
_WIDE = 20  # a \w of Rust's engine has hundreds of ranges of characters


class Cost(NamedTuple):
    """Of one place in a body, at most: how many times the value there is looked at (once by each member of a
    union), how many fields are looked for in an object there, the steps that patterns take for each
    character of a text there, and those of Python's functions: for an object, and for an item of a list."""

    visits: int
    fields: int
    letters: float = 0.0
    object_calls: int = 0
    item_calls: int = 0


def most_costly(core: Any) -> Cost:
    return _cost(core, _definitions(core), frozenset())


def refuse_endless(schema: object, core: Any) -> None:
    """StepError for a union of which several members lead back to it (each level of a body would double the
    work, or worse), and for patterns that Python's `re` would run without bound."""
    definitions = _definitions(core)
    for part in _parts(core):
        if part.get("type") == "union":
            for kinds in (_OBJECTS, _ARRAYS):
                members = [each for each in _choices(part) if _kind(each, definitions) in kinds]
                if sum(_leads_to(part, each, definitions) for each in members) > 1:
                    name = schema.__qualname__ if isinstance(schema, type) else repr(schema)
                    raise StepError(
                        f"{name}: several members of a union lead back to it, and a check may take for ever. "
                        "Name the field that tells them apart: Field(discriminator=…)"
                    )
        if part.get("type") == "str" and part.get("pattern") is not None:
            pattern = part["pattern"]
            if isinstance(pattern, re.Pattern) or part.get("regex_engine") == "python-re" or _uses_re(core):
                source = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
                refuse_slow_pattern(source, part.get("max_length"))
            else:
                _refuse_large(pattern, part.get("max_length"))


def _refuse_large(pattern: str, max_length: int | None) -> None:
    """A large automaton that Rust's engine cannot keep is gone through for each character of a text."""
    steps = _letter_steps(pattern)
    if size(pattern) <= _PATTERN_SIZE_MAX or steps < 1:
        return
    longest = int(_PATTERN_STEPS_MAX / steps)
    if max_length is None or max_length > longest:
        raise StepError(
            f"the pattern {pattern!r} has over {_PATTERN_SIZE_MAX} characters, its repeats written out, and "
            f"may hold a long text for seconds; give the field a max_length of {longest:,} at most, or write "
            "fewer repeats within repeats"
        )


@lru_cache(maxsize=1000)
def _letter_steps(pattern: str) -> float:
    return 1 / 32 if is_small(pattern, _WIDE) else size(pattern) / 5


def _uses_re(core: Any) -> bool:
    configs = (part.get("config") for part in _parts(core))
    return any(
        isinstance(config, Mapping) and config.get("regex_engine") == "python-re" for config in configs
    )


def _parts(core: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(core, Mapping):
        yield core
        for name, part in core.items():
            if name not in ("metadata", "serialization"):
                yield from _parts(part)
    elif isinstance(core, list | tuple):
        for part in core:
            yield from _parts(part)


def _definitions(core: Any) -> dict[str, Any]:
    return {part["ref"]: part for part in _parts(core) if isinstance(part.get("ref"), str)}


def _choices(union: Mapping[str, Any]) -> list[Any]:
    return [each[0] if isinstance(each, tuple) else each for each in union["choices"]]


def _resolved(core: Any, definitions: Mapping[str, Any]) -> Any:
    """What stands behind references and behind functions around a schema."""
    for _ in range(100):
        if not isinstance(core, Mapping):
            return core
        if core.get("type") == "definition-ref":
            core = definitions.get(core.get("schema_ref", ""), {})
        elif str(core.get("type")).startswith("function-") or core.get("type") in (
            "default",
            "nullable",
            "definitions",
        ):
            core = core.get("schema", {})
        else:
            return core
    return core


def _kind(core: Any, definitions: Mapping[str, Any]) -> str:
    found = _resolved(core, definitions)
    return str(found.get("type")) if isinstance(found, Mapping) else ""


def _leads_to(goal: Any, core: Any, definitions: Mapping[str, Any]) -> bool:
    waiting, seen = [core], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if part is goal:
            return True
        if isinstance(part, Mapping):
            waiting += [each for name, each in part.items() if name not in ("metadata", "serialization")]
            if part.get("type") == "definition-ref":
                waiting.append(definitions.get(part["schema_ref"]))
        elif isinstance(part, list | tuple):
            waiting += part
    return False


def _cost(core: Any, definitions: Mapping[str, Any], above: frozenset[str]) -> Cost:
    if isinstance(core, list | tuple):
        return _dearest([_cost(part, definitions, above) for part in core])
    if not isinstance(core, Mapping):
        return Cost(1, 0)
    if core.get("type") == "definition-ref":
        name = core["schema_ref"]
        return Cost(1, 0) if name in above else _cost(definitions.get(name), definitions, above)
    if isinstance(core.get("ref"), str):
        above |= {core["ref"]}
    if core.get("type") == "union":
        costs = [_cost(each, definitions, above) for each in _choices(core)]
        return Cost(*map(sum, zip(*costs, strict=True)))
    inner = [part for name, part in core.items() if name not in ("metadata", "serialization")]
    found = _dearest([_own(core, definitions), *(_cost(part, definitions, above) for part in inner)])
    return found._replace(object_calls=found.object_calls + pydantic_calls.object_steps(core))


def _own(core: Mapping[str, Any], definitions: Mapping[str, Any]) -> Cost:
    fields = core.get("fields")
    named = list(fields.values()) if isinstance(fields, Mapping) else fields
    named = named if isinstance(named, list) else []
    letters = pydantic_calls.letter_steps(core)
    if core.get("type") == "str" and isinstance(core.get("pattern"), str):
        letters = _letter_steps(core["pattern"])
    calls = sum(pydantic_calls.steps(field, definitions) for field in named)
    return Cost(1, len(named), letters, calls, _item_calls(core, definitions))


def _item_calls(core: Mapping[str, Any], definitions: Mapping[str, Any]) -> int:
    if core.get("type") not in _HELD:
        return 0
    held = [core.get(name) for name in ("items_schema", "keys_schema", "values_schema")]
    parts = [part for each in held for part in (each if isinstance(each, list) else [each])]
    return max((pydantic_calls.steps(part, definitions) for part in parts), default=0)


def _dearest(costs: list[Cost]) -> Cost:
    return Cost(*map(max, zip(Cost(1, 0), *costs, strict=True)))
