"""JSON Schema dicts (Draft 2020-12, or the draft their $schema names), checked by the jsonschema library.

Imported only where a step uses one. `default`s of properties are filled in before the check, also
through local references and allOf. References to other documents are refused at start.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from iii.errors import Detail, StepError, ValidationError
from iii.formats.units import shown, type_name
from iii.schema.validator import DETAILS_MAX, Validator, dotted, misfit, not_json, parse_json

_KEYWORDS = frozenset(
    {
        *("$schema", "$id", "$ref", "$defs", "definitions", "title", "description", "default", "examples"),
        *("type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "format"),
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("items", "prefixItems", "contains", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("minimum", "maximum", "minLength", "maxLength", "pattern"),
    }
)


class JsonSchemaValidator(Validator):
    def __init__(self, schema: Mapping[str, Any], lax: bool) -> None:
        self.lax = lax
        self.schema: dict[str, Any] = dict(schema)
        _refuse_types(schema)
        try:
            import jsonschema
            from jsonschema.validators import validator_for
            from referencing import Registry, Resource
            from referencing.exceptions import Unresolvable
            from referencing.jsonschema import DRAFT202012
        except ImportError:
            raise StepError(
                "a JSON Schema dict needs the jsonschema library; pip install 'iii-engine[jsonschema]'"
            ) from None
        draft = validator_for(self.schema, default=jsonschema.Draft202012Validator)
        try:
            draft.check_schema(self.schema)
        except jsonschema.SchemaError as error:
            where = dotted([*error.absolute_path])
            raise StepError(
                f"not a valid JSON Schema{' at ' + where if where else ''}: {error.message}"
            ) from None
        nothing: Registry[Any] = Registry()  # the library's own would fetch references from the network
        self._check = draft(self.schema, registry=nothing, format_checker=draft.FORMAT_CHECKER)
        whole = Resource.from_contents(self.schema, default_specification=DRAFT202012)
        base = whole.id() or ""
        resolver = nothing.with_resource(base, whole).crawl().resolver(base)
        for reference in _references(self.schema):
            try:
                resolver.lookup(reference)
            except Unresolvable:
                raise StepError(
                    f'"$ref": "{reference}" leads nowhere; define it under "$defs" (nothing is fetched)'
                ) from None

    def validate_json(self, raw: bytes) -> Any:
        return self.validate(parse_json(raw))

    def validate(self, value: object) -> Any:
        try:
            if self.lax:
                value = _from_text(self.schema, value)
            value = self._filled(self.schema, value)
            errors = sorted(self._check.iter_errors(value), key=lambda e: [str(p) for p in e.absolute_path])
        except RecursionError:
            raise not_json("nested too deeply") from None
        if errors:
            raise _explain(errors)
        return value

    def json_schema(self) -> dict[str, Any]:
        return self.schema

    def _filled(self, schema: object, value: object) -> object:
        """`value` with absent properties set to their defaults; containers that change are copied."""
        if not isinstance(schema, Mapping):
            return value
        if isinstance(schema.get("$ref"), str):
            value = self._filled(_local(self.schema, schema["$ref"]), value)
        for part in schema.get("allOf", ()):
            value = self._filled(part, value)
        if isinstance(value, dict) and isinstance(schema.get("properties"), Mapping):
            return self._filled_object(schema["properties"], value)
        if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
            return [self._filled(schema["items"], item) for item in value]
        return value

    def _filled_object(self, properties: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        result = dict(value)
        for name, field in properties.items():
            if name in result:
                result[name] = self._filled(field, result[name])
            elif isinstance(field, Mapping) and "default" in field:
                default = copy.deepcopy(field["default"])
                # A reference may lead back here: a default taken in is completed by inline schemas only.
                result[name] = default if "$ref" in field else self._filled(field, default)
        return result


# --------------------------------------------------------------------------------------- at the start


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


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _references(part)


def _local(root: Mapping[str, Any], reference: str) -> object:
    """The schema at a JSON pointer (RFC 6901) "#/$defs/Order"; None when there is none."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


# -------------------------------------------------------------------------------- from text, and errors


def _from_text(schema: Mapping[str, Any], value: object) -> object:
    """A query's text values as the numbers and booleans their properties ask for, where they are some."""
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    return {name: _field_from_text(properties.get(name), text) for name, text in value.items()}


def _field_from_text(field: object, text: object) -> object:
    if not isinstance(field, Mapping):
        return text
    if isinstance(text, list):
        return [_field_from_text(field.get("items"), item) for item in text]
    kinds = field.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(text, str) or "string" in kinds:
        return text
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    try:
        if "integer" in kinds or "number" in kinds:
            return int(text) if "integer" in kinds or text.lstrip("-").isdigit() else float(text)
    except ValueError:
        pass
    return text


def _explain(errors: list[Any]) -> ValidationError:
    """jsonschema's findings as Details."""
    details = dict.fromkeys(detail for error in errors for detail in _details(error))
    return misfit(*list(details)[:DETAILS_MAX])


def _details(error: Any) -> list[Detail]:
    path, rule, given = [*error.absolute_path], error.validator_value, error.instance
    match error.validator:
        case "required":
            return [Detail(dotted([*path, name]), "is required") for name in rule if name not in given]
        case "additionalProperties" | "unevaluatedProperties" if rule is False:
            known = error.schema.get("properties", {})
            unknown = [name for name in given if name not in known]
            return [Detail(dotted([*path, name]), "unknown field") for name in unknown]
        case "type":
            kinds = " or ".join([rule] if isinstance(rule, str) else rule)
            return [Detail(dotted(path), f"expected {kinds}, got {_json_type(given)}")]
        case "enum":
            options = ", ".join(map(str, rule))
            return [Detail(dotted(path), f"expected one of {options}; got {shown(given)}")]
        case "minLength" | "maxLength" | "minItems" | "maxItems":
            bound = "at least" if error.validator.startswith("min") else "at most"
            unit = "characters" if error.validator.endswith("Length") else "items"
            return [Detail(dotted(path), f"expected {bound} {rule} {unit}, got {len(given)}")]
        case "anyOf" | "oneOf":
            return [Detail(dotted(path), "fits none (or more than one) of the allowed forms")]
    return [Detail(dotted(path), error.message if len(error.message) <= 200 else f"breaks {error.validator}")]


def _json_type(value: object) -> str:
    name = type_name(value)
    return {"mapping": "object", "list": "array"}.get(name, name)
