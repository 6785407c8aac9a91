"""What /openapi.json says is what an engine does: the document is valid, and schemathesis, which makes
requests from it, finds nothing. The project has typed routes of every kind of schema."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
import requests
import schemathesis
from engine_kit import config
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode, checks

from iii.config import HttpConfig
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.step import Step, http
from iii.store.memory import MemoryStore


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Item(msgspec.Struct, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}[0-9]+$", max_length=20)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class Order(msgspec.Struct):
    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=5)]
    size: Size
    priority: Literal["low", "high"] = "low"
    note: str | None = None


class Receipt(msgspec.Struct):
    id: str
    items: int


class Page(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)]
    dry: bool = False
    tag: list[str] = []


class User(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    name: str = pydantic.Field(min_length=1, max_length=20)
    age: int = pydantic.Field(ge=0, le=150)
    friends: list[User] = pydantic.Field(default=[], max_length=3)


@dataclass
class Note:
    text: str
    stars: Annotated[int, msgspec.Meta(ge=0, le=5)] = 0


class Labels(TypedDict):
    name: str
    colour: NotRequired[str]


TREE: dict[str, Any] = {
    "$defs": {
        "a node/of the tree": {
            "type": "object",
            "additionalProperties": False,
            "required": ["value"],
            "properties": {
                "value": {"type": "integer", "minimum": 0, "maximum": 2**53},
                "kind": {"enum": ["leaf", "branch"]},
                "children": {
                    "type": "array",
                    "maxItems": 2,
                    "items": {"$ref": "#/$defs/a node~1of the tree"},
                },
            },
        }
    },
    "$ref": "#/$defs/a node~1of the tree",
}
LINKED: dict[str, Any] = {
    "type": "object",
    "required": ["value"],
    "properties": {"value": {"type": "string", "maxLength": 9}, "next": {"$ref": "#"}},
    "additionalProperties": False,
}
OLD: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "array",
    "items": [{"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, {"type": "string"}],
    "additionalItems": False,
}
FILTER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "page": {"type": "integer", "minimum": 1, "maximum": 9},
        "exact": {"type": "boolean"},
        "sort": {"enum": ["name", "age"]},
    },
    "required": ["page"],
}


async def order(request: Any) -> Any:
    return {"status": 201, "body": Receipt(request.path_params["shop"], len(request.body.items))}


async def echo(request: Any) -> Any:
    return request.body


async def found(request: Any) -> Any:
    return {"of": request.path_params["id"], "page": request.query_params["page"]}


async def listed(request: Any) -> Any:
    return [request.query_params.limit, request.query_params.dry, *request.query_params.tag]


async def gone() -> None:
    return None


FOUND = {"type": "object", "properties": {"of": {"type": "string"}, "page": {"type": "integer"}}}
STEPS: dict[str, tuple[Any, Any]] = {
    "Order": (order, http("POST", "/shops/{shop}/orders", body_schema=Order, response_schema={201: Receipt})),
    "Page": (
        listed,
        http("GET", "/shops/{name}/orders", query_params=Page, response_schema={200: list[Any]}),
    ),
    "User": (echo, http("PUT", "/users", body_schema=User, response_schema={200: User})),
    "Tree": (echo, http("PATCH", "/tree", body_schema=TREE, response_schema={200: TREE})),
    "Linked": (echo, http("POST", "/linked", body_schema=LINKED, response_schema={200: LINKED})),
    "Old": (echo, http("POST", "/old", body_schema=OLD, response_schema={200: {"type": "array"}})),
    "Note": (echo, http("POST", "/notes", body_schema=Note, response_schema={200: Note})),
    "Labels": (echo, http("POST", "/labels", body_schema=dict[str, Labels])),
    "Found": (found, http("GET", "/users/{id}", query_params=FILTER, response_schema={200: FOUND})),
    "Gone": (gone, http("DELETE", "/users/{id}")),
    "Any": (echo, http("POST", "/any")),
}


def steps() -> list[Step]:
    return [
        make_step({"name": name, "triggers": [trigger]}, handler)
        for name, (handler, trigger) in STEPS.items()
    ]


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    async with Engine(config(http=HttpConfig(port=0)), steps(), store=MemoryStore(), serve=True) as engine:
        yield engine.report().address or ""


async def test_the_document_is_valid() -> None:
    async with serving() as url:
        document = (await asyncio.to_thread(requests.get, f"{url}/openapi.json", timeout=10)).json()
    OpenAPIV31SpecValidator(document).validate()
    assert len(document["paths"]) == 9


checks.load_all_checks()
CHECKS = [
    checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance", "response_headers_conformance", "negative_data_rejection",
    )
]  # fmt: skip


SETTINGS = settings(
    derandomize=True,
    max_examples=12,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", GenerationMode)
async def test_requests_made_from_the_document_are_answered_as_it_says(mode: GenerationMode) -> None:
    async with serving() as url:
        await asyncio.to_thread(ask, url, mode)


def ask(url: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        for each in schema.get_all_operations():
            operation = each.ok()
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
                continue  # nothing in it can be wrong

            @SETTINGS
            @given(case=operation.as_strategy(mode))
            def answered(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, session=session)

            answered()
