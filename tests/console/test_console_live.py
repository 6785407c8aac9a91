"""What the console tells live, and who of several engines serves it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from console_kit import CONSOLE, Console, config, send_message, serving

from iii import Engine
from iii.config import ConsoleConfig
from iii.console.hub import QUEUE_MAX, Hub, Listener
from iii.errors import ConfigError


async def test_two_browsers_hear_of_the_same_run_and_change(example: Console) -> None:
    async with example.listening("runs", "changes") as one, example.listening("runs", "changes") as other:
        await send_message(example)
        for events in (one, other):
            run = await events.until("run", lambda run: run.get("step") == "NotifyCompletion")
            assert run["outcome"] == "done" and run["trigger"]["type"] == "state"
        await example.http.put("/api/state/live/k", json={"value": 1})
        for events in (one, other):
            change = await events.until("change", lambda change: change["namespace"] == "live")
            assert (change["key"], change["type"]) == ("k", "created")


async def test_the_overview_and_the_queues_are_told_each_second(example: Console) -> None:
    async with example.listening("overview", "queues") as events:
        first = await events.until("overview")
        assert {"now_ms", "totals", "rates", "latency"} <= set(first)
        await example.post("/api/queues/pause", {"topic": "message.sent"})
        changed = await events.until("queues", lambda data: data["queues"][0]["paused"])
        assert [row["topic"] for row in changed["queues"]] == ["message.sent"], "only what changed"
    await example.refused(400, "GET", "/api/events?topics=nothing")


async def test_streams_end_as_the_engine_drains(tmp_path: Path) -> None:
    async with serving(tmp_path) as console, console.listening("overview") as events:
        stopping = asyncio.create_task(console.engine.stop())
        await events.ended()
        await asyncio.wait_for(stopping, 20)


async def test_one_producer_serves_all_and_runs_only_while_somebody_listens() -> None:
    made = 0
    pulled = asyncio.Event()

    async def produce() -> AsyncIterator[tuple[str, object]]:
        nonlocal made
        made += 1
        while True:
            yield "tick", made
            await pulled.wait()
            pulled.clear()

    hub = Hub({"ticks": produce})
    one, other = hub.join(["ticks"]), hub.join(["ticks"])
    frames = [await one.wait(20), await other.wait(20)]
    assert made == 1 and frames == [b"event: tick\ndata: 1\n\n"] * 2
    hub.leave(one)
    hub.leave(other)
    again = hub.join(["ticks"])
    assert await again.wait(20) == b"event: tick\ndata: 2\n\n"
    hub.close()
    assert again.closed and hub.join(["ticks"]).closed


async def test_a_slow_listener_loses_events_and_hears_how_many() -> None:
    listener = Listener(["runs"])
    for n in range(QUEUE_MAX + 7):
        listener.put("run", b"data: %d\n\n" % n)
    content = await listener.wait(1)
    assert (
        content.startswith(b'event: run\ndata: {"skipped":7}\n\n') and content.count(b"\n\n") == QUEUE_MAX + 1
    )
    assert await listener.wait(0.01) == b"", "nothing is told twice"


# ------------------------------------------------------------------------------------------------ port


async def test_a_taken_console_port_names_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with serving(tmp_path) as console:
        port = int(console.address.rpartition(":")[2])
        stranger = Engine(config(tmp_path / "other", ConsoleConfig(port=port)), [], console=True)
        with pytest.raises(ConfigError, match=f"taken by process {os.getpid()}") as refused:
            await stranger.start()
        assert refused.value.field == "console.port"


async def test_a_sibling_leaves_the_console_to_who_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as console:
        port = int(console.address.rpartition(":")[2])
        caplog.set_level("INFO", "iii.console")
        async with Engine(config(tmp_path, ConsoleConfig(port=port)), [], console=True) as sibling:
            assert sibling.report().console is None
            assert len((await console.get("/api/instances"))["instances"]) == 2
        told = [each.message for each in caplog.records if "served by instance" in each.message]
        assert len(told) == 1


async def test_an_embedded_engine_serves_no_console_unasked(tmp_path: Path) -> None:
    async with Engine(config(tmp_path), []) as engine:
        assert engine.report().console is None
    async with Engine(config(tmp_path, ConsoleConfig(enabled=False)), [], console=True) as engine:
        assert engine.report().console is None
    assert CONSOLE.enabled
