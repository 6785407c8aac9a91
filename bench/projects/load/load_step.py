"""One message of `load` becomes thousands of `bench`, in one commit: how a backlog is made quickly."""

from __future__ import annotations

from typing import Any

from iii import Context, queue

config = {"name": "Load", "triggers": [queue("load")]}


async def handler(chunk: Any, ctx: Context) -> None:
    for number in range(chunk["first"], chunk["first"] + chunk["count"]):
        await ctx.enqueue("bench", {"n": number, **chunk["message"]})
