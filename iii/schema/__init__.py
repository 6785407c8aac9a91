"""Schemas of bodies, queries and messages: one `Validator` whatever the user wrote the schema in.

    written as                                       checked by     the handler gets
    msgspec.Struct, dataclass, TypedDict, attrs,     msgspec        an instance (TypedDict: a dict)
    any typing type (dict[str, str], Literal, ...)
    pydantic model, or a type that mentions one      pydantic       an instance
    JSON Schema dict (Draft 4 to 2020-12)            compiler.py    the value, `default`s filled in

Defaults are applied in all of them, but a TypedDict has none to apply (NotRequired keys stay absent).
pydantic and jsonschema are imported only for a schema that needs them.

No body holds a check up: what it may cost is counted (work.py, json_schema.py) or known before it begins
(pydantic_cost.py, automaton.py); a schema that would leave it open is refused at start.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import get_args

from iii.schema.validator import Validator

__all__ = ["Validator", "compile"]


def compile(schema: object, *, lax: bool = False) -> Validator | None:
    """The validator of `schema`; None for None. StepError where it is none that can be checked.

    lax: values arrive as text (query strings), so "5" is good for an integer and a field that is no
    list takes the last of its repeated values.
    """
    if schema is None or isinstance(schema, Validator):
        return schema
    if isinstance(schema, Mapping):
        from iii.schema.json_schema import JsonSchemaValidator

        return JsonSchemaValidator(schema, lax)
    if _needs_pydantic(schema):
        from iii.schema.pydantic_type import PydanticValidator

        return PydanticValidator(schema, lax)
    from iii.schema.typed import TypeValidator

    return TypeValidator(schema, lax)


def _needs_pydantic(schema: object) -> bool:
    """Whether the type is a pydantic one or mentions one; without importing pydantic for it."""
    if "pydantic" not in sys.modules:
        return False
    if type(schema).__module__.partition(".")[0] == "pydantic" or hasattr(schema, "__pydantic_validator__"):
        return True  # a TypeAdapter, a Field(…) in an Annotated; a model
    return any(_needs_pydantic(part) for part in get_args(schema))
