"""Follows the orders; a nightly run besides."""

from __future__ import annotations

from iii import StepConfig, cron, state

config = StepConfig(name="Confirmed", triggers=[state(namespace="orders"), cron("0 0 2 * * *")])


async def handler(change, ctx):
    if ctx.trigger.type == "state":
        await ctx.state.set("confirmed", change.key, change.value)
