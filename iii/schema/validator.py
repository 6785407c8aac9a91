"""What every schema becomes: `Validator`, and how a value that does not fit is reported."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import msgspec

from iii.errors import Detail, StepError, ValidationError
from iii.formats import codec

DETAILS_MAX = 20

SLOW_NUMBERS_MAX = 1000
_SHORT_TEXT = 8192  # it cannot hold many
_SLOW = re.compile(
    rb"[\[,:\s]-?(?:[0-9][0-9.]*[eE][+-]?0*[2-9][0-9][0-9]|[0-9]{20}[0-9]*)(?=[\s,\]}])"
    rb"|\"-?[0-9]{20}[0-9]*\":"
)

NOT_JSON = "invalid JSON"
MISFIT = "validation failed"


class Validator(ABC):
    """A compiled schema. Safe to share between threads."""

    lax: bool

    @abstractmethod
    def validate_json(self, raw: bytes) -> Any:
        """Decode and check `raw`; ValidationError for broken JSON and for a misfit."""

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


def parse_json(raw: bytes) -> Any:
    """The JSON value of `raw`. Refused: NaN, Infinity, out of range, not UTF-8, nested too deeply."""
    refuse_slow_numbers(raw)
    try:
        return codec.decode_exactly(raw)
    except msgspec.MsgspecError as error:
        raise not_json(str(error).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise not_json("is not UTF-8") from None
    except RecursionError:
        raise not_json("nested too deeply") from None


def refuse_slow_numbers(raw: bytes) -> None:
    """ValidationError for a long text with many numbers that take longer than others: msgspec needs up to
    18 us for one near the ends of what a float holds (1e308), three seconds for a MiB of them; and beyond
    64 bits integers can be chosen that fall on one another in a set."""
    if len(raw) > _SHORT_TEXT and next(islice(_SLOW.finditer(raw), SLOW_NUMBERS_MAX, None), None):
        raise not_json(
            f"more than {SLOW_NUMBERS_MAX:,} numbers beyond 64 bits, or with exponents of 200 or more; "
            "send fewer at once"
        )


def unsupported(schema: object, why: str) -> StepError:
    """The error for a schema that nothing here can check."""
    name = schema.__qualname__ if isinstance(schema, type) else repr(schema)
    return StepError(
        f"{name} cannot be used as a schema: {why}. Write a msgspec.Struct, a dataclass, a TypedDict, "
        'a pydantic model or a JSON Schema dict ({"type": "object", "properties": {...}})'
    )
