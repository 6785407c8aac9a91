"""The example in a folder of its own, with a few steps more, run by `iii run` and asked over HTTP."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import httpx
from deadline import DEADLINE_S, until

from iii.model import Put, Txn
from iii.store.lmdb import LmdbStore

if TYPE_CHECKING:
    from playwright.async_api import Page

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
store: {path: data}
history: {traces_per_second: 1000000}
queues:
  message.sent: {dead_letter_queue: message.failed}
"""
TOKEN = "a-token-for-tests"
STEPS = {
    "mail_step.py": """
from iii import queue

config = {"name": "SendMail", "triggers": [queue("mail", config={"max_retries": 0})]}


async def handler(mail, ctx):
    if not await ctx.state.get("switches", "mail"):
        raise ConnectionError("the mailbox is full")
""",
    "echo_step.py": """
from iii import http, queue

config = {"name": "Echo", "triggers": [http("POST", "/echo"), queue("echo")]}


async def handler(input, ctx):
    ctx.logger.info("Heard it")
""",
    "order_step.py": """
from iii import state

config = {"name": "WatchOrder", "triggers": [state(namespace="orders")]}


async def handler(change, ctx):
    ctx.logger.info("Order changed", {"status": change.value["status"]})
""",
    "start_flow_step.py": """
from iii import http

config = {"name": "StartFlow", "triggers": [http("POST", "/flow")], "enqueues": ["flow"]}


async def handler(request, ctx):
    first, per_s = request.body["first"], request.body["per_s"]
    for number in range(first, first + request.body["messages"]):
        await ctx.enqueue("flow", {"number": number}, delay=number * 1000 // per_s)
""",
    "flow_step.py": """
from iii import queue

config = {"name": "Flow", "triggers": [queue("flow")]}


async def handler(message, ctx):
    number = message["number"]
    ctx.logger.info("Flowed", {"number": number})
    await ctx.state.set("flow", f"key-{number % 100:02}", number)
""",
    "names_step.py": """
from iii import http, queue

config = {
    "name": "constructor",
    "triggers": [http("POST", "/names/{constructor}"), queue("__proto__", config={"max_retries": 0})],
}


async def handler(input, ctx):
    for key in ("__proto__", "constructor"):
        await ctx.state.set("__proto__", key, input)
    ctx.logger.info("toString", {"__proto__": 1, "constructor": input})
    raise ValueError("__proto__")
""",
    "hostile_step.py": """
from iii import queue

config = {"name": "Hostile", "triggers": [queue("hostile", config={"max_retries": 0})]}


async def handler(input, ctx):
    text = input["text"]
    ctx.logger.error(text, {text: text})
    await ctx.state.set("hostile", text, {text: text})
    raise ValueError(text)
""",
}
KEYS = 1_000_000
OPS = 10_000  # as many as a Txn may have

Figures: TypeAlias = list[str]


class Open(Protocol):
    """Opens a page by its hash. script: runs in it before its own."""

    async def __call__(self, hash: str, script: str = "") -> Page: ...


def fill(data: Path) -> None:
    """Make a store with KEYS keys in namespace "million"."""

    async def write() -> None:
        store = LmdbStore(data, fsync="interval")
        await store.open()
        for first in range(0, KEYS, OPS):
            numbers = range(first, first + OPS)
            await store.commit(Txn([Put("million", f"key-{n:06}", b'{"number":%d}' % n) for n in numbers]))
        await store.close()

    asyncio.run(write())


class Project:
    """`http` and `console`: clients of what `iii run` serves; it runs from here until `end`."""

    def __init__(self, folder: Path, config: str = CONFIG, steps: Mapping[str, str] = STEPS) -> None:
        shutil.copytree(ROOT / "steps", folder / "steps", ignore=shutil.ignore_patterns("__pycache__"))
        for name, source in steps.items():
            (folder / "steps" / name).write_text(source)
        (folder / "iii-config.yaml").write_text(config)
        self._output = folder / "output.txt"
        ports = ["--port", "0", "--console-port", "0"]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "iii", "run", *ports],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.http = self._client("address")
        self.console = self._client("console")

    def _client(self, name: str) -> httpx.Client:
        def address() -> re.Match[str] | None:
            assert self._process.poll() is None, self._output.read_text()
            return re.search(rf"^ *{name} +(http://\S+)", self._output.read_text(), re.MULTILINE)

        return httpx.Client(base_url=until(address)[1], trust_env=False, timeout=DEADLINE_S)

    @property
    def console_address(self) -> str:
        return str(self.console.base_url).rstrip("/")

    def post(self, path: str, body: object) -> None:
        self.http.post(path, json=body).raise_for_status()

    def enqueue(self, topic: str, data: object, **more: object) -> str:
        """The id of the message."""
        body = {"topic": topic, "data": data, **more}
        return str(self.console.post("/api/enqueue", json=body).raise_for_status().json()["ids"][0])

    def newest_trace(self) -> str:
        answer = self.console.get("/api/traces?limit=1").raise_for_status()
        return str(answer.json()["traces"][0]["trace_id"])

    def waiting(self, topic: str) -> int:
        rows = self.console.get("/api/queues").raise_for_status().json()["queues"]
        return sum(row["ready"] + row["later"] for row in rows if row["topic"] == topic)

    def purge(self, topic: str) -> None:
        self.console.post("/api/queues/purge", json={"topic": topic}).raise_for_status()

    def write(self, namespace: str, key: str, value: object) -> None:
        """A new key."""
        body = {"value": value, "if_version": 0}
        self.console.put(f"/api/state/{namespace}/{key}", json=body).raise_for_status()

    def end(self) -> None:
        self.http.close()
        self.console.close()
        self._process.terminate()
        assert self._process.wait(DEADLINE_S) == 0, self._output.read_text()
