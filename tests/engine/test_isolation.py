"""What is said of state that several handlers write at once: what is lost, and the remedies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import step

from iii import Context, Request, http, queue
from iii.testing import Harness, harness


async def at_once(app: Harness, path: str) -> list[int]:
    """The statuses of two requests."""
    return sorted(reply.status for reply in await asyncio.gather(app.post(path), app.post(path)))


async def test_get_then_set_loses_an_update_that_was_acknowledged() -> None:
    both = asyncio.Barrier(2)

    async def count(request: Request, ctx: Context) -> None:
        seen = await ctx.state.get("counts", "orders", 0)
        await both.wait()
        await ctx.state.set("counts", "orders", seen + 1)

    async with harness([step(count, http("POST", "/count"))]) as app:
        assert await at_once(app, "/count") == [204, 204]
        assert await app.state.get("counts", "orders") == 1


async def test_update_loses_none() -> None:
    both = asyncio.Barrier(2)

    async def count(request: Request, ctx: Context) -> None:
        await ctx.state.update("counts", "orders", [{"type": "increment", "path": "n"}])
        await both.wait()

    async with harness([step(count, http("POST", "/count"))]) as app:
        assert await at_once(app, "/count") == [204, 204]
        assert await app.state.get("counts", "orders") == {"n": 2}


async def test_if_version_refuses_the_second_of_two_requests() -> None:
    both = asyncio.Barrier(2)

    async def count(request: Request, ctx: Context) -> None:
        seen = await ctx.state.entry("counts", "orders")
        await both.wait()
        value, version = (seen.value, seen.version) if seen else (0, 0)
        await ctx.state.set("counts", "orders", value + 1, if_version=version)

    async with harness([step(count, http("POST", "/count"))]) as app:
        assert await at_once(app, "/count") == [204, 409]
        assert await app.state.get("counts", "orders") == 1
        assert await at_once(app, "/count") == [204, 409]
        assert await app.state.get("counts", "orders") == 2


async def test_if_version_has_the_second_of_two_messages_try_again() -> None:
    both = asyncio.Barrier(2)

    async def count(input: Any, ctx: Context) -> None:
        seen = await ctx.state.entry("counts", "orders")
        if ctx.attempt == 1:
            await both.wait()
        value, version = (seen.value, seen.version) if seen else (0, 0)
        await ctx.state.set("counts", "orders", value + 1, if_version=version)

    async with harness([step(count, queue("order"))]) as app:
        await asyncio.gather(app.enqueue("order", 1), app.enqueue("order", 2))
        await app.settle()
        assert await app.state.get("counts", "orders") == 1
        await app.advance("1m")
        assert await app.state.get("counts", "orders") == 2


@pytest.mark.parametrize(
    ("reader", "seen"), [("gets", {"from": 10, "to": 10}), ("items", {"from": 10, "to": 0})]
)
async def test_several_gets_are_two_moments_and_items_is_one(reader: str, seen: dict[str, int]) -> None:
    """10 move from one account to the other between two reads."""
    read, moved = asyncio.Event(), asyncio.Event()
    found: dict[str, int] = {}

    async def look(request: Request, ctx: Context) -> None:
        if reader == "items":
            found.update(await ctx.state.items("accounts"))
        else:
            found["from"] = await ctx.state.get("accounts", "from")
        read.set()
        await moved.wait()
        if reader == "gets":
            found["to"] = await ctx.state.get("accounts", "to")

    async def move(request: Request, ctx: Context) -> None:
        await ctx.state.set("accounts", "from", 0)
        await ctx.state.set("accounts", "to", 10)

    routes = (step(look, http("POST", "/look"), name="Look"), step(move, http("POST", "/move"), name="Move"))
    async with harness(routes) as app:
        await app.state.set("accounts", "from", 10)
        await app.state.set("accounts", "to", 0)
        looking = asyncio.create_task(app.post("/look"))
        await read.wait()
        await app.post("/move")
        moved.set()
        await looking
        assert found == seen


async def test_what_was_read_is_guarded_by_writing_it_as_it_was() -> None:
    """Two on call, of whom one may go: each looks at the other, both go at once."""
    both = asyncio.Barrier(2)

    async def leave(request: Request, ctx: Context) -> None:
        me, other = ("ada", "bob") if request.path_params["who"] == "ada" else ("bob", "ada")
        mine, others = await ctx.state.entry("on call", me), await ctx.state.entry("on call", other)
        await both.wait()
        assert mine is not None and others is not None and others.value is True
        await ctx.state.set("on call", me, False, if_version=mine.version)
        await ctx.state.set("on call", other, others.value, if_version=others.version)

    async with harness([step(leave, http("POST", "/leave/:who"))]) as app:
        await app.state.set("on call", "ada", True)
        await app.state.set("on call", "bob", True)
        replies = await asyncio.gather(app.post("/leave/ada"), app.post("/leave/bob"))
        assert sorted(reply.status for reply in replies) == [204, 409]
        assert sorted(await app.state.list("on call")) == [False, True]
