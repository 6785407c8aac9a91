"""A project on disk, applications around its engine, and uvicorn in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from deadline import until
from fastapi import FastAPI

from iii import Engine

STEP = """
from iii import http, queue

config = {"name": "Echo", "triggers": [http("POST", "/echo"), queue("echo")]}


async def handler(input, ctx):
    body = input.body if ctx.trigger.type == "http" else input
    await ctx.state.set("echo", ctx.trigger.type, body)
    return {"status": 201, "body": body}
"""


def project(folder: Path, step: str = STEP) -> Path:
    """Its configuration file."""
    (folder / "steps").mkdir(parents=True)
    (folder / "steps" / "echo_step.py").write_text(step)
    file = folder / "iii-config.yaml"
    file.write_text("console: {enabled: false}\n")
    return file


def create_app(engine: Engine) -> FastAPI:
    """POST /orders sends a message, /steps is the engine's own HTTP."""
    app = FastAPI(lifespan=engine.lifespan)

    @app.post("/orders")
    async def order(order: dict[str, str]) -> list[str]:
        return await engine.enqueue("echo", order)

    app.mount("/steps", engine.asgi)
    return app


class Uvicorn:
    """`uvicorn --factory TARGET` in `folder`, on a socket that is bound here."""

    def __init__(self, folder: Path, target: str, *, deadline_s: float = 30) -> None:
        self._log = folder / "uvicorn.log"
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        arguments = ["--fd", str(listening.fileno()), "--factory", "--no-access-log"]
        with self._log.open("w") as log, listening:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", target, *arguments],
                cwd=folder,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=deadline_s, trust_env=False
        )

    def __enter__(self) -> Uvicorn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return self._log.read_text()

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def ask_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """The exit code."""
        until(lambda: self.process.poll() is not None, "uvicorn ends")
        return self.process.returncode
