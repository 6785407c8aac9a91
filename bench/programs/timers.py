"""Delayed messages: most of them due in an hour, the last of them at a steady rate after all are stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.ledger import of_this_process
from bench.programs.program import Asked, main
from bench.settings import Result, WrongResult
from iii import Engine

PRODUCERS = 512
FAR_MS = 3_600_000
AHEAD_S = 1.0
FIRE_PATIENCE_S = 60.0
LOOK_S = 0.02


async def timers(asked: Asked) -> Result:
    """asked: config, far, due (messages), rate (due a second)."""
    far, due, rate = asked["far"], asked["due"], asked["rate"]
    async with Engine.from_config(asked["config"]) as engine:
        started = time.perf_counter()
        await _send(far, lambda i: engine.enqueue("due", {"n": due + i}, delay=FAR_MS))
        far_s = time.perf_counter() - started
        figures: Result = {"insert_per_s": far / far_s}
        # The near ones take about as long as their share of the far ones: all are stored before one is due.
        start_ns = time.monotonic_ns() + int((AHEAD_S + 2 * far_s * due / far) * 1e9)

        async def near(i: int) -> None:
            due_ns = start_ns + int(i / rate * 1e9)
            delay_ms = max(1, -(-(due_ns - time.monotonic_ns()) // 1_000_000))
            await engine.enqueue("due", {"n": i, "due_ns": due_ns}, delay=delay_ms)

        await _send(due, near)
        figures["stored_ahead_ms"] = (start_ns - time.monotonic_ns()) / 1e6
        await _fired(due)
    return figures


async def _send(count: int, send: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def producer() -> None:
        for i in numbers:
            await send(i)

    await asyncio.gather(*(producer() for _ in range(PRODUCERS)))


async def _fired(count: int) -> None:
    ledger, end = of_this_process(), time.monotonic() + FIRE_PATIENCE_S + count / 1_000
    while len(ledger.samples["late"]) < count:
        if time.monotonic() > end:
            raise WrongResult(f"{len(ledger.samples['late'])} of {count} due messages have run")
        await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    main(timers)
