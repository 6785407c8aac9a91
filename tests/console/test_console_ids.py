"""Messages in the console are called what handlers call them, and found by their number alone too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from console_kit import Console, serving, step, until

from iii import queue
from iii.config import QueueConfig
from iii.store.audit import audits

QUEUES = {"mail": QueueConfig(max_retries=0), "again": QueueConfig(retry_delay_ms=3_600_000, max_retries=2)}


async def broken(mail: Any) -> None:
    raise ValueError("broke")


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    steps = [step(broken, queue(topic), name=topic.title()) for topic in QUEUES]
    async with serving(tmp_path, *steps, queues=QUEUES) as console:
        yield console


async def send(console: Console, topic: str) -> str:
    return str((await console.post("/api/enqueue", {"topic": topic, "data": 1}))["ids"][0])


async def _is(console: Console, id: str, state: str) -> bool:
    answer = await console.http.get(f"/api/messages/{id}")
    return answer.status_code == 200 and answer.json()["state"] == state


async def test_a_message_is_found_in_full_and_by_its_number_alone(console: Console) -> None:
    id = await send(console, "nobody")
    epoch, number = id.split("-")
    for name in (id, number):
        assert (await console.get(f"/api/messages/{name}"))["id"] == id
        found = await console.get("/api/queues/nobody/messages", q=name)
        assert [each["id"] for each in found["messages"]] == [id]
    assert len(epoch) == 12
    for name in (f"0123456789ab-{number}", f"{epoch}-999", "x", "-1", f"{id}-1"):
        refused = await console.http.get(f"/api/messages/{name}")
        assert refused.status_code == 404, name
        assert f"no message {name} in the store" in refused.text


async def test_acts_name_messages_in_both_forms_and_the_audit_log_in_full(console: Console) -> None:
    ids = [await send(console, "mail") for _ in range(3)]
    for id in ids:
        await until(lambda id=id: _is(console, id, "dead"))
    numbers = [id.split("-")[1] for id in ids]
    bulk = {"topic": "mail", "ids": [ids[0], numbers[1], f"0123456789ab-{numbers[2]}"]}
    assert await console.post("/api/queues/redrive", bulk | {"dry_run": True}) == {"count": 2}
    given = {"topic": "mail.failed", "ids": [ids[0], numbers[1]], "filter": {"state": "dead"}}
    assert await console.post("/api/queues/discard", given) == {"count": 2}
    new = (await console.post(f"/api/messages/{numbers[2]}/resend", {"payload": 1, "delay_ms": 60_000}))["id"]
    assert (await console.get(f"/api/messages/{new}"))["payload"] == 1
    told = [row.entry.detail for row in audits(console.engine.store) if row.entry.what != "enqueue"]
    assert [detail.get("ids", detail.get("id")) for detail in told] == [ids[2], ids[:2]]
    refused = await console.http.post("/api/queues/discard", json={"topic": "mail", "ids": ["x"]})
    assert refused.status_code == 400 and "12 hex digits" in refused.text


async def test_the_runs_of_a_message_are_found_by_either_form(console: Console) -> None:
    id = await send(console, "again")
    await until(lambda: _is(console, id, "later"))
    for name in (id, id.split("-")[1]):
        assert [run["message_id"] for run in (await console.get(f"/api/messages/{name}"))["runs"]] == [id]
