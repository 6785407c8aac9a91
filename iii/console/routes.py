"""/api/routes: the HTTP routes with their schemas; /api/request: one asked, in this process, as if from
outside."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from msgspec import UNSET, Raw, Struct, UnsetType

from iii.console.asks import Ask, BadField, json_of
from iii.model import Txn
from iii.observe.redaction import Redaction
from iii.schema import Validator
from iii.step import METHODS, HttpTrigger
from iii.trace import new
from iii.web.request import Request
from iii.web.response import Answer
from iii.web.stream import Stream, StreamBroken

__all__ = ["ROUTES"]

STREAM_BYTES_MAX = 1 << 20
STREAM_S = 5.0
SAMPLE_DEPTH = 6


class RouteView(Struct, frozen=True):
    """Schemas are JSON Schema; None where there is none."""

    method: str
    path: str
    step: str
    description: str
    body_schema: dict[str, Any] | None
    query_params: dict[str, Any] | None
    response_schema: dict[str, Any] | None
    example: dict[str, Any]


def routes(ask: Ask) -> dict[str, Any]:
    found = []
    for step in ask.means.steps:
        for trigger, schemas in zip(step.triggers, step.schemas, strict=True):
            if not isinstance(trigger, HttpTrigger):
                continue
            body, query = _schema(schemas.body), _schema(schemas.query)
            answers = {str(status): each.json_schema() for status, each in sorted(schemas.responses.items())}
            found.append(
                RouteView(
                    method=trigger.method,
                    path=trigger.path,
                    step=step.name,
                    description=step.description,
                    body_schema=body,
                    query_params=query,
                    response_schema=answers or None,
                    example=_example(trigger, body, query),
                )
            )
    return {"routes": found, "base_url": ask.means.address}


def _schema(validator: Validator | None) -> dict[str, Any] | None:
    return None if validator is None else validator.json_schema()


def _example(
    trigger: HttpTrigger, body: dict[str, Any] | None, query: dict[str, Any] | None
) -> dict[str, Any]:
    names = [part[1:-1] for part in trigger.path.split("/") if part.startswith("{")]
    made: dict[str, Any] = {}
    if names:
        made["path"] = {name: name for name in names}
    if body is not None:
        made["body"] = _sample(body, body.get("$defs", {}), 0)
    if query is not None:
        made["query"] = _sample(query, query.get("$defs", {}), 0)
    return made


def _sample(schema: Any, definitions: dict[str, Any], depth: int) -> Any:
    """A value of the schema's shape, for people to fill in."""
    if not isinstance(schema, dict) or depth > SAMPLE_DEPTH:
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _sample(definitions.get(reference.rpartition("/")[2]), definitions, depth + 1)
    for name in ("example", "default", "const"):
        if name in schema:
            return schema[name]
    for name in ("enum", "examples"):
        if schema.get(name):
            return schema[name][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _sample(schema[name][0], definitions, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        fields = schema.get("properties", {})
        return {name: _sample(each, definitions, depth + 1) for name, each in fields.items()}
    if kind == "array":
        return (
            [_sample(schema["items"], definitions, depth + 1)]
            if isinstance(schema.get("items"), dict)
            else []
        )
    samples = {"string": "text", "integer": schema.get("minimum", 1), "number": 1.5, "boolean": True}
    return samples.get(str(kind))


# ------------------------------------------------------------------------------------- the request builder


class _Asked(Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str] = {}
    body: Raw | UnsetType = UNSET


async def request(ask: Ask) -> dict[str, Any]:
    given, means = ask.read(_Asked), ask.means
    method = given.method.upper()
    if method not in METHODS:
        raise BadField("method", f"expected one of {', '.join(METHODS)}")
    split = urlsplit(given.path)
    if not split.path.startswith("/") or split.netloc or not given.path.isascii():
        raise BadField("path", "expected a path that begins with / and is percent-encoded")
    trace = new()
    headers = {name.lower(): value for name, value in given.headers.items()}
    headers.setdefault("traceparent", trace.traceparent)
    content = b"" if given.body is UNSET else json_of(given.body, "body")
    if content:
        headers.setdefault("content-type", "application/json")
    try:
        raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    except UnicodeEncodeError:
        raise BadField("headers", "names and values are Latin-1") from None
    asked = Request(method, split.path, split.query.encode(), raw_headers, client="console")
    asked.raw = content
    shown = Redaction(means.config.log.redact).text(given.path)  # a query may have a token in it
    told = ask.by.did(means.store, "request", method=method, path=shown, bytes=len(content))
    await means.store.commit(Txn((told,)))
    began = time.perf_counter()
    answer = await means.endpoint.answer(asked)
    body = await _body(answer)
    return {
        "status": answer.status,
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers},
        "body": body,
        "ms": round((time.perf_counter() - began) * 1000, 2),
        "trace_id": headers["traceparent"].split("-")[1] if "-" in headers["traceparent"] else "",
    }


async def _body(answer: Answer) -> str:
    if not isinstance(answer.body, Stream):
        return answer.body.decode(errors="replace")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(STREAM_S):
            async for chunk in answer.body:
                parts.append(chunk)
                size += len(chunk)
                if size > STREAM_BYTES_MAX:
                    break
    except TimeoutError:
        parts.append(b"\n(the stream goes on)")
    except StreamBroken as error:
        parts.append(f"\n(the stream broke: {error})".encode())
    finally:
        await answer.body.aclose()
    return b"".join(parts).decode(errors="replace")


ROUTES = (
    ("GET", "/api/routes", routes),
    ("POST", "/api/request", request),
)
