"""An application around an engine as uvicorn runs it, in a process of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deadline import until
from embedding_kit import Uvicorn, project

from iii import Engine

MAIN = """
import asyncio
from pathlib import Path

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from iii import Engine


def fastapi():
    engine = Engine.from_config("iii-config.yaml")
    app = FastAPI(lifespan=engine.lifespan)

    @app.post("/orders")
    async def order(order: dict[str, str]) -> list[str]:
        return await engine.enqueue("echo", order)

    @app.post("/slow")
    async def slow(order: dict[str, str]) -> list[str]:
        Path("begun").touch()
        while not Path("released").exists():
            await asyncio.sleep(0.005)
        return await engine.enqueue("echo", order)

    app.mount("/steps", engine.asgi)
    return app


def starlette():
    engine = Engine.from_config("iii-config.yaml")
    return Starlette(routes=[Mount("/steps", engine.asgi)], lifespan=engine.lifespan)


def alone():
    return Engine.from_config("iii-config.yaml").asgi
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project(tmp_path)
    (tmp_path / "main.py").write_text(MAIN)
    return tmp_path


async def kept(folder: Path, trigger: str) -> object:
    """What the step kept of what came by `trigger`, once all that was accepted has run."""
    async with Engine.from_config(folder / "iii-config.yaml") as engine:
        await engine.idle(20)
        return await engine.state.get("echo", trigger)


@pytest.mark.parametrize(("target", "path"), [("fastapi", "/steps"), ("starlette", "/steps"), ("alone", "")])
def test_it_serves_and_stops(folder: Path, target: str, path: str) -> None:
    with Uvicorn(folder, f"main:{target}") as server:
        assert server.post(f"{path}/echo", {"n": 1}).status_code == 201, server.text()
        server.ask_to_end()
        server.end()
        assert "Application shutdown complete" in server.text()
    assert asyncio.run(kept(folder, "http")) == {"n": 1}


def test_a_request_that_is_being_handled_reaches_the_engine_before_it_stops(folder: Path) -> None:
    with Uvicorn(folder, "main:fastapi") as server, ThreadPoolExecutor() as threads:
        answer = threads.submit(server.post, "/slow", {"id": "7"})
        until((folder / "begun").exists, "the handler has begun")
        server.ask_to_end()
        until(lambda: "Shutting down" in server.text(), "uvicorn has heard")
        (folder / "released").touch()
        assert len(answer.result(30).json()) == 1
        server.end()
        assert "Application shutdown complete" in server.text()
    assert asyncio.run(kept(folder, "queue")) == {"id": "7"}


@pytest.mark.parametrize("target", ["fastapi", "starlette", "alone"])
def test_an_engine_that_cannot_start_ends_the_server_with_the_reason(folder: Path, target: str) -> None:
    (folder / "data").mkdir(mode=0o755)
    with Uvicorn(folder, f"main:{target}") as server:
        assert server.end() == 3
        assert "chmod 700" in server.text() and "Application startup failed" in server.text()
