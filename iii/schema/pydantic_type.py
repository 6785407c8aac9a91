"""pydantic models (and types that mention them) as schemas. Imported only where a step uses one."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from iii.errors import Detail
from iii.errors import ValidationError as IIIValidationError
from iii.schema.validator import DETAILS_MAX, Validator, dotted, misfit, not_json, parse_json, unsupported


class PydanticValidator(Validator):
    def __init__(self, schema: Any, lax: bool) -> None:
        self.lax = lax
        try:
            self._adapter: TypeAdapter[Any] = (
                schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
            )
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise unsupported(schema, str(error).splitlines()[0]) from None

    def validate_json(self, raw: bytes) -> Any:
        parse_json(raw)  # pydantic lets NaN and Infinity pass
        try:
            return self._adapter.validate_json(raw)
        except ValidationError as error:
            raise _explain(error) from None

    def validate(self, value: object) -> Any:
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            raise _explain(error) from None
        except RecursionError:
            raise not_json("nested too deeply") from None

    def json_schema(self) -> dict[str, Any]:
        return self._adapter.json_schema()


def _explain(error: ValidationError) -> IIIValidationError:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:DETAILS_MAX]
    return misfit(*(Detail(dotted(each["loc"]), _plain(each["type"], each["msg"])) for each in found))


def _plain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    return message[:1].lower() + message[1:]
