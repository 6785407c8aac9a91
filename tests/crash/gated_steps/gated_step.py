"""gated: writes down that it started, waits for its gate, then counts itself or kills its process.

Gates and journal lie in the working folder. `name.2` is the gate of the second run of `name` alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from iii import Context, http, queue

JOURNAL = Path("journal")

config = {"name": "Gated", "triggers": [http("POST", "/gated"), queue("gated", config={"concurrency": 3})]}


async def handler(given: Any, ctx: Context) -> Any:
    if ctx.trigger.type == "http":
        for message in given.body:
            await ctx.enqueue("gated", message)
        return None
    name = given["name"]
    run = write_down(name, ctx.attempt)
    while not (Path("gates", name).exists() or Path("gates", f"{name}.{run}").exists()):
        await asyncio.sleep(0.005)
    if given.get("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    await ctx.state.update("effects", name, [{"type": "increment", "path": ""}])
    return None


def write_down(name: str, attempt: int) -> int:
    """One line a start; returns which run of `name` it is."""
    with JOURNAL.open("a") as journal:
        journal.write(f"{name} {attempt} {os.getpid()} {time.monotonic_ns()}\n")
    return sum(line.startswith(f"{name} ") for line in JOURNAL.read_text().splitlines())
