"""Does what a message says; what stands in the way is the file `gate`, which opens everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from iii import StepConfig, queue

config = StepConfig(name="Work", triggers=[queue("work"), queue("paused"), queue("frail")])


async def handler(message, ctx):
    gate = Path("gate")
    if message["do"] == "fail" and not gate.exists():
        raise ValueError("the gate is shut")
    if message["do"] == "wait":
        Path(f"started-{message['id']}").touch()
        while not gate.exists():
            await asyncio.sleep(0.01)
    await ctx.state.update("done", message["id"], {"times": 1, "attempt": ctx.attempt})
