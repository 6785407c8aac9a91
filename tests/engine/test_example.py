"""The example in steps/, end to end, as its users would test it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iii.testing import Harness, harness

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def app() -> AsyncIterator[Harness]:
    async with harness(ROOT / "steps") as app:
        yield app


async def test_a_message_is_accepted_processed_and_notified(app: Harness) -> None:
    reply = await app.post("/messages", json={"text": "Process this", "priority": "high"})
    assert reply.status == 200
    assert reply.json()["status"] == "enqueued"
    message_id = reply.json()["messageId"]
    assert (await app.state.get("messages", message_id))["status"] == "pending"

    await app.settle()

    message = await app.state.get("messages", message_id)
    assert message["status"] == "processed"
    assert message["processedText"] == "PROCESS THIS"
    assert message["processingTime"] == 100
    assert message["text"] == "Process this"
    told = [line for line in app.logs if line.message == "Notification sent"]
    assert [line.fields["messageId"] for line in told] == [message_id]
    assert [waiting.data["processedText"] for waiting in app.queued("message.processed")] == ["PROCESS THIS"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "x" * 501}, "text"),
        ({"text": "x", "priority": "urgent"}, "priority"),
        ({"text": "x", "metadata": {"userId": 7}}, "metadata.userId"),
        ({}, "text"),
    ],
)
async def test_bad_input_names_its_field_and_writes_nothing(app: Harness, body: object, field: str) -> None:
    reply = await app.post("/messages", json=body)
    assert reply.status == 400
    assert [detail["path"] for detail in reply.json()["details"]] == [field]
    assert await app.state.namespaces() == []
    assert app.queued("message.sent") == []


async def test_the_cleanup_deletes_processed_messages_after_30_days(app: Harness) -> None:
    reply = await app.post("/messages", json={"text": "old", "priority": "high"})
    await app.settle()
    await app.state.set("messages", "stuck", {"status": "pending", "createdAt": "2020-01-01T00:00:00+00:00"})

    await app.state.set("messages", "foreign", "hello")

    await app.advance("30d")
    assert await app.state.get("messages", reply.json()["messageId"]) is not None
    await app.advance("1d")

    assert await app.state.get("messages", reply.json()["messageId"]) is None
    assert await app.state.get("messages", "stuck") is not None
    cleanups = [line.fields for line in app.logs if line.message == "Cleanup completed"]
    assert len(cleanups) == 31
    assert cleanups[-1] == {"totalMessages": 3, "deletedCount": 1}


async def test_a_message_that_cannot_be_processed_dies_with_its_error_in_the_state(app: Harness) -> None:
    await app.state.set("messages", "msg-1", "not an object")
    await app.enqueue("message.sent", {"messageId": "msg-1", "text": "x", "priority": "high"})
    await app.advance("1m")
    (letter,) = app.dead("message.failed")
    assert letter.attempts == 4
    assert "BadMerge" in letter.error
