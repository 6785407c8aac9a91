"""Cross-origin requests by config, and the routes as an OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from web_kit import Site, get, post, site, step

from iii.config import CorsConfig, HttpConfig
from iii.step import http

PREFLIGHT = {
    "Origin": "https://a.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, x-a",
}


def allowing(**options: Any) -> HttpConfig:
    return HttpConfig(cors=CorsConfig(**options))


async def test_without_cors_in_the_config_no_page_may_read_an_answer() -> None:
    async with site(post("/", lambda: "ok")) as running:
        reply = await running.send("OPTIONS", "/", headers=PREFLIGHT)
        assert (reply.status, reply.header("allow")) == (204, "OPTIONS, POST")
        assert reply.header("access-control-allow-origin") is None
        reply = await running.send("POST", "/", headers={"Origin": "https://a.example"})
        assert reply.header("access-control-allow-origin") is None


async def test_a_named_origin_is_answered_and_another_is_not() -> None:
    config = allowing(origins=("https://a.example",), credentials=True, headers=("content-type",), max_age=5)
    async with site(post("/", lambda: "ok"), config=config) as running:
        reply = await running.send("OPTIONS", "/", headers=PREFLIGHT)
        assert reply.status == 204
        assert reply.header("access-control-allow-origin") == "https://a.example"
        assert reply.header("access-control-allow-credentials") == "true"
        assert "POST" in (reply.header("access-control-allow-methods") or "")
        assert reply.header("access-control-allow-headers") == "content-type"
        assert reply.header("access-control-max-age") == "5"
        assert "Origin" in reply.headers("vary")
        reply = await running.send("OPTIONS", "/", headers=PREFLIGHT | {"Origin": "https://b.example"})
        assert reply.header("access-control-allow-origin") is None
        assert reply.header("access-control-allow-methods") is None
        reply = await running.send("POST", "/", headers={"Origin": "https://b.example"})
        assert (reply.body, reply.header("access-control-allow-origin")) == (b"ok", None)
        assert (await running.send("POST", "/")).headers("vary") == ["Origin"]


async def test_any_origin_is_a_star_and_asked_headers_are_granted() -> None:
    async with site(post("/", lambda: "ok"), config=allowing()) as running:
        reply = await running.send("OPTIONS", "/", headers=PREFLIGHT)
        assert reply.header("access-control-allow-origin") == "*"
        assert reply.header("access-control-allow-headers") == "content-type, x-a"
        assert reply.header("access-control-allow-credentials") is None


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_page_may_read_errors_too(method: str) -> None:
    def fails() -> None:
        raise RuntimeError

    async with site(post("/", fails), config=allowing()) as running:
        reply = await running.send(method, "/", headers={"Origin": "https://a.example"})
        assert reply.status in (405, 500)
        assert reply.header("access-control-allow-origin") == "*"


class Item(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=10)]


class Order(msgspec.Struct):
    items: list[Item]
    priority: Literal["low", "high"] = "low"


class Page(msgspec.Struct):
    limit: int
    tag: list[str] = []


def _refs(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_refs, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(_refs, node.values()))


async def _document(running: Site) -> Any:
    reply = await running.send("GET", "/openapi.json")
    assert reply.status == 200
    return reply.json()


async def test_the_routes_are_described_from_their_schemas() -> None:
    make = step(
        lambda: None,
        http("POST", "/orders/:id", body_schema=Order, query_params=Page, response_schema={201: Item}),
        name="Make",
        description="Makes an order",
    )
    async with site(make, get("/orders", lambda: None, name="All")) as running:
        document = await _document(running)
        assert document["openapi"] == "3.1.0"
        operation = document["paths"]["/orders/{id}"]["post"]
        assert operation["summary"] == "Makes an order"
        assert [(p["name"], p["in"], p["required"]) for p in operation["parameters"]] == [
            ("id", "path", True),
            ("limit", "query", True),
            ("tag", "query", False),
        ]
        refused = {"400", "404", "409", "421", "431", "500", "503", "504"}
        assert set(operation["responses"]) == {"201", *refused, "408", "413", "415", "422", "default"}
        assert set(document["paths"]["/orders"]["get"]["responses"]) == {"200", *refused, "default"}
        schemas, responses = document["components"]["schemas"], document["components"]["responses"]
        known = {f"#/components/schemas/{name}" for name in schemas}
        known |= {f"#/components/responses/{name}" for name in responses}
        assert _refs(document) <= known
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        check = jsonschema.Draft202012Validator({**body, "components": document["components"]})
        assert check.is_valid({"items": [{"name": "a"}]})
        assert not check.is_valid({"items": [{"name": "a" * 11}]})


async def test_two_definitions_of_one_name_are_kept_apart() -> None:
    def defined(kind: str) -> dict[str, Any]:
        return {"$ref": "#/$defs/Thing", "$defs": {"Thing": {"type": kind}}}

    steps = [
        post(f"/{kind}", lambda: None, name=kind.title(), body_schema=defined(kind))
        for kind in ("object", "array", "string")
    ]
    async with site(*steps) as running:
        document = await _document(running)
        for kind in ("object", "array", "string"):
            content = document["paths"][f"/{kind}"]["post"]["requestBody"]["content"]["application/json"]
            name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
            assert document["components"]["schemas"][name] == {"type": kind}


async def test_a_step_may_take_the_documents_path() -> None:
    async with site(get("/openapi.json", lambda: "mine")) as running:
        assert (await running.send("GET", "/openapi.json")).body == b"mine"
