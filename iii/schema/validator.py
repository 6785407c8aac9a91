"""What every schema becomes: `Validator`, and how a value that does not fit is reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from iii.errors import Detail, StepError, ValidationError
from iii.formats import json_text

DETAILS_MAX = 20

NOT_JSON, MISFIT = json_text.NOT_JSON, json_text.REFUSED
parse_json, refuse_slow_numbers = json_text.decode, json_text.refuse_slow_numbers


class Validator(ABC):
    """A compiled schema. Safe to share between threads."""

    lax: bool
    is_exact: bool = False
    """Whether all that it makes of what can be stored can be stored; not where texts become numbers."""

    @abstractmethod
    def validate_json(self, raw: bytes) -> Any:
        """Decode and check `raw`; ValidationError for broken JSON and for a misfit."""

    def validate_read(self, raw: bytes, value: object) -> Any:
        """As validate_json, where `value` is what has been read from `raw`."""
        return self.validate_json(raw)

    @abstractmethod
    def validate(self, value: object) -> Any:
        """Check a value of plain JSON types, which stays as it is; ValidationError for a misfit."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The schema as JSON Schema (Draft 2020-12), for documents."""

    def validate_query(self, query: Mapping[str, Sequence[str]]) -> Any:
        """Check a query string, given as every value of each name (compile with lax=True)."""
        lists = self._list_fields
        return self.validate(
            {name: list(values) if name in lists else values[-1] for name, values in query.items() if values}
        )

    @cached_property
    def _list_fields(self) -> frozenset[str]:
        """The fields of the top level that take a list."""
        schema = self.json_schema()
        reference = schema.get("$ref", "")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            schema = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        fields = schema.get("properties", {})
        return frozenset(name for name, field in fields.items() if _takes_list(field))


def _takes_list(field: object) -> bool:
    if not isinstance(field, Mapping):
        return False
    kind = field.get("type")
    options = [*field.get("anyOf", ()), *field.get("oneOf", ())]
    return kind == "array" or (isinstance(kind, list) and "array" in kind) or any(map(_takes_list, options))


def dotted(path: Sequence[str | int]) -> str:
    """("items", 0, "name") -> "items.0.name"."""
    return ".".join(map(str, path))


def misfit(*details: Detail) -> ValidationError:
    return ValidationError(MISFIT, details)


def not_json(problem: str) -> ValidationError:
    return ValidationError(NOT_JSON, (Detail("", problem),))


def unsupported(schema: object, why: str) -> StepError:
    """The error for a schema that nothing here can check."""
    name = schema.__qualname__ if isinstance(schema, type) else repr(schema)
    return StepError(
        f"{name} cannot be used as a schema: {why}. Write a msgspec.Struct, a dataclass, a TypedDict, "
        'a pydantic model or a JSON Schema dict ({"type": "object", "properties": {...}})'
    )
