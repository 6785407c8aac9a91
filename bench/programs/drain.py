"""Producers that each await durability, until a no-op step, here or elsewhere, settled the last message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from bench.programs.program import Asked, main
from bench.settings import Result
from bench.watching import until_done
from iii import Engine
from iii.model import Lane
from iii.store.lmdb import LmdbStore

MESSAGE = {"messageId": "msg-1234567890-abc123", "text": "Process this message", "priority": "high"}
TOPIC = "bench"

Send = Callable[[str, dict[str, Any]], Awaitable[object]]


async def drain(asked: Asked) -> Result:
    """asked: config, producers, messages (a producer), text_bytes (0: the usual text),
    settled_in ([topic, step], where another process runs it)."""
    engine = Engine.from_config(asked["config"])
    async with engine:
        meter = cast(LmdbStore, engine.store).meter
        groups, items, cpu_s = meter.groups, meter.items, time.thread_time()
        started = time.perf_counter()
        await produce(engine.enqueue, asked)
        accepted_s = time.perf_counter() - started
        if settled_in := asked.get("settled_in"):
            lane = Lane(*settled_in)
            await until_done(engine.store, {lane: asked["producers"] * asked["messages"]})
        else:
            await engine.idle()
        seconds, cpu_s = time.perf_counter() - started, time.thread_time() - cpu_s
        groups, items = meter.groups - groups, meter.items - items
    total = asked["producers"] * asked["messages"]
    return {
        "messages_per_s": total / seconds,
        "accepted_per_s": total / accepted_s,
        "groups": groups,
        "writes_per_group": items / groups,
        "commit_ms": meter.commit_ns / groups / 1e6,
        "loop_us_per_message": cpu_s / total * 1e6,
        "lock_us_per_message": meter.lock_ns / total / 1e3,
        "apply_us_per_message": (meter.apply_ns - meter.grant_ns) / total / 1e3,
        "grant_us_per_message": meter.grant_ns / total / 1e3,
        "commit_us_per_message": meter.commit_ns / total / 1e3,
    }


async def produce(send: Send, asked: Asked) -> None:
    """Each producer sends its share of the numbers 0 .. producers * messages - 1, one after the other."""
    message = dict(MESSAGE)
    if asked["text_bytes"]:
        message["text"] = "x" * asked["text_bytes"]

    async def one(first: int) -> None:
        for number in range(first, first + asked["messages"]):
            await send(TOPIC, {"n": number, **message})

    await asyncio.gather(*(one(i * asked["messages"]) for i in range(asked["producers"])))


if __name__ == "__main__":
    main(drain)
