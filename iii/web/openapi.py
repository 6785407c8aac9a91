"""The routes as an OpenAPI 3.1 document, from the steps' schemas. Definitions move to components/schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

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


# What the engine itself answers, whatever the handler does: status, component, when.
_REFUSALS = {
    400: ("BadRequest", "The request is malformed, or does not fit the schema: `details` names the fields"),
    404: ("NotFound", "Nothing is here, or the step's condition does not hold"),
    408: ("RequestTimeout", "The body did not arrive in time"),
    409: ("Conflict", "What the request builds on has changed, or a request with its Idempotency-Key runs"),
    413: ("ContentTooLarge", "The body is larger than `http.max_body`"),
    415: ("UnsupportedMediaType", "The body is no JSON by its content type, or is compressed"),
    421: ("MisdirectedRequest", "The Host is none of this server's names"),
    422: ("KeyReused", "The Idempotency-Key was used for another request"),
    431: ("HeadTooLarge", "The head is larger than `http.max_head`"),
    500: ("InternalError", "The handler failed; nothing was written"),
    503: ("Unavailable", "The engine stops, or its store is full; Retry-After says when to come again"),
    504: ("GatewayTimeout", "The handler took longer than `http.timeout`; nothing was written"),
}
_OF_BODIES = frozenset({408, 413, 415, 422})
_PLACES = ("#/$defs/", "#/definitions/")
_VALUES = frozenset({"const", "default", "enum", "example", "examples"})
_ODD = re.compile(r"[^A-Za-z0-9._-]")


def describe(routes: Sequence[Route], *, title: str = "iii", version: str = "1") -> dict[str, Any]:
    """The document for `routes`."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    templates: dict[str, str] = {}
    for route in routes:
        # Two paths that differ in the names of their parameters only are one path (OpenAPI §4.8.8.2).
        path = templates.setdefault(_PARAMETER.sub("{}", route.trigger.path), route.trigger.path)
        paths.setdefault(path, {})[route.trigger.method.lower()] = _operation(route, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas.named, "responses": _refusals()},
    }


_PARAMETER = re.compile(r"\{[^{}/]*\}")


def _refusals() -> dict[str, Any]:
    content = _json_content({"$ref": "#/components/schemas/Error"})
    return {name: {"description": told, "content": content} for name, told in _REFUSALS.values()}


class _Schemas:
    """components/schemas: the definitions that several routes' schemas refer to by name."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {"Error": _ERROR}

    def add(self, validator: Validator, title: str) -> dict[str, Any]:
        """The JSON Schema of `validator`, its references pointing into components. `title` names it there, if
        something in it refers to it as a whole."""
        schema = dict(validator.json_schema())
        if "2020-12" not in schema.pop("$schema", "2020-12"):
            schema = dict(_modern(schema))
        references = list(_references(schema))
        if any(not reference.startswith("#") or reference[1:2] not in ("", "/") for reference in references):
            return {"$id": f"urn:iii:{_ODD.sub('_', title)}", **schema}  # a document of its own
        definitions = {**schema.pop("definitions", {}), **schema.pop("$defs", {})}
        schema.pop("$id", None)
        renamed = {name: self._free(name, definition) for name, definition in definitions.items()}
        if any(not reference.startswith(_PLACES) for reference in references):
            renamed[""] = self._free(title, None)
        for name, definition in definitions.items():
            self.named[renamed[name]] = _redirected(definition, renamed)
        redirected: dict[str, Any] = _redirected(schema, renamed)
        if "" not in renamed:
            return redirected
        self.named[renamed[""]] = redirected
        return {"$ref": f"#/components/schemas/{renamed['']}"}

    def _free(self, name: str, definition: Any) -> str:
        """`name`, as far as components may be called so, and numbered where another definition has it."""
        plain = free = _ODD.sub("_", name) or "_"
        number = 2
        while free in self.named and self.named[free] != _redirected(definition, {name: free}):
            free, number = f"{plain}{number}", number + 1
        return free


def _modern(schema: Any) -> Any:
    """A schema of an earlier draft in the words of Draft 2020-12, which OpenAPI 3.1 takes for granted."""
    if isinstance(schema, list):
        return [_modern(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: value if name in _VALUES else _modern(value) for name, value in schema.items()}
    if "$ref" in found:
        return {name: found[name] for name in ("$ref", "definitions", "$defs") if name in found}
    if isinstance(found.get("$recursiveRef"), str):
        found["$ref"] = found.pop("$recursiveRef")
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
        if "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if found.get(exclusive) is True and bound in found:
            found[exclusive] = found.pop(bound)
        elif isinstance(found.get(exclusive), bool):
            del found[exclusive]
    needed = found.pop("dependencies", {})
    for kind, name in ((list, "dependentRequired"), (dict | bool, "dependentSchemas")):
        if chosen := {field: each for field, each in needed.items() if isinstance(each, kind)}:
            found[name] = chosen
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        yield from (schema[name] for name in ("$ref", "$dynamicRef") if isinstance(schema.get(name), str))
        for name, item in schema.items():
            if name not in _VALUES:
                yield from _references(item)


def _redirected(schema: Any, renamed: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_redirected(item, renamed) for item in schema]
    if not isinstance(schema, dict):
        return schema
    redirected = {
        key: value if key in _VALUES else _redirected(value, renamed) for key, value in schema.items()
    }
    if isinstance(schema.get("$ref"), str):
        redirected["$ref"] = _redirected_reference(schema["$ref"], renamed)
    return redirected


def _redirected_reference(reference: str, renamed: dict[str, str]) -> str:
    for place in _PLACES:
        if reference.startswith(place):
            name, slash, rest = reference.removeprefix(place).partition("/")
            decoded = unquote(name).replace("~1", "/").replace("~0", "~")
            return f"#/components/schemas/{renamed.get(decoded, name)}{slash}{rest}"
    return f"#/components/schemas/{renamed.get('', '')}{reference[1:]}"


def _operation(route: Route, path: str, schemas: _Schemas) -> dict[str, Any]:
    step, trigger, checks = route.step, route.trigger, route.schemas
    operation: dict[str, Any] = {"operationId": f"{step.name}_{route.started_by.index}", "tags": [step.name]}
    if step.description:
        operation["summary"] = step.description
    parameters: list[dict[str, Any]] = [
        {"name": name[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(path)
    ]
    if checks.query is not None:
        parameters += _query_parameters(checks.query, f"{step.name}Query", schemas)
    if parameters:
        operation["parameters"] = parameters
    if checks.body is not None:
        content = _json_content(schemas.add(checks.body, f"{step.name}Body"))
        operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] = _responses(route, trigger.method, schemas)
    return operation


def _query_parameters(query: Validator, title: str, schemas: _Schemas) -> list[dict[str, Any]]:
    schema = schemas.add(query, title)
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = schemas.named.get(name, schema)
    required = schema.get("required", ())
    return [
        {"name": field, "in": "query", "required": field in required, "schema": each}
        for field, each in schema.get("properties", {}).items()
    ]


def _responses(route: Route, method: str, schemas: _Schemas) -> dict[str, Any]:
    """What the step declares, what the engine answers besides, and that a handler may answer anything."""
    responses = {
        str(status): {
            "description": _phrase(status),
            "content": _json_content(schemas.add(validator, f"{route.step.name}{status}")),
        }
        for status, validator in sorted(route.schemas.responses.items())
    }
    if not responses:
        responses["200"] = {"description": "OK"}
    takes_body = route.schemas.body is not None or method not in ("GET", "HEAD")
    for status, (name, _) in _REFUSALS.items():
        if takes_body or status not in _OF_BODIES:
            responses.setdefault(str(status), {"$ref": f"#/components/responses/{name}"})
    responses["default"] = {"description": "What the handler answers in other cases"}
    return responses


def _json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
