"""Handlers behind plain decorators, in an engine of its own process: it answers, runs others and stops."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from engine_process import EngineProcess, Project, until

from iii.model import Enqueue, Txn

MakeProject = Callable[[str], Project]

STEPS = """
import threading
from pathlib import Path
from iii import StepConfig, http, queue

config = StepConfig(name="Deco", triggers=[queue("in"), http("POST", "/deco")])


def decorated(f):
    def wrapper(*args, **kwargs):
        {before}
        return f(*args, **kwargs)
    return wrapper


def stand():
    Path("stands").touch()
    threading.Event().wait()


@decorated
async def handler(data, ctx):
    count = await ctx.state.get("deco", "count", 0)
    await ctx.state.set("deco", "count", count + 1)
    await ctx.enqueue("out", count)
"""


async def healthy(engine: EngineProcess, address: str) -> bool:
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        return (await client.get("/health")).json() == {"status": "ok"}


@pytest.mark.parametrize("before", ["pass", "args[-1].state.get('a', 'b')"], ids=["plain", "reads first"])
async def test_a_plain_decorator_freezes_no_engine(make_project: MakeProject, before: str) -> None:
    project = make_project(STEPS.format(before=before))
    engine = project.start()
    address = await engine.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("in", b"1")]))
        await until(lambda: bool(store.waiting("out")), "it ran", lambda: engine.text)
        assert await healthy(engine, address)
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            assert (await client.post("/deco", json=1)).status_code == 204
    assert await engine.stop() == 0
    async with project.store() as store:
        found = store.get("deco", "count")
        assert found is not None and found.value == b"2"
        assert store.waiting("in") == [] and len(store.waiting("out")) == 2 and store.verify() == []


@pytest.mark.parametrize("trigger", ["message", "request"])
async def test_an_engine_answers_and_stops_while_a_wrapper_stands_still(
    make_project: MakeProject, trigger: str
) -> None:
    project = make_project(STEPS.format(before="stand()"))
    (project.folder / "iii-config.yaml").write_text(
        "store: {path: data}\nconsole: {port: 0}\nshutdown_timeout: 100ms\nhttp: {timeout: 1s}\n"
    )
    engine = project.start()
    address = await engine.address()
    stands = project.folder / "stands"
    async with project.store() as store, httpx.AsyncClient(base_url=address, timeout=30) as client:
        if trigger == "message":
            await store.commit(Txn([Enqueue("in", b"1")]))
        else:
            assert (await client.post("/deco", json=1)).status_code == 504
        await until(stands.exists, "it stands", lambda: engine.text)
        assert await healthy(engine, address)
    assert await engine.stop() == 0
    assert not re.search("never awaited|Traceback", engine.text), engine.text
    async with project.store() as store:
        rows = [(row.state, row.attempts, row.crashes) for row in store.waiting("in")]
        assert rows == ([("ready", 0, 0)] if trigger == "message" else []) and store.verify() == []
