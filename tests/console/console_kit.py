"""A running engine with its console, asked over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from engine_kit import step

from iii import Engine
from iii.clock import Clock
from iii.config import Config, ConsoleConfig, HistoryConfig, HttpConfig, LogConfig, QueueConfig, StoreConfig
from iii.step import Step

DEADLINE_S = 20.0
CONSOLE = ConsoleConfig(port=0)
KEEP_ALL = HistoryConfig(traces_per_second=1_000_000)


class Console:
    """`http`: a client of the console; `engine`: whose it is."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient) -> None:
        self.engine, self.http = engine, http

    @property
    def address(self) -> str:
        return self.engine.report().console or ""

    async def get(self, path: str, **query: Any) -> Any:
        return told(await self.http.get(path, params=query))

    async def post(self, path: str, body: object = None) -> Any:
        return told(await self.http.post(path, json={} if body is None else body))

    async def refused(self, status: int, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The error of a request that is refused so."""
        answer = await self.http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        return error

    async def audit(self) -> list[tuple[str, dict[str, Any]]]:
        """What was done and its details, the oldest first."""
        entries = (await self.get("/api/audit"))["entries"]
        return [(entry["what"], entry["detail"]) for entry in reversed(entries)]

    @asynccontextmanager
    async def listening(self, *topics: str) -> AsyncIterator[Events]:
        path = f"/api/events?topics={','.join(topics)}"
        async with self.http.stream("GET", path, timeout=DEADLINE_S) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            events = Events(response)
            assert (await events.next())[0] == "hello"
            yield events


class Events:
    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and data."""
        name = ""
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))
        raise EOFError("the stream has ended")

    async def until(self, name: str, fits: Callable[[Any], bool] = lambda data: True) -> Any:
        """The data of the next event of this name that fits."""
        while True:
            event, data = await self.next()
            if event == name and fits(data):
                return data

    async def ended(self) -> None:
        try:
            while True:
                await self.next()
        except EOFError:
            return


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(look: Callable[[], Any], what: str = "") -> Any:
    """What `look` (awaited where it must be) returns as soon as that is true."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        found = look()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, what or look
        await asyncio.sleep(0.01)


def config(folder: Path, console: ConsoleConfig = CONSOLE, **more: Any) -> Config:
    data = StoreConfig(path=folder / "data")
    kept: dict[str, Any] = {"history": KEEP_ALL, "log": LogConfig(level="debug"), "store": data, **more}
    return Config(root=folder, steps=folder, http=HttpConfig(port=0), console=console, **kept)


@asynccontextmanager
async def serving(
    folder: Path,
    *steps: Step,
    console: ConsoleConfig = CONSOLE,
    token: str = "",
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[Console]:
    """An engine on a store in `folder`, its console on a free port."""
    engine = Engine(config(folder, console, **more), steps, clock=clock, serve=True, console=True)
    async with engine:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        address = engine.report().console or ""
        async with httpx.AsyncClient(
            base_url=address, headers=headers, trust_env=False, timeout=DEADLINE_S
        ) as http:
            yield Console(engine, http)


async def send_message(console: Console) -> dict[str, Any]:
    """The example's request, and all it leads to."""
    body = {"text": "hi", "priority": "high", "metadata": {"source": "x"}}
    answer = await console.post("/api/request", {"method": "POST", "path": "/messages", "body": body})
    await console.engine.idle(20, due_only=True)
    return dict(answer)


__all__ = [
    "CONSOLE",
    "Console",
    "Events",
    "QueueConfig",
    "config",
    "send_message",
    "serving",
    "step",
    "told",
    "until",
]
