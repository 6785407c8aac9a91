"""State from outside handlers: 256 callers, each awaiting its call before the next; then with a trigger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import cast

from bench.ledger import of_this_process
from bench.programs.program import Asked, main
from bench.settings import Result, WrongResult
from iii import Engine
from iii.store.lmdb import LmdbStore

CALLERS = 256
KEYS = 1_000
VALUE = {"status": "pending", "text": "Process this message", "metadata": {"source": "api"}}
ONE_MORE = [{"type": "increment", "path": "count", "by": 1}]


async def state(asked: Asked) -> Result:
    """asked: config, writes, reads, lists."""
    async with Engine.from_config(asked["config"]) as engine:
        store, writes, figures = engine.state, asked["writes"], {}
        meter = cast(LmdbStore, engine.store).meter
        groups, items = meter.groups, meter.items
        each = writes // CALLERS
        figures["set_spread_per_s"] = await _rate(
            lambda caller, i: store.set("plain", f"key-{(caller * each + i) % KEYS:04}", {"i": i, **VALUE}),
            writes,
        )
        figures["writes_per_group"] = (meter.items - items) / (meter.groups - groups)
        figures["set_hot_per_s"] = await _rate(
            lambda caller, i: store.set("hot", "one", {"i": (caller, i)}), writes
        )
        figures["get_per_s"] = await _rate(
            lambda caller, i: store.get("plain", f"key-{i % KEYS:04}"), asked["reads"]
        )
        figures["update_spread_per_s"] = await _rate(
            lambda caller, i: store.update("counts", f"key-{caller:04}", ONE_MORE), writes
        )
        figures["update_hot_per_s"] = await _rate(
            lambda caller, i: store.update("counts-hot", "one", ONE_MORE), writes
        )
        figures["list_rows_per_s"] = await _listing(engine, asked["lists"])
        await _require_counts(engine, writes)
        figures["set_watched_per_s"], figures["watched_done_per_s"] = await _watched(engine, writes)
        return figures


async def _rate(call: Callable[[int, int], Awaitable[object]], calls: int) -> float:
    """Calls a second of CALLERS callers."""
    each = calls // CALLERS

    async def caller(number: int) -> None:
        for i in range(each):
            await call(number, i)

    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return each * CALLERS / (time.perf_counter() - started)


async def _listing(engine: Engine, lists: int) -> float:
    """Rows a second of whole listings of KEYS keys."""
    rows, started = 0, time.perf_counter()
    for _ in range(lists):
        rows += len(await engine.state.list("plain"))
    return rows / (time.perf_counter() - started)


async def _watched(engine: Engine, writes: int) -> tuple[float, float]:
    """Writes a second in the watched namespace, and changes a second until each has been handled."""
    started = time.perf_counter()
    rate = await _rate(
        lambda caller, i: engine.state.set("watched", f"key-{caller:04}", {"i": i, **VALUE}), writes
    )
    await engine.idle()
    seconds = time.perf_counter() - started
    expected, ran = writes // CALLERS * CALLERS, of_this_process().calls["watch"]
    if ran != expected:
        raise WrongResult(f"{expected} changes of watched keys led to {ran} runs of their trigger")
    return rate, expected / seconds


async def _require_counts(engine: Engine, writes: int) -> None:
    """No increment was lost or counted twice."""
    each = writes // CALLERS
    spread = [value["count"] for value in await engine.state.list("counts")]
    hot = (await engine.state.get("counts-hot", "one"))["count"]
    if spread != [each] * CALLERS or hot != each * CALLERS:
        raise WrongResult(
            f"{each} increments a key were made: {sorted(set(spread))}; {each * CALLERS}: {hot}"
        )
    listed = len(await engine.state.list("plain"))
    if listed != min(KEYS, each * CALLERS):
        raise WrongResult(f"{listed} keys are listed of {min(KEYS, each * CALLERS)}")


if __name__ == "__main__":
    main(state)
