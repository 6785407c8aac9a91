"""A record is done: the third hop, by a state trigger."""

from __future__ import annotations

from iii import Context, StateChange, state

config = {"name": "Notice", "triggers": [state(namespace="work", filter={"status": "done"})]}


async def handler(change: StateChange, ctx: Context) -> None:
    effects = await ctx.state.get("effects", change.key)
    await ctx.state.set("effects", change.key, {**effects, "noticed": effects.get("noticed", 0) + 1})
