"""Processes that steps start with multiprocessing know the step's own file and end with their engine."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_process import EngineProcess, Project, descendants, until

from iii.definitions.loader import load_steps

MakeProject = Callable[[str], Project]

STEP = """
import asyncio, concurrent.futures, enum, multiprocessing, os, time
from dataclasses import dataclass

config = {"name": "Pools", "triggers": [
    {"type": "queue", "topic": topic, "config": {"max_retries": 0}} for topic in ("own", "leave", "end")
]}
kept = []


class Colour(enum.Enum):
    RED = 1


@dataclass
class Order:
    number: int
    colour: Colour


class Refused(Exception):
    pass


def charged(order):
    return Order(order.number * order.number, order.colour)


def refuse(order):
    raise Refused(order.number)


def prepare():
    os.environ["PREPARED"] = "yes"


def is_prepared():
    return os.environ.get("PREPARED")


def put(queue, order):
    queue.put(charged(order))


async def handler(data, ctx):
    method = multiprocessing.get_context(data["method"])
    await globals()[ctx.trigger.topic](method, data, ctx)


async def own(method, data, ctx):
    loop = asyncio.get_running_loop()
    with concurrent.futures.ProcessPoolExecutor(1, method, prepare) as pool:
        order = await loop.run_in_executor(pool, charged, Order(5, Colour.RED))
        assert order == Order(25, Colour.RED), order
        assert await loop.run_in_executor(pool, is_prepared) == "yes"
        try:
            await loop.run_in_executor(pool, refuse, order)
        except Refused as error:
            assert error.args == (25,)
    queue = method.Queue()
    child = method.Process(target=put, args=(queue, Order(3, Colour.RED)))
    child.start()
    assert (await asyncio.to_thread(queue.get)).number == 9
    await asyncio.to_thread(child.join)
    assert child.exitcode == 0
    with method.Pool(1) as pool:
        assert (await asyncio.to_thread(pool.map, charged, [Order(2, Colour.RED)]))[0].number == 4
    await ctx.state.set("pools", "own", data["method"])


async def leave(method, data, ctx):
    if data["what"] == "pool":
        kept.append(method.Pool(2))
        kept[-1].apply_async(time.sleep, (data["busy_s"],))
    elif data["what"] == "executor":
        kept.append(concurrent.futures.ProcessPoolExecutor(2, method))
        await asyncio.wrap_future(kept[-1].submit(os.getpid))
        kept[-1].submit(time.sleep, data["busy_s"])
    else:
        kept.append(method.Process(target=time.sleep, args=(data["busy_s"],)))
        kept[-1].start()
    await ctx.state.set("pools", "left", 1)


async def end(method, data, ctx):
    child = method.Process(target=time.sleep, args=(600,))
    child.start()
    os.kill(child.pid, data["signal"])
    await asyncio.to_thread(child.join)
    await ctx.state.set("pools", "exitcode", child.exitcode)
"""
METHODS = ("spawn", "forkserver", "fork")


class Pools:
    """A project whose step starts processes."""

    def __init__(self, project: Project) -> None:
        self._project, self.engine = project, project.start()

    async def send(self, topic: str, **data: object) -> None:
        await self.engine.address()
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "iii", "enqueue", topic, json.dumps(data), cwd=self._project.folder,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert await done.wait() == 0

    async def told(self, key: str) -> object:
        """What the handler wrote."""
        found: list[object] = []
        async with self._project.store() as store:

            def look() -> bool:
                entry = store.get("pools", key)
                found[:] = [] if entry is None else [json.loads(entry.value)]
                return bool(found)

            await until(look, f"{key} in the state", lambda: self.engine.text)
        return found[0]


@pytest.fixture
def pools(make_project: MakeProject) -> Iterator[Pools]:
    started = Pools(make_project(STEP))
    yield started
    for pid in descendants(started.engine.pid):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("method", METHODS)
async def test_functions_and_classes_of_a_steps_own_file_reach_its_processes(
    pools: Pools, method: str
) -> None:
    await pools.send("own", method=method)
    assert await pools.told("own") == method
    assert await pools.engine.stop() == 0
    assert "Traceback" not in pools.engine.text


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def ends_with_its_children(engine: EngineProcess) -> None:
    children = descendants(engine.pid)
    assert children
    assert await engine.stop() == 0
    await until(lambda: not alive(children), "the end of its processes", lambda: alive(children))
    told = engine.text.partition("ignored in: <function Pool.__del__")[0]  # Python's own, of a Pool left open
    assert "Traceback" not in told and "blocking handlers" not in told, told


@pytest.mark.parametrize("busy_s", [0, 600])
@pytest.mark.parametrize("what", ["executor", "pool", "process"])
@pytest.mark.parametrize("method", METHODS)
async def test_processes_that_a_step_left_end_with_the_engine(
    pools: Pools, method: str, what: str, busy_s: int
) -> None:
    if what == "process" and not busy_s:
        busy_s = 601
    await pools.send("leave", method=method, what=what, busy_s=busy_s)
    await pools.told("left")
    await ends_with_its_children(pools.engine)


async def test_they_end_too_where_the_engine_is_ended_at_once(make_project: MakeProject) -> None:
    busy = "\n\nasync def busy(method, data, ctx):\n    await leave(method, data, ctx)\n"
    busy += "    await ctx.flush()\n    await asyncio.sleep(600)\n"
    pools = Pools(make_project(STEP.replace('"leave", "end"', '"leave", "end", "busy"') + busy))
    await pools.send("busy", method="spawn", what="executor", busy_s=600)
    await pools.told("left")
    children = descendants(pools.engine.pid)
    while pools.engine.process.poll() is None:
        pools.engine.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
    assert pools.engine.process.returncode == 128 + signal.SIGTERM
    await until(lambda: not alive(children), "the end of its processes", lambda: alive(children))


@pytest.mark.parametrize(
    ("method", "number"),
    [*((method, signal.SIGTERM) for method in METHODS), ("fork", signal.SIGHUP)],
)
async def test_a_signal_to_a_process_of_a_step_ends_that_process_alone(
    pools: Pools, method: str, number: int
) -> None:
    await pools.send("end", method=method, signal=number)
    assert await pools.told("exitcode") == -number
    assert pools.engine.process.poll() is None and "Stopping" not in pools.engine.text
    assert await pools.engine.stop() == 0


NAMED = """
config = {"name": "Named", "triggers": [{"type": "queue", "topic": "in"}]}


def double(x):
    from prices import VAT

    return x * VAT


def handler():
    return double
"""


def test_whoever_has_the_path_finds_a_steps_function_by_the_name_of_its_module(tmp_path: Path) -> None:
    """As joblib, loky and spawn have it: the child is given its parent's path."""
    folder = tmp_path / "steps"
    (folder / "orders").mkdir(parents=True)
    (folder / "orders" / "named_step.py").write_text(NAMED)
    (folder / "prices.py").write_text("VAT = 2")
    path, modules = list(sys.path), set(sys.modules)
    try:
        (step,) = load_steps(folder)
        given = json.dumps([list(sys.path), pickle.dumps(step.handler()).hex()])
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            del sys.modules[name]
    code = (
        "import json, pickle, sys\nsys.path, pickled = json.loads(sys.argv[1])\n"
        "print(pickle.loads(bytes.fromhex(pickled))(21), 'iii.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, timeout=60)
    assert done.stdout == "42 False\n", done.stderr


def test_the_console_script_can_be_the_main_module_of_a_child(tmp_path: Path) -> None:
    """A spawned child imports its parent's main module; the script has to leave it at that."""
    script = Path(sys.executable).with_name("iii")
    code = "import runpy, sys\nprint(sorted(runpy.run_path(sys.argv[1], run_name='__mp_main__'))[-1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
