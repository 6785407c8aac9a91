"""capped: at most three at a time over all engines (max_in_flight)."""

from __future__ import annotations

import asyncio
from typing import Any

from iii import Context, queue

from .journal import written_down

config = {"name": "Capped", "triggers": [queue("capped", config={"max_in_flight": 3})]}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    with written_down(work, ctx):
        await asyncio.sleep(0.003)
        await ctx.state.update("capped", work["id"], [{"type": "increment", "path": ""}])
