"""once: of the messages with one unique key a single one comes here."""

from __future__ import annotations

from typing import Any

from iii import Context, queue

from .journal import written_down

config = {"name": "Once", "triggers": [queue("once")]}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    with written_down(work, ctx):
        key = f"{work['client']}/{work['number'] // 5}"
        await ctx.state.update("once", key, [{"type": "increment", "path": ""}])
