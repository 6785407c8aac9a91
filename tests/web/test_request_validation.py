"""Bad requests get a 4xx that names the field, and write nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from web_kit import Site, get, post, site


class Message(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    priority: Literal["low", "normal", "high"] = "normal"
    metadata: dict[str, str] | None = None


async def send_message(request: Any, ctx: Any) -> Any:
    body = request.body
    await ctx.state.set("messages", "m", {"text": body.text, "priority": body.priority})
    await ctx.enqueue("message.sent", {"text": body.text}, priority=body.priority)
    return {"messageId": "m", "status": "enqueued"}


@pytest.fixture
async def messages() -> AsyncIterator[Site]:
    async with site(post("/messages", send_message, body_schema=Message)) as running:
        yield running


async def test_a_good_message_is_stored_and_enqueued_with_its_defaults(messages: Site) -> None:
    reply = await messages.send("POST", "/messages", json={"text": "hello"})
    assert (reply.status, reply.json()) == (200, {"messageId": "m", "status": "enqueued"})
    assert messages.value("messages", "m") == {"text": "hello", "priority": "normal"}
    assert [each.payload for each in messages.queued("message.sent")] == [b'{"text":"hello"}']


BAD_FIELDS = {
    "empty text": ({"text": ""}, "text"),
    "501 characters": ({"text": "x" * 501}, "text"),
    "no text": ({}, "text"),
    "text is a number": ({"text": 5}, "text"),
    "wrong priority": ({"text": "a", "priority": "urgent"}, "priority"),
    "wrong metadata": ({"text": "a", "metadata": {"userId": 7}}, "metadata.userId"),
    "metadata is a list": ({"text": "a", "metadata": []}, "metadata"),
    "a list": ([1], ""),
    "null": (None, ""),
}


@pytest.mark.parametrize(("body", "field"), BAD_FIELDS.values(), ids=BAD_FIELDS)
async def test_a_wrong_field_is_400_and_named(messages: Site, body: object, field: str) -> None:
    content = msgspec.json.encode(body)
    reply = await messages.send(
        "POST", "/messages", content=content, headers={"content-type": "application/json"}
    )
    assert reply.status == 400
    assert reply.json()["error"] == "validation failed"
    assert [each["path"] for each in reply.json()["details"]] == [field]
    assert all(each["message"] for each in reply.json()["details"])
    assert messages.is_untouched


BAD_JSON = {
    "broken": b'{"text": "a"',
    "a word": b"hello",
    "trailing comma": b'{"text": "a",}',
    "NaN": b'{"text": NaN}',
    "Infinity": b'{"text": "a", "metadata": {"n": Infinity}}',
    "NaN after a misfit": b'{"text": 1, "priority": NaN}',
    "invalid UTF-8": b'{"text": "\xff"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "100,000 nested brackets": b"[" * 100_000,
    "100,000 nested brackets, closed": b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 nested objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
async def test_what_is_no_json_is_400(messages: Site, content: bytes) -> None:
    reply = await messages.send(
        "POST", "/messages", content=content, headers={"content-type": "application/json"}
    )
    assert reply.status == 400
    assert reply.json()["error"]
    assert set(reply.json()["details"][0]) == {"path", "message"}
    assert messages.is_untouched


async def test_no_body_is_400(messages: Site) -> None:
    reply = await messages.send("POST", "/messages", headers={"content-type": "application/json"})
    assert reply.status == 400
    assert reply.json()["details"] == [{"path": "", "message": "a JSON body is required"}]
    assert (await messages.send("POST", "/messages")).status == 400
    assert messages.is_untouched


REFUSED_TYPES = {
    "form": ("application/x-www-form-urlencoded", b"text=hello"),
    "multipart": ("multipart/form-data; boundary=b", b"--b--"),
    "text": ("text/plain", b'{"text": "hello"}'),
    "bytes": ("application/octet-stream", b'{"text": "hello"}'),
    "text that speaks of JSON": ("text/plain; application/json", b'{"text": "hello"}'),
    "curl -d": ("application/x-www-form-urlencoded", b'{"text": "hello"}'),
    "a list": ("application/json, text/plain", b'{"text": "hello"}'),
    "JSON by another name": ("text/json", b'{"text": "hello"}'),
}


@pytest.mark.parametrize(("kind", "content"), REFUSED_TYPES.values(), ids=REFUSED_TYPES)
async def test_another_content_type_than_json_is_415_where_there_is_a_schema(
    messages: Site, kind: str, content: bytes
) -> None:
    reply = await messages.send("POST", "/messages", content=content, headers={"content-type": kind})
    assert reply.status == 415
    assert "application/json" in reply.json()["error"]
    assert reply.header("accept") == "application/json"
    assert messages.is_untouched


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"]
)
async def test_every_spelling_of_json_is_taken(messages: Site, kind: str) -> None:
    reply = await messages.send("POST", "/messages", content='{"text":"a"}', headers={"content-type": kind})
    assert reply.status == 200


async def test_a_body_of_no_content_type_is_415_any_page_can_have_one_sent(messages: Site) -> None:
    for content in ('{"text":"a"}', "text=a"):
        reply = await messages.send("POST", "/messages", content=content)
        assert reply.status == 415
        assert "content-type: application/json" in reply.json()["error"]
    assert (await messages.send("POST", "/messages")).status == 400
    assert messages.is_untouched


async def test_another_charset_is_415(messages: Site) -> None:
    kind = "application/json; charset=latin-1"
    reply = await messages.send("POST", "/messages", content='{"text":"a"}', headers={"content-type": kind})
    assert reply.status == 415
    assert messages.is_untouched


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
async def test_a_compressed_body_is_415(messages: Site, encoding: str) -> None:
    reply = await messages.send(
        "POST", "/messages", json={"text": "a"}, headers={"content-encoding": encoding}
    )
    assert reply.status == 415
    assert reply.header("accept-encoding") == "identity"
    assert messages.is_untouched


async def test_the_engine_goes_on_after_all_of_them(messages: Site) -> None:
    for content in BAD_JSON.values():
        await messages.send("POST", "/messages", content=content)
    assert (await messages.send("POST", "/messages", json={"text": "a"})).status == 200


class Page(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    tag: list[str] = []
    deep: bool = False


async def test_query_parameters_are_converted_and_get_their_defaults() -> None:
    async def listing(request: Any) -> Any:
        page = request.query_params
        return {"limit": page.limit, "tag": page.tag, "deep": page.deep, "raw": request.query["limit"]}

    async with site(get("/items", listing, query_params=Page)) as running:
        reply = await running.send("GET", "/items?limit=7&tag=a&tag=b&deep=true")
        assert reply.json() == {"limit": 7, "tag": ["a", "b"], "deep": True, "raw": "7"}
        reply = await running.send("GET", "/items?limit=0")
        assert (reply.status, reply.json()["details"][0]["path"]) == (400, "limit")
        reply = await running.send("GET", "/items?limit=many")
        assert (reply.status, reply.json()["details"][0]["path"]) == (400, "limit")


async def test_a_query_that_is_not_utf8_is_400() -> None:
    async def listing(request: Any) -> Any:
        return request.query.lists()

    async with site(get("/items", listing)) as running:
        assert (await running.send("GET", "/items?a=%C3%A9")).json() == {"a": ["é"]}
        reply = await running.send("GET", "/items?a=%ff")
        assert (reply.status, reply.json()["details"]) == (
            400,
            [{"path": "query", "message": "is not UTF-8"}],
        )
        assert (await running.send("GET", "/items?" + "a=1&" * 2000)).status == 400
