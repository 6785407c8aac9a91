"""Handlers that meddle with what the engine runs on: its tasks, its loop, its signals. It goes on, whole."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from engine_process import EngineProcess, Project, until

from iii.model import Enqueue, Txn

MakeProject = Callable[[str], Project]

STEP = """
import asyncio, os, signal, socket, sys, threading
from pathlib import Path
from iii import cron, http, queue, state

config = {{
    "name": "Meddles",
    "triggers": [
        http("POST", "/check"),
        queue("check"),
        queue("meddle", config={{"max_retries": 0}}),
        state(namespace="checks"),
        cron("* * * * * *"),
    ],
}}


def interrupt():
    raise KeyboardInterrupt


async def leave():
    sys.exit(3)


async def meddle():
    loop = asyncio.get_running_loop()
{act}


async def handler(given, ctx):
    if ctx.trigger.type == "http":
        await ctx.state.set("checks", given.body, True)
        await ctx.enqueue("check", given.body)
        return {{"pid": os.getpid()}}
    if ctx.trigger.topic == "meddle":
        Path("meddled").touch()
        await meddle()
        return
    if ctx.trigger.type == "cron":
        name = "tick"
    else:
        name = f"{{ctx.trigger.type}} {{given if isinstance(given, str) else given.key}}"
    with open("journal", "a") as journal:
        journal.write(name + "\\n")
"""

ACTS = {
    "cancels all tasks": "for task in asyncio.all_tasks(): task.cancel()",
    "cancels all tasks but its own, again and again": (
        "for _ in range(20):\n"
        "        for task in asyncio.all_tasks() - {asyncio.current_task()}: task.cancel()\n"
        "        await asyncio.sleep(0)"
    ),
    "stops the loop": "loop.stop()",
    "stops the loop later, again and again": "for n in range(20): loop.call_later(n / 1000, loop.stop)",
    "closes the loop": "loop.close()",
    "raises SystemExit in a callback": "loop.call_soon(sys.exit, 3)",
    "raises KeyboardInterrupt in a callback": "loop.call_soon(interrupt)",
    "raises SystemExit in a task that it leaves behind": "asyncio.ensure_future(leave())",
    "shuts down the pool of the loop": "await loop.shutdown_default_executor()",
    "sets an exception handler that fails": (
        "loop.set_exception_handler(lambda: None)\n    loop.call_soon(lambda: 1 / 0)"
    ),
    "sets debug": "loop.set_debug(True)",
    "ignores SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "takes SIGTERM's handler away": "loop.remove_signal_handler(signal.SIGTERM)",
    "sets a SIGTERM handler of its own": "signal.signal(signal.SIGTERM, lambda *_: None)",
}


def journal(project: Project) -> list[str]:
    path = project.folder / "journal"
    return path.read_text().splitlines() if path.exists() else []


async def meddled(project: Project, engine: EngineProcess) -> None:
    await engine.address()
    async with project.store() as store:
        await store.commit(Txn([Enqueue("meddle", b"1")]))
        await until((project.folder / "meddled").exists, "its start", lambda: engine.text)
        await until(
            lambda: [lane for lane in store.stats() if lane.topic == "meddle" and lane.done + lane.failed],
            "its settlement",
            lambda: engine.text,
        )


@pytest.mark.parametrize("act", ACTS)
async def test_every_duty_goes_on_whatever_a_handler_does(make_project: MakeProject, act: str) -> None:
    project = make_project(STEP.format(act=f"    {ACTS[act]}"))
    engine = project.start()
    await meddled(project, engine)
    ticks = journal(project).count("tick")
    async with httpx.AsyncClient(base_url=await engine.address(), timeout=60, trust_env=False) as client:
        for name in ("one", "two"):
            answer = await client.post("/check", json=name)
            assert answer.json() == {"pid": engine.pid}
    expected = {"queue one", "state one", "queue two", "state two"}
    await until(lambda: expected <= set(journal(project)), "queue and state trigger", lambda: engine.text)
    await until(lambda: journal(project).count("tick") > ticks + 1, "cron", lambda: engine.text)
    if "SIGTERM" in act:
        await until(lambda: "taken back" in engine.text, "its signal", lambda: engine.text)
    assert await engine.stop() == 0, engine.text
    async with project.store() as store:
        assert store.sessions() == [] and store.verify() == []
    assert "Traceback" not in engine.text.partition("Stopping")[2]


CLOSES = """for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if {which}:
                os.close(fd)
        except OSError:
            pass"""
LISTENS = "socket.socket(fileno=os.dup(fd)).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)"


async def test_one_whose_listening_socket_a_handler_closes_ends_and_says_so(
    make_project: MakeProject,
) -> None:
    project = make_project(STEP.format(act="    " + CLOSES.format(which=LISTENS)))
    engine = project.start()
    async with httpx.AsyncClient(base_url=await engine.address(), timeout=60, trust_env=False) as client:
        assert (await client.get("/health")).status_code == 200
    await meddled(project, engine)
    assert await engine.ended() == 1
    said = "error: HTTP failed: nobody answers any more (IIIError: a handler closed its listening socket)"
    assert said in engine.text
    async with project.store() as store:
        assert store.sessions() == [] and store.verify() == []
