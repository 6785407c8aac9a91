"""pydantic models (and types that mention them) as schemas. Imported only where a step uses one.

pydantic tries each member of a union and keeps each error that it meets. So what a body may cost is known
before it is checked (pydantic_cost.py), and of thousands of errors only the first are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from iii.errors import Detail
from iii.errors import ValidationError as IIIValidationError
from iii.formats.codec import uncollected
from iii.schema.pydantic_cost import most_costly, refuse_endless
from iii.schema.validator import DETAILS_MAX, Validator, dotted, misfit, not_json, parse_json, unsupported
from iii.schema.work import Work, too_much

_ERRORS_MAX = 10_000  # beyond it, making their list takes longer than a check of a part of the value
_VISIT_STEPS = 3  # each may be an error
_KEPT_ITEMS, _KEPT_FIELDS = 20, 1000


class PydanticValidator(Validator):
    def __init__(self, schema: Any, lax: bool) -> None:
        self.lax = lax
        try:
            self._adapter: TypeAdapter[Any] = (
                schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
            )
            core = self._adapter.core_schema
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise unsupported(schema, str(error).splitlines()[0]) from None
        refuse_endless(schema, core)
        self._cost = most_costly(core)

    def validate_json(self, raw: bytes) -> Any:
        return self.validate_read(raw, parse_json(raw))  # pydantic lets NaN and Infinity pass

    def validate_read(self, raw: bytes, value: object) -> Any:
        work = Work(len(raw))
        objects = raw.count(b"{")
        values = raw.count(b",") + raw.count(b"[") + objects + 1
        visits = values * self._cost.visits + objects * self._cost.fields
        calls = values * self._cost.item_calls + objects * self._cost.object_calls
        if visits * _VISIT_STEPS + calls + len(raw) * self._cost.letters > work.allowed:
            raise too_much(work)
        try:
            return uncollected(self._adapter.validate_json, raw)
        except ValidationError as error:
            raise _explain(error, value, self._first_json_errors) from None

    def validate(self, value: object) -> Any:
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            raise _explain(error, value, self._adapter.validate_python) from None
        except RecursionError:
            raise not_json("nested too deeply") from None

    def json_schema(self) -> dict[str, Any]:
        return self._adapter.json_schema()

    def _first_json_errors(self, value: object) -> object:
        return self._adapter.validate_json(msgspec.json.encode(value))


def _explain(error: ValidationError, value: object, again: Callable[[object], object]) -> IIIValidationError:
    """`again` checks a part of `value`, where the errors of all of it are too many to be listed."""
    count = error.error_count()
    found = _errors(error) if count <= _ERRORS_MAX else _first_errors(value, again)
    if not found:
        return misfit(Detail("", f"{count:,} fields are wrong"))
    details = (Detail(dotted(each["loc"]), _plain(each["type"], each["msg"])) for each in found[:DETAILS_MAX])
    return misfit(*details)


def _first_errors(value: object, again: Callable[[object], object]) -> list[Any]:
    try:
        again(_beginning(value))
    except ValidationError as first:
        if first.error_count() <= _ERRORS_MAX:  # that a part is too short says nothing of the whole
            return [each for each in _errors(first) if each["type"] != "too_short"]
    return []


def _errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _beginning(value: object) -> object:
    """The first items of each list in it, and of an object more fields than a model has."""
    if isinstance(value, list):
        return [_beginning(item) for item in value[:_KEPT_ITEMS]]
    if isinstance(value, dict):
        return {name: _beginning(value[name]) for name in islice(value, _KEPT_FIELDS)}
    return value


def _plain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    return message[:1].lower() + message[1:]
