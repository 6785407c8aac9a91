"""Every second: a tick is one message, however many engines see it fall due."""

from __future__ import annotations

from typing import Any

from iii import Context, cron

config = {"name": "Tick", "triggers": [cron("* * * * * *")]}


async def handler(tick: Any, ctx: Context) -> None:
    await ctx.state.update("ticks", tick.scheduled_at.isoformat(), [{"type": "increment", "path": ""}])
