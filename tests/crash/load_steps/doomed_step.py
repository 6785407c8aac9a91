"""doomed: fails twice and becomes a dead letter; each attempt's state write is kept."""

from __future__ import annotations

from typing import Any

from iii import Context, queue

from .journal import written_down

config = {
    "name": "Doomed",
    "triggers": [queue("doomed", config={"max_retries": 1, "retry_delay": 15})],
}


async def handler(work: dict[str, Any], ctx: Context) -> None:
    with written_down(work, ctx):
        await ctx.state.update("doomed", work["id"], [{"type": "increment", "path": ""}])
        raise RuntimeError("fails each time")
