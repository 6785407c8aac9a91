"""Sends messages one at a time, then at steady rates; the step notes how late each one starts.

Every message carries the time it was meant to be sent at.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from bench.pace import pace
from bench.percentiles import percentile
from bench.programs.program import Asked, main
from bench.settings import Result
from iii import Engine
from iii.store.lmdb import LmdbStore

PAUSE_S = 0.01


async def latency(asked: Asked) -> Result:
    """asked: config, idle (messages, one at a time), loads ({name: [rate, messages]})."""
    async with Engine.from_config(asked["config"]) as engine:
        commits_ms = await _one_at_a_time(engine, asked["idle"])
        first = asked["idle"]
        for name, (rate, count) in asked["loads"].items():
            await _open_loop(engine, name, rate, first, count)
            await engine.idle()
            first += count
        return {"idle_commit_p50_ms": percentile(commits_ms, 0.5)}


async def _one_at_a_time(engine: Engine, count: int) -> list[float]:
    """Milliseconds that a commit took in LMDB, by message: the mean of its two."""
    meter = cast(LmdbStore, engine.store).meter
    commits_ms: list[float] = []
    await asyncio.sleep(PAUSE_S)
    for number in range(count):
        groups, commit_ns = meter.groups, meter.commit_ns
        await engine.enqueue("ping", {"n": number, "load": "idle", "meant_ns": time.monotonic_ns()})
        await asyncio.sleep(PAUSE_S)
        commits_ms.append((meter.commit_ns - commit_ns) / (meter.groups - groups) / 1e6)
    await engine.idle()
    return commits_ms


async def _open_loop(engine: Engine, name: str, rate: float, first: int, count: int) -> None:
    under_way: set[asyncio.Task[object]] = set()

    def offer(i: int, meant_ns: int) -> None:
        message = {"n": first + i, "load": name, "meant_ns": meant_ns}
        task = asyncio.ensure_future(engine.enqueue("ping", message))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        task.add_done_callback(asyncio.Task.result)

    await pace(rate, count, offer)
    if under_way:
        await asyncio.gather(*under_way)


if __name__ == "__main__":
    main(latency)
