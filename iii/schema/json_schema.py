"""JSON Schema dicts (Draft 2020-12, or the draft their $schema names).

What is a schema at all, and what a `format` is, says the jsonschema library, imported only where a step uses
one; where references lead, its sister `referencing`. The check itself is ours (compiler.py): libraries that
take a schema's word for how much work a value is worth can be held for minutes by a body of a few hundred
bytes. References to other documents are refused at start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from iii.errors import Detail, StepError
from iii.formats.codec import LARGE_BYTES, uncollected
from iii.schema.defaults import Defaults, from_text
from iii.schema.validator import Validator, dotted, misfit, not_json, parse_json
from iii.schema.work import Enough, Findings, TooMuchWork, Work, too_much

_KEYWORDS = frozenset(
    {
        *("$schema", "$id", "id", "$ref", "$dynamicRef", "$recursiveRef", "$defs", "definitions", "$comment"),
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "format"),
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("dependencies", "dependentRequired", "dependentSchemas", "minProperties", "maxProperties"),
        *("items", "prefixItems", "additionalItems", "contains", "minContains", "maxContains"),
        *("minItems", "maxItems", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "contentEncoding", "contentMediaType", "contentSchema"),
    }
)


_EXPLAIN_STEPS = 100_000


class JsonSchemaValidator(Validator):
    def __init__(self, schema: Mapping[str, Any], lax: bool) -> None:
        self.lax, self.is_exact = lax, not lax
        self.schema: dict[str, Any] = dict(schema)
        _refuse_types(schema)
        try:
            import jsonschema
            from jsonschema.validators import validator_for

            from iii.schema.compiler import compile_schema
        except ImportError:
            raise StepError(
                "a JSON Schema dict needs the jsonschema library; pip install 'iii-engine[jsonschema]'"
            ) from None
        draft = validator_for(self.schema, default=jsonschema.Draft202012Validator)
        try:
            draft.check_schema(self.schema, format_checker=None)
        except jsonschema.SchemaError as error:
            where = dotted([*error.absolute_path])
            raise StepError(
                f"not a valid JSON Schema{' at ' + where if where else ''}: {error.message}"
            ) from None
        dialect = self.schema.get("$schema", draft.META_SCHEMA["$schema"])
        self._root = compile_schema(self.schema, dialect, draft.FORMAT_CHECKER.checkers)
        self._defaults = Defaults(self.schema)

    def validate_json(self, raw: bytes) -> Any:
        return self.validate_read(raw, parse_json(raw))

    def validate_read(self, raw: bytes, value: object) -> Any:
        work = Work(len(raw))
        if len(raw) < LARGE_BYTES:
            return self._validated(value, work)
        return uncollected(lambda raw: self._validated(value, work), raw)

    def validate(self, value: object) -> Any:
        return self._validated(from_text(self.schema, value) if self.lax else value, Work())

    def _validated(self, value: object, work: Work) -> Any:
        try:
            value = self._defaults.filled(value, work)
            work.spend(self._root.cost)
            if self._root.check(value, work):
                return value
            raise misfit(*self._found(value, work))
        except RecursionError:
            raise not_json("nested too deeply") from None
        except TooMuchWork:
            raise too_much(work) from None

    def json_schema(self) -> dict[str, Any]:
        return self.schema

    def _found(self, value: object, work: Work) -> Sequence[Detail]:
        """What is wrong with `value`: as much as DETAILS_MAX and what is left of the work allow."""
        found = Findings()
        work.left = max(work.left, _EXPLAIN_STEPS)
        with suppress(Enough, TooMuchWork):
            self._root.explain(value, work, (), found)
        return found.details or (Detail("", "does not fit its schema"),)


def _refuse_types(schema: Mapping[Any, Any]) -> None:
    """Refuse {"text": str} and the like with the way to write it."""
    for key, value in schema.items():
        if isinstance(value, type):
            raise StepError(
                f"{{{key!r}: {value.__name__}}} is no JSON Schema. Write a class "
                f"(class Body(msgspec.Struct): {key}: {value.__name__}) or "
                f'{{"type": "object", "properties": {{"{key}": {{"type": ...}}}}}}'
            )
    if schema and not _KEYWORDS & schema.keys():
        keys = ", ".join(map(repr, list(schema)[:5]))
        raise StepError(
            f"a dict with the keys {keys} is no JSON Schema; put the fields under "
            '{"type": "object", "properties": {...}}, or write a msgspec.Struct, dataclass or TypedDict'
        )
