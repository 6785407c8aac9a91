"""One answer at every door: the console's API. See engine/test_doors.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from console_kit import Console, serving
from door_kinds import KEPT, LONG_KEY, TEXTS, whole

JSON = {"content-type": "application/json"}


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with serving(tmp_path) as running:
        yield running


async def test_json_that_cannot_be_stored_is_400_with_its_field(console: Console) -> None:
    [id] = await console.engine.enqueue("waits", 1)
    doors = (
        ("PUT", "/api/state/n/k", "value", "{"),
        ("POST", "/api/enqueue", "data", '{"topic": "t", '),
        ("POST", f"/api/messages/{id}/resend", "payload", "{"),
    )
    for kind in TEXTS.values():
        for method, path, field, begin in doors:
            content = f'{begin}"{field}": {kind.content}}}'
            answer = await console.http.request(method, path, content=content, headers=JSON)
            error = answer.json()["error"]
            assert answer.status_code == 400 and kind.says in error["message"]
            assert error["field"] == (field if kind.says == "deep" else f"{field}.{kind.field}")
    assert await console.engine.state.namespaces() == [] and await console.audit() == []


async def test_json_is_read_back_as_it_was_written(console: Console) -> None:
    for value in KEPT.values():
        content = json.dumps({"value": whole(value)})
        assert (await console.http.put("/api/state/n/k", content=content, headers=JSON)).status_code == 200
        read: Any = await console.engine.state.get("n", "k")
        shown = (await console.http.get("/api/state/n/k")).json()["value"]
        assert [repr(each["a"]["b"]) for each in (read, shown)] == [repr(value)] * 2


NAMES = {
    "a long key": ("PUT", f"/api/state/n/{LONG_KEY}", {"value": 1}, "key"),
    "a long namespace": ("PUT", f"/api/state/{'n' * 129}/k", {"value": 1}, "namespace"),
    "a topic with a blank": ("POST", "/api/enqueue", {"topic": "my topic"}, "topic"),
    "the engine's topic": ("POST", "/api/enqueue", {"topic": "$x"}, "topic"),
    "a long group": ("POST", "/api/enqueue", {"topic": "t", "group": "g" * 381}, "group"),
    "a priority": ("POST", "/api/enqueue", {"topic": "t", "priority": "urgent"}, "priority"),
    "a delay": ("POST", "/api/enqueue", {"topic": "t", "delay": "soon"}, "delay"),
}


@pytest.mark.parametrize(("method", "path", "body", "field"), NAMES.values(), ids=NAMES)
async def test_a_name_that_no_store_takes_is_400_with_the_field(
    console: Console, method: str, path: str, body: Any, field: str
) -> None:
    assert (await console.refused(400, method, path, body))["field"] == field
    assert await console.audit() == []


async def test_what_is_too_large_is_413_with_the_field(console: Console) -> None:
    large = "x" * (4 << 20)
    assert (await console.refused(413, "PUT", "/api/state/n/k", {"value": large}))["field"] == "value"
    error = await console.refused(413, "POST", "/api/enqueue", {"topic": "t", "data": large})
    assert error["field"] == "payload"


async def test_no_key_beyond_the_limit_is_there_to_be_read(console: Console) -> None:
    await console.refused(404, "GET", f"/api/state/n/{LONG_KEY}")


NOT_UTF_8 = ["%ff", "%ed%a0%80", "%c0%af", "a%80", "%f4%90%80%80"]


@pytest.mark.parametrize("odd", NOT_UTF_8)
async def test_a_name_that_is_not_utf_8_is_400_with_its_field_and_names_nothing(
    console: Console, odd: str
) -> None:
    doors = (
        ("PUT", f"/api/state/ns/{odd}", "path"),
        ("PUT", f"/api/state/{odd}/k", "path"),
        ("GET", f"/api/state/ns/{odd}", "path"),
        ("DELETE", f"/api/state/ns/{odd}", "path"),
        ("POST", f"/api/queues/{odd}/pause", "path"),
        ("GET", f"/api/state/ns?prefix={odd}", "query"),
        ("GET", f"/api/state/ns?after={odd}", "query"),
        ("GET", f"/api/traces?q={odd}", "query"),
    )
    for method, path, field in doors:
        content = b'{"value": 1}' if method != "GET" else b""
        answer = await console.http.request(method, path, content=content, headers=JSON)
        assert answer.status_code == 400, path
        assert answer.json()["error"]["field"] == field and "UTF-8" in answer.text
    assert await console.engine.state.namespaces() == [] and await console.audit() == []


async def test_a_name_is_read_back_as_it_was_percent_encoded(console: Console) -> None:
    for encoded, key in (("%EF%BF%BD", "\ufffd"), ("b%2Fc", "b/c"), ("%C3%A9", "\xe9"), ("%25ff", "%ff")):
        answer = await console.http.put(f"/api/state/ns/{encoded}", json={"value": key})
        assert answer.status_code == 200
        assert await console.engine.state.get("ns", key) == key
