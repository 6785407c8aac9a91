"""POST /work: one record, one message of a chain of steps, one message of its client's group."""

from __future__ import annotations

from typing import Any

from iii import Context, http

config = {"name": "Accept", "triggers": [http("POST", "/work")], "enqueues": ["first", "ordered"]}


async def handler(request: Any, ctx: Context) -> dict[str, str]:
    work = request.body
    await ctx.state.set("work", work["id"], {"status": "accepted"})
    await ctx.enqueue("first", work)
    await ctx.enqueue("ordered", work, group=work["client"])
    return {"accepted": work["id"]}
