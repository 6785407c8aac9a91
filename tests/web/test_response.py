"""What a handler returns and what is sent for it."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from web_kit import Reply, get, site

from iii.step import Cancel, Response, Snooze


class Point(msgspec.Struct):
    x: int


@dataclass
class Order:
    id: str
    at: datetime.date


async def reply_to(value: object, **options: Any) -> Reply:
    async def handler() -> object:
        return value

    async with site(get("/", handler, **options)) as running:
        return await running.send("GET", "/")


BODIES: dict[str, tuple[object, bytes, str | None]] = {
    "str": ("héllo", "héllo".encode(), "text/plain; charset=utf-8"),
    "empty str": ("", b"", "text/plain; charset=utf-8"),
    "bytes": (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
    "memoryview": (memoryview(b"ab"), b"ab", "application/octet-stream"),
    "dict": ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
    "list": ([1], b"[1]", "application/json"),
    "number": (1.5, b"1.5", "application/json"),
    "false": (False, b"false", "application/json"),
    "Struct": (Point(1), b'{"x":1}', "application/json"),
    "dataclass": (Order("a", datetime.date(2026, 1, 2)), b'{"id":"a","at":"2026-01-02"}', "application/json"),
    "Decimal": ({"sum": decimal.Decimal("1.10")}, b'{"sum":"1.10"}', "application/json"),
    "int keys": ({1: "a"}, b'{"1":"a"}', "application/json"),
}


@pytest.mark.parametrize(("value", "body", "kind"), BODIES.values(), ids=BODIES)
async def test_a_bare_value_is_a_200_body(value: object, body: bytes, kind: str | None) -> None:
    reply = await reply_to(value)
    assert (reply.status, reply.body) == (200, body)
    assert reply.header("content-type") == kind
    assert reply.header("content-length") == str(len(body))


async def test_nothing_is_204() -> None:
    reply = await reply_to(None)
    assert (reply.status, reply.body, reply.header("content-length")) == (204, b"", None)
    assert reply.header("content-type") is None


async def test_a_response_is_sent_as_it_is() -> None:
    reply = await reply_to(
        Response(201, {"id": 1}, {"X-Tag": "a", "Location": "/orders/1", "retry-after": 5})
    )
    assert (reply.status, reply.json()) == (201, {"id": 1})
    assert (reply.header("x-tag"), reply.header("location")) == ("a", "/orders/1")
    assert reply.header("retry-after") == "5"


async def test_a_response_without_body_is_empty() -> None:
    reply = await reply_to(Response(200))
    assert (reply.status, reply.body, reply.header("content-length")) == (200, b"", "0")


async def test_a_dict_with_a_status_is_a_response() -> None:
    reply = await reply_to({"status": 202, "body": "later", "headers": {"x-a": "1"}})
    assert (reply.status, reply.body, reply.header("x-a")) == (202, b"later", "1")
    assert (await reply_to({"status": 404})).status == 404


@pytest.mark.parametrize(
    "value", [{"status": "ok"}, {"status": 200, "id": 1}, {"body": 1}, {"status": True}, {"status": None}]
)
async def test_a_dict_that_merely_has_a_status_field_is_a_body(value: dict[str, Any]) -> None:
    reply = await reply_to(value)
    assert (reply.status, reply.json()) == (200, value)


async def test_several_headers_of_one_name_come_as_a_list() -> None:
    reply = await reply_to(Response(200, None, {"Set-Cookie": ["a=1; HttpOnly", "b=2"]}))
    assert reply.headers("set-cookie") == ["a=1; HttpOnly", "b=2"]


async def test_the_handlers_content_type_wins() -> None:
    reply = await reply_to(Response(200, "<p>", {"Content-Type": "text/html"}))
    assert reply.headers("content-type") == ["text/html"]


UNSENDABLE: dict[str, object] = {
    "status 99": Response(99),
    "status 101": Response(101),
    "status 600": {"status": 600},
    "a body with 204": Response(204, "text"),
    "not JSON": {"a": object()},
    "NaN": {"a": float("nan")},
    "CR and LF in a value": Response(200, None, {"x-a": "1\r\nset-cookie: evil=1"}),
    "LF in a value": Response(200, None, {"x-a": "1\n2"}),
    "NUL in a value": Response(200, None, {"x-a": "1\x00"}),
    "CR in a list": Response(200, None, {"x-a": ["ok", "1\r2"]}),
    "LF in a name": Response(200, None, {"x-a\nx-b": "1"}),
    "colon in a name": Response(200, None, {"x-a:": "1"}),
    "empty name": Response(200, None, {"": "1"}),
    "not latin-1": Response(200, None, {"x-a": "☃"}),
    "a redirect that goes on": Response(302, None, {"Location": "/a\r\n\r\n<script>"}),
    "a cookie with a line end": Response(200, None, {"Set-Cookie": ["a=1", "b=2\n"]}),
    "a content type with NUL": Response(200, "a", {"Content-Type": "text/html\0"}),
    "a file name that is not latin-1": Response(200, b"", {"Content-Disposition": 'a; filename="\u2028"'}),
    "a lone surrogate": Response(200, None, {"x-a": "\ud800"}),
    "a line end before a streamed body": Response(200, iter(["a"]), {"x-a": "1\r\nx-b: 2"}),
    "a header that is no str": Response(200, None, {"x-a": b"1"}),  # type: ignore[dict-item]
    "headers that are a list": {"status": 200, "headers": [("a", "b")]},
    "the server's own header": Response(200, "a", {"Content-Length": "100"}),
    "Transfer-Encoding": Response(200, "a", {"transfer-encoding": "chunked"}),
    "Snooze": Snooze(5),
    "Cancel": Cancel("no"),
}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_what_cannot_be_sent_is_500_and_nothing_is_written(value: object) -> None:
    async def handler(request: Any, ctx: Any) -> object:
        await ctx.state.set("a", "b", 1)
        return value

    async with site(get("/", handler)) as running:
        reply = await running.send("GET", "/")
        assert (reply.status, reply.json()["error"]) == (500, "internal error")
        assert running.is_untouched


RESPONSES = {200: {"type": "object", "required": ["id"]}, 404: {"type": "string"}}
FITTING: dict[str, tuple[object, int]] = {
    "fits": ({"id": 1}, 200),
    "another status fits": (Response(404, "gone"), 404),
    "a status without a schema": (Response(500, [1]), 500),
    "JSON text": (Response(200, '{"id": 1}', {"content-type": "application/json"}), 200),
}


@pytest.mark.parametrize(("value", "status"), FITTING.values(), ids=FITTING)
async def test_an_answer_that_fits_its_response_schema_is_sent(value: object, status: int) -> None:
    reply = await reply_to(value, response_schema=RESPONSES)
    assert reply.status == status
    assert b"traceId" not in reply.body


@pytest.mark.parametrize("value", [{"name": 1}, "text", Response(404, {"id": 1}), Response(200)])
async def test_an_answer_that_does_not_fit_is_500_and_nothing_is_written(value: object) -> None:
    async def handler(request: Any, ctx: Any) -> object:
        await ctx.state.set("a", "b", 1)
        return value

    async with site(get("/", handler, response_schema=RESPONSES)) as running:
        assert (await running.send("GET", "/")).status == 500
        assert running.is_untouched


async def test_a_struct_is_checked_as_the_json_it_becomes() -> None:
    assert (await reply_to(Point(1), response_schema={200: Point})).json() == {"x": 1}


SHAPES: dict[str, Callable[..., object]] = {
    "no arguments": lambda: "ok",
    "request": lambda request: request.path,
    "request and ctx": lambda request, ctx: ctx.trigger.path,
}


@pytest.mark.parametrize("handler", SHAPES.values(), ids=SHAPES)
async def test_a_plain_def_with_any_number_of_arguments_is_a_handler(handler: Callable[..., object]) -> None:
    async with site(get("/a", handler)) as running:
        assert (await running.send("GET", "/a")).status == 200
