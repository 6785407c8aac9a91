"""Handlers that fork: their child writes nothing and answers nobody, and the parent goes on."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from engine_process import Project, descendants, until

from iii.model import Enqueue, Txn

MakeProject = Callable[[str], Project]

STEPS = """
import asyncio, multiprocessing, os

config = {{"name": "Forks", "triggers": [
    {{"type": "queue", "topic": "fork", "config": {{"max_retries": 0}}}},
    {{"type": "http", "method": "POST", "path": "/fork"}},
]}}

{handler}
"""

HANDLERS = {
    "returns": """
async def handler(input, ctx):
    os.fork()
    await ctx.state.set("ns", "by", os.getpid())
""",
    "awaits": """
async def handler(input, ctx):
    await asyncio.sleep(0)
    os.fork()
    await asyncio.sleep(0.01)
    await ctx.state.set("ns", "by", os.getpid())
""",
    "raises": """
async def handler(input, ctx):
    parent = os.getpid()
    os.fork()
    if os.getpid() != parent:
        raise SystemExit(0)
    await ctx.state.set("ns", "by", os.getpid())
""",
    "returns from a thread": """
def handler(input, ctx):
    os.fork()
    if os.getpid() == int(open("engine").read()):
        ctx.state.set("ns", "by", os.getpid())
""",
    "leaves it to the loop": """
async def handler(input, ctx):
    asyncio.get_running_loop().call_soon(os.fork)
    await ctx.state.set("ns", "by", os.getpid())
""",
    "uses multiprocessing": """
def work():
    pass

def handler(input, ctx):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    ctx.state.set("ns", "by", os.getpid())
""",
}


@pytest.mark.parametrize("handler", HANDLERS)
async def test_a_forked_child_is_ended_where_it_comes_back_and_the_parent_goes_on(
    make_project: MakeProject, handler: str
) -> None:
    project = make_project(STEPS.format(handler=HANDLERS[handler]))
    engine = project.start()
    (project.folder / "engine").write_text(str(engine.pid))
    async with httpx.AsyncClient(base_url=await engine.address(), timeout=60, trust_env=False) as http:
        answers = [(await http.post("/fork")).status_code for _ in range(3)]
        async with project.store() as store:
            await store.commit(Txn([Enqueue("fork", b"1") for _ in range(3)]))
            await until(lambda: store.unsettled() == 0, "every message settled", lambda: engine.text)
            await until(lambda: not descendants(engine.pid), "the children's end", lambda: engine.text)
            (lane,) = [lane for lane in store.stats() if lane.step == "Forks"]
            assert (lane.done, lane.dead) == (3, 0), engine.text
            assert (by := store.get("ns", "by")) is not None and by.value == str(engine.pid).encode()
            assert store.verify() == []
        answers += [(await http.post("/fork")).status_code for _ in range(3)]
    assert answers == [204] * 6, engine.text
    assert ("came back into the engine" in engine.text) == ("multiprocessing" not in handler)
    assert await engine.stop() == 0
