"""pydantic models (and types that mention them) as schemas. Imported only where a step uses one.

pydantic tries each member of a union and keeps each error that it meets. So what a body may cost is known
before it is checked (pydantic_cost.py), and of thousands of errors only the first are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from iii.errors import Detail
from iii.errors import ValidationError as IIIValidationError
from iii.schema.pydantic_cost import most_visits, refuse_endless
from iii.schema.validator import DETAILS_MAX, Validator, dotted, misfit, not_json, parse_json, unsupported
from iii.schema.work import Work, too_much

_ERRORS_MAX = 2000  # beyond it, making their list takes longer than a check of a part of the value
_KEPT_ITEMS, _KEPT_FIELDS = 20, 200


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
        self._visits = most_visits(core)

    def validate_json(self, raw: bytes) -> Any:
        return self.validate_read(raw, parse_json(raw))  # pydantic lets NaN and Infinity pass

    def validate_read(self, raw: bytes, value: object) -> Any:
        work = Work(len(raw))
        if (raw.count(b",") + raw.count(b"[") + raw.count(b"{") + 1) * self._visits > work.allowed:
            raise too_much(work)
        try:
            return self._adapter.validate_json(raw)
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
    if count > _ERRORS_MAX:
        try:
            again(_beginning(value))
            found = []
        except ValidationError as first:
            found = _errors(first) if first.error_count() <= _ERRORS_MAX else []
        # That a part is too short, or lacks a field, says nothing of the whole.
        found = [each for each in found if each["type"] not in ("too_short", "missing")]
        if not found:
            return misfit(Detail("", f"{count:,} fields are wrong"))
    else:
        found = _errors(error)
    return misfit(
        *(Detail(dotted(each["loc"]), _plain(each["type"], each["msg"])) for each in found[:DETAILS_MAX])
    )


def _errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _beginning(value: object) -> object:
    if isinstance(value, list):
        return [_beginning(item) for item in value[:_KEPT_ITEMS]]
    if isinstance(value, dict):
        names = list(value)[:_KEPT_FIELDS]
        return {name: _beginning(value[name]) for name in names}
    return value


def _plain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    return message[:1].lower() + message[1:]
