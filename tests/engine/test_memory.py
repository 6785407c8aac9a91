"""What a run leaves in memory: nothing that only the garbage collector can free."""

from __future__ import annotations

import asyncio
from typing import Any

from engine_kit import garbage_of, running, step

from iii import Context, queue

RUNS = 50


async def test_an_ended_run_leaves_nothing_to_the_garbage_collector() -> None:
    async def handler(data: Any, ctx: Context) -> None:
        ctx.logger.info("At work", data=data)
        await asyncio.sleep(0)
        await ctx.state.update("jobs", str(data), {"done": True})
        await ctx.enqueue("next", data)

    async def last(data: Any, ctx: Context) -> None:
        ctx.logger.debug("Done", data=data)

    async with running(step(handler, queue("in")), step(last, queue("next"), name="Last")) as app:
        assert await garbage_of(app, "in", RUNS) < RUNS
