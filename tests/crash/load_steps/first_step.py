"""first: counts itself per message and in one counter that all share; every tenth fails once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from iii import Context, queue

from .journal import written_down

config = {
    "name": "First",
    "triggers": [queue("first", config={"retry_delay": 20})],
    "enqueues": ["second"],
}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    with written_down(work, ctx):
        record = await ctx.state.get("work", work["id"])
        if record != {"status": "accepted"}:
            raise LookupError(f"the message of {work['id']} is here, its record is {record}")
        if work["number"] % 10 == 0 and ctx.attempt == 1:
            await ctx.state.update("effects", work["id"], [{"type": "increment", "path": "failed"}])
            raise RuntimeError("every tenth fails once")
        await asyncio.sleep(random.uniform(0, 0.1))
        await ctx.state.update("effects", work["id"], [{"type": "increment", "path": "first"}])
        await ctx.state.update("totals", "first", [{"type": "increment", "path": ""}])
        await ctx.enqueue("second", work, delay=30 if work["number"] % 7 == 0 else 0)
