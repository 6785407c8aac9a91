"""docs/embedding.md: its application serves, its tests pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from embedding_kit import Uvicorn, project
from fastapi.testclient import TestClient

from iii import Engine

DOCUMENT = Path(__file__).parents[2] / "docs/embedding.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
STEP = """
from iii import queue

config = {"name": "Pack", "triggers": [queue("order.placed"), queue("order.old")]}


async def handler(order, ctx):
    if ctx.trigger.topic == "order.old":
        await ctx.state.delete("orders", order["id"])
    else:
        await ctx.state.set("orders", order["id"], {"status": "packed"})
        await ctx.enqueue("order.old", order, delay="30d")
"""


def blocks() -> list[str]:
    return BLOCK.findall(DOCUMENT.read_text())


def written(folder: Path) -> Path:
    """A project with the files that the document names."""
    project(folder, STEP)
    for text in blocks():
        if found := re.match(r"# (\w+\.py)\n", text):
            (folder / found[1]).write_text(text)
    return folder


def test_its_application_serves(tmp_path: Path) -> None:
    with Uvicorn(written(tmp_path), "main:create_app") as server:
        assert server.post("/orders", {"id": "7"}).status_code == 202, server.text()


def test_its_tests_pass(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:asyncio", "-p", "no:schemathesis"]
    tested = subprocess.run(command, cwd=written(tmp_path), capture_output=True, text=True, timeout=120)
    assert (tested.returncode, "1 passed" in tested.stdout) == (0, True), tested.stdout + tested.stderr
    assert not (tmp_path / "data").exists()


def test_its_health_check_tells_of_an_engine_that_failed(tmp_path: Path) -> None:
    (text,) = (each for each in blocks() if "create_watched_app" in each)
    names: dict[str, object] = {}
    exec(text, names)
    engine = Engine.from_config(project(tmp_path))
    with TestClient(names["create_watched_app"](engine)) as client:  # type: ignore[operator]
        assert client.get("/healthz").status_code == 200
        assert client.portal is not None
        client.portal.call(engine.failed.set)
        assert client.get("/healthz").status_code == 503
