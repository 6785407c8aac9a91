"""Every second; what it wrote the minute before goes again."""

from __future__ import annotations

from typing import Any

from iii import Context, cron

config = {"name": "Tick", "triggers": [cron("* * * * * *")]}


async def handler(tick: Any, ctx: Context) -> None:
    second = int(tick.scheduled_at.timestamp())
    await ctx.state.set("ticks", str(second), True)
    await ctx.state.delete("ticks", str(second - 60))
