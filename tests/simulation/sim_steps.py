"""The steps the simulation runs, and how they misbehave. What they write is what the checks read.

done      <step>/<key> -> how often the step succeeded for the key: 1, or 0 where it became a dead letter
order     <group> -> [message id, ...] in the order their effects landed
tries     <key> -> attempts of First that settled, unless flushed; done_at: the one that succeeded;
          snoozes: those that slept
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from sim_loop import SimLoop, current

from iii import (
    Cancel,
    Context,
    CronTick,
    Request,
    Response,
    Snooze,
    StateChange,
    cron,
    http,
    queue,
    state,
)
from iii.definitions.loader import make_step
from iii.step import Step

CAP = 3
SLOTS = 4
TICK = "*/20 * * * * *"
TIMEOUT = 5_000


class Scene(Protocol):
    """What a handler needs of the world around it."""

    loop: SimLoop
    calm: bool
    inside: Counter[tuple[str, str]]  # (process, step) -> handlers that run
    most_inside: int
    starts: Counter[object]  # of poisons, by key
    flushed: set[object]  # keys for which First flushed: its tries may land more often, or not

    def die(self) -> None:
        """End the process that this runs in."""
        ...


class Gone(BaseException):
    """What no handler should raise."""


async def once(ctx: Context, step: str, key: object) -> None:
    await ctx.state.update("done", f"{step}/{key}", [{"type": "increment", "path": "", "by": 1}])


async def append(ctx: Context, namespace: str, key: str, value: object) -> None:
    await ctx.state.update(namespace, key, [{"type": "append", "path": "", "value": value}])


async def count(ctx: Context, namespace: str, key: object) -> None:
    await ctx.state.update(namespace, str(key), [{"type": "increment", "path": "", "by": 1}])


async def misbehave(scene: Scene) -> None:
    """Take a while, fail, or never return."""
    chance = scene.loop.random.random
    if scene.calm:
        return
    fate = chance()
    if fate < 0.40:
        return
    if fate < 0.65:
        await asyncio.sleep(chance() * 0.2)
    elif fate < 0.80:
        await asyncio.sleep(chance() * 6)
    elif fate < 0.92:
        raise ValueError("simulated")
    elif fate < 0.95:
        raise Gone
    elif fate < 0.96:
        raise asyncio.CancelledError
    elif fate < 0.97:
        raise SystemExit(3)
    else:
        await asyncio.Event().wait()


async def swift(scene: Scene) -> None:
    """Done at once but for a few: what waits for a slot is here already when one is free."""
    chance = scene.loop.random.random
    if chance() < 0.3:
        await asyncio.sleep(chance() * 0.01)
    elif chance() < 0.02:
        await misbehave(scene)


async def stubborn(scene: Scene) -> None:
    """Swallow the cancellation and go on for a while."""
    try:
        await misbehave(scene)
    except asyncio.CancelledError:
        await asyncio.sleep(scene.loop.random.random() * 2)


def _first(scene: Scene) -> Callable[..., Any]:
    async def handler(data: dict[str, Any], ctx: Context) -> Any:
        key, chance = data["key"], scene.loop.random.random
        await count(ctx, "tries", key)
        if not scene.calm and chance() < 0.1:
            await count(ctx, "snoozes", key)
            return Snooze(1 + int(chance() * 3_000))
        if chance() < 0.3:
            await ctx.state.set("orders", f"k{key % 5}", {"by": key, "half": True})
            scene.flushed.add(key)
            await ctx.flush()
            await misbehave(scene)
        await ctx.enqueue("second", {"key": key}, delay=int(chance() * 2) * 700)
        await misbehave(scene)
        await ctx.state.set("orders", f"k{key % 5}", {"by": key})
        await ctx.state.set("done_at", str(key), ctx.attempt)
        await once(ctx, "First", key)
        return Cancel("enough") if chance() < 0.1 else None

    return handler


def _accept(scene: Scene) -> Callable[..., Any]:
    async def handler(request: Request, ctx: Context) -> Response:
        if not scene.calm and scene.loop.random.random() < 0.2:
            await misbehave(scene)
        key = int(request.path_params["key"])
        await ctx.enqueue("jobs", {"key": key})
        await once(ctx, "Accept", key)
        return Response(202, {"key": key})

    return handler


def _plain(scene: Scene, name: str, wait: Callable[[Scene], Any] = misbehave) -> Callable[..., Any]:
    async def handler(data: dict[str, Any], ctx: Context) -> None:
        here = current.get().name, name
        scene.inside[here] += 1
        scene.most_inside = max(scene.most_inside, scene.inside[here])
        try:
            await wait(scene)
            await once(ctx, name, data["key"])
        finally:
            scene.inside[here] -= 1

    return handler


def _ordered(scene: Scene) -> Callable[..., Any]:
    async def handler(data: dict[str, Any], ctx: Context) -> None:
        await misbehave(scene)
        await append(ctx, "order", data["group"], int(ctx.message_id))
        await once(ctx, "Ordered", data["key"])

    return handler


def _grim(scene: Scene) -> Callable[..., Any]:
    async def handler(data: dict[str, Any], ctx: Context) -> None:
        await misbehave(scene)
        if data["key"] % 2:
            raise ValueError("always")
        await once(ctx, "Grim", data["key"])

    return handler


def _poison(scene: Scene) -> Callable[..., Any]:
    """Whoever runs it dies, whatever happens around."""

    async def handler(data: dict[str, Any], ctx: Context) -> None:
        scene.starts[data["key"]] += 1
        await asyncio.sleep(scene.loop.random.random() * 0.2)
        scene.die()
        await asyncio.Event().wait()

    return handler


def _tick(scene: Scene) -> Callable[..., Any]:
    async def handler(tick: CronTick, ctx: Context) -> None:
        await misbehave(scene)
        await once(ctx, "Tick", round(tick.scheduled_at.timestamp()))

    return handler


def _watch(scene: Scene) -> Callable[..., Any]:
    async def handler(change: StateChange, ctx: Context) -> None:
        await misbehave(scene)
        await append(ctx, "seen", change.key, change.version)
        await once(ctx, "Watch", change.version)

    return handler


def steps(scene: Scene, version: int) -> list[Step]:
    """Version 1 also serves the topic that nobody served before."""

    def rules(**more: Any) -> dict[str, Any]:
        rest = {"concurrency": SLOTS, "retry_delay": 200, "timeout": TIMEOUT, "max_retries": 6}
        return {**rest, "backoff": "exponential", "retry_delay_max": 10_000, "jitter": 0.2, **more}

    def step(name: str, handler: Callable[..., Any], trigger: dict[str, Any], **more: Any) -> Step:
        return make_step({"name": name, "triggers": [trigger], **more}, handler)

    found = [
        step("Accept", _accept(scene), http("POST", "/jobs/{key}")),
        step("First", _first(scene), queue("jobs", config=rules())),
        step("Copy", _plain(scene, "Copy", stubborn), queue("jobs", config=rules()), on_error="discard"),
        step("Second", _plain(scene, "Second"), queue("second", config=rules(max_in_flight=CAP))),
        step("Ordered", _ordered(scene), queue("ordered", config=rules(max_retries=2))),
        step("Grim", _grim(scene), queue("grim", config=rules(max_retries=1))),
        step("Poison", _poison(scene), queue("poison", config=rules())),
        step("Mourner", _plain(scene, "Mourner"), queue("grim.failed", config=rules())),
        step("Tick", _tick(scene), cron(TICK, missed="all")),
        step("Watch", _watch(scene), state(namespace="orders")),
        step("Swift", _plain(scene, "Swift", swift), queue("swift", config=rules())),
        step("Once", _plain(scene, "Once"), queue("once", config=rules(max_depth=40))),
    ]
    if version:
        found.append(step("Late", _plain(scene, "Late"), queue("late", config=rules())))
    return found
