"""What becomes of a piece of work: a hop, a group, a retry. The last hop writes down how long it all took."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from iii import Context, queue

config = {
    "name": "Work",
    "triggers": [
        queue("plain"),
        queue("plain.again"),
        queue("ordered"),
        queue("flaky", config={"retry_delay": 50}),
    ],
}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    topic = ctx.trigger.topic
    if topic == "flaky" and ctx.attempt < 3:
        raise RuntimeError("not yet")
    await ctx.state.update("counts", str(topic), [{"type": "increment", "path": ""}])
    if topic == "plain":
        await ctx.enqueue("plain.again", {**work, "delayed": work["number"] % 5 == 0})
    elif topic == "plain.again" and not work["delayed"]:
        took_us = (time.monotonic_ns() - work["at_ns"]) // 1000
        os.write(_times(), f"{time.monotonic_ns()} {took_us}\n".encode())


@cache
def _times() -> int:
    return os.open("times", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
