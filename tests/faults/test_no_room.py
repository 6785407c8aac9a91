"""Without room new work is refused, what was accepted stays, and it goes on by itself when there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from disk_kit import DISKS, Disk

from iii.config import load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.handling.context import Context
from iii.web.request import Request

TEXT = "x" * 200_000
POSTS_MAX = 1_000
TIMEOUT_S = 60


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = DISKS[request.param](folder, monkeypatch)
    yield disk
    disk.remove()


class Work:
    """POST /accept stores a text and enqueues; the queue's handler waits at the gate."""

    def __init__(self) -> None:
        self.gate, self.runs = asyncio.Event(), list[str]()
        http = {"type": "http", "method": "POST", "path": "/accept"}
        queue = {"type": "queue", "topic": "work", "config": {"concurrency": 100}}
        self.steps = [
            make_step({"name": "Accept", "triggers": [http]}, self.accept),
            make_step({"name": "Do", "triggers": [queue]}, self.work),
        ]

    async def accept(self, request: Request, ctx: Context) -> dict[str, str]:
        await ctx.state.set("accepted", ctx.message_id or str(request.body["n"]), request.body["n"])
        await ctx.enqueue("work", {"n": request.body["n"], "text": TEXT})
        return {"accepted": request.body["n"]}

    async def work(self, message: Any, ctx: Context) -> None:
        self.runs.append(message["n"])
        await self.gate.wait()
        await ctx.state.set("done", str(message["n"]), True)


async def _post_until_refused(http: httpx.AsyncClient, accepted: set[int]) -> httpx.Response:
    for n in range(POSTS_MAX):
        answer = await http.post("/accept", json={"n": n})
        if answer.status_code != 200:
            return answer
        accepted.add(n)
    raise AssertionError("never refused")


async def _done(engine: Engine) -> set[int]:
    return {int(key) for key, _ in await engine.state.items("done")}


async def test_without_room_work_is_refused_nothing_accepted_is_lost_and_it_recovers_by_itself(
    disk: Disk,
) -> None:
    config = disk.folder / "iii-config.yaml"
    config.write_text(f"store: {{path: data, map_size: {disk.map_size}}}\n")
    (disk.folder / "steps").mkdir()
    work, accepted = Work(), set[int]()
    async with asyncio.timeout(TIMEOUT_S), Engine(load(config), work.steps) as engine:
        transport = httpx.ASGITransport(engine.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.post("/accept", json={"n": -1})).status_code == 200
            accepted.add(-1)
            disk.fill()
            refused = await _post_until_refused(http, accepted)
            assert refused.status_code == 503 and "retry-after" in refused.headers
            assert set(await engine.state.list("accepted")) == accepted
            work.gate.set()
            if disk.keeps_room_for_settlements:
                await engine.idle()
                assert await _done(engine) == accepted, "what was accepted is done although there is no room"
            disk.free()
            await engine.idle()
            await asyncio.sleep(0)
            assert (await http.post("/accept", json={"n": -2})).status_code == 200
            accepted.add(-2)
            await engine.idle()
        assert await _done(engine) == accepted
        assert sorted(work.runs) == sorted(accepted), "a handler is not run again for a store that is full"
        assert engine.store.verify() == []  # type: ignore[attr-defined]
