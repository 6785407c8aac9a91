"""The routes as an OpenAPI 3.1 document, from the steps' schemas. Definitions move to components/schemas."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from iii.schema import Validator
from iii.web.router import Route

__all__ = ["describe"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "traceId": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def describe(routes: Sequence[Route], *, title: str = "iii", version: str = "1") -> dict[str, Any]:
    """The document for `routes`."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, schemas)
        paths.setdefault(route.trigger.path, {})[route.trigger.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas.named},
    }


class _Schemas:
    """components/schemas: the definitions that several routes' schemas refer to by name."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {"Error": _ERROR}

    def add(self, validator: Validator) -> dict[str, Any]:
        """The JSON Schema of `validator`, its references pointing into components."""
        schema = dict(validator.json_schema())
        schema.pop("$schema", None)
        definitions = {**schema.pop("definitions", {}), **schema.pop("$defs", {})}
        renamed = {name: self._free(name, definition) for name, definition in definitions.items()}
        for name, definition in definitions.items():
            self.named[renamed[name]] = _redirected(definition, renamed)
        redirected: dict[str, Any] = _redirected(schema, renamed)
        return redirected

    def _free(self, name: str, definition: Any) -> str:
        """`name`, numbered where another definition has it already."""
        free, number = name, 2
        while free in self.named and self.named[free] != _redirected(definition, {name: free}):
            free, number = f"{name}{number}", number + 1
        return free


def _redirected(schema: Any, renamed: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_redirected(item, renamed) for item in schema]
    if not isinstance(schema, dict):
        return schema
    redirected = {key: _redirected(value, renamed) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(("#/$defs/", "#/definitions/")):
        name = reference.rpartition("/")[2]
        redirected["$ref"] = f"#/components/schemas/{renamed.get(name, name)}"
    return redirected


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    step, trigger, checks = route.step, route.trigger, route.schemas
    operation: dict[str, Any] = {"operationId": f"{step.name}_{route.started_by.index}", "tags": [step.name]}
    if step.description:
        operation["summary"] = step.description
    names = [part[1:-1] for part in trigger.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    if checks.query is not None:
        parameters += _query_parameters(checks.query, schemas)
    if parameters:
        operation["parameters"] = parameters
    if checks.body is not None:
        operation["requestBody"] = {"required": True, "content": _json_content(schemas.add(checks.body))}
    operation["responses"] = _responses(route, schemas)
    return operation


def _query_parameters(query: Validator, schemas: _Schemas) -> list[dict[str, Any]]:
    schema = schemas.add(query)
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = schemas.named.get(name, schema)
    required = schema.get("required", ())
    return [
        {"name": field, "in": "query", "required": field in required, "schema": each}
        for field, each in schema.get("properties", {}).items()
    ]


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses = {
        str(status): {"description": _phrase(status), "content": _json_content(schemas.add(validator))}
        for status, validator in sorted(route.schemas.responses.items())
    }
    if not responses:
        responses["200"] = {"description": "OK"}
    error = _json_content({"$ref": "#/components/schemas/Error"})
    if route.schemas.body is not None or route.schemas.query is not None:
        responses.setdefault("400", {"description": _phrase(400), "content": error})
    responses["default"] = {"description": "Error", "content": error}
    return responses


def _json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
