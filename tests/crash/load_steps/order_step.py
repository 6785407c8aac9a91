"""ordered, then ordered.again: a client's numbers as they came, over two hops of one group."""

from __future__ import annotations

from typing import Any

from iii import Context, queue

from .journal import written_down

config = {"name": "Order", "triggers": [queue("ordered"), queue("ordered.again")]}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    with written_down(work, ctx):
        topic, client = str(ctx.trigger.topic), work["client"]
        await ctx.state.update(topic, client, [{"type": "append", "path": "", "value": work["number"]}])
        if topic == "ordered":
            await ctx.enqueue("ordered.again", work, group=client)
