"""One instance that writes for some seconds: many callers at once (hot), or a commit every 20 ms (rare)."""

from __future__ import annotations

import asyncio
import sys
import time

from bench.percentiles import named
from bench.programs.program import Asked, main, say_ready
from bench.settings import Result
from iii import Engine

RARE_PAUSE_S = 0.02
ONE_MORE = [{"type": "increment", "path": "count", "by": 1}]


async def writer(asked: Asked) -> Result:
    """asked: config, callers (0: rare), key, seconds. It begins at the line it waits for."""
    async with Engine.from_config(asked["config"]) as engine:
        say_ready()
        await asyncio.to_thread(sys.stdin.readline)
        end = time.monotonic() + asked["seconds"]
        if asked["callers"]:
            return await _hot(engine, asked, end)
        return await _rare(engine, asked["key"], end)


async def _hot(engine: Engine, asked: Asked, end: float) -> Result:
    async def caller() -> int:
        writes = 0
        while time.monotonic() < end:
            await engine.state.update("writers", asked["key"], ONE_MORE)
            writes += 1
        return writes

    return {"writes": sum(await asyncio.gather(*(caller() for _ in range(asked["callers"]))))}


async def _rare(engine: Engine, key: str, end: float) -> Result:
    took: list[float] = []
    while time.monotonic() < end:
        started = time.perf_counter()
        await engine.state.update("writers", key, ONE_MORE)
        took.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(RARE_PAUSE_S)
    return {"writes": len(took), **named("commit", took)}


if __name__ == "__main__":
    main(writer)
