"""POST /work: one record and the messages that work on it."""

from __future__ import annotations

from typing import Any

from iii import Context, http

config = {
    "name": "Accept",
    "triggers": [http("POST", "/work")],
    "enqueues": ["first", "ordered", "capped", "once", "doomed"],
}


async def handler(request: Any, ctx: Context) -> dict[str, str]:
    work = request.body
    id, client, number = work["id"], work["client"], work["number"]
    await ctx.state.set("work", id, {"status": "accepted"})
    await ctx.state.update("effects", id, [{"type": "increment", "path": "accepted"}])
    await ctx.enqueue("first", work)
    await ctx.enqueue("ordered", work, group=client)
    await ctx.enqueue("capped", work, priority="high")
    await ctx.enqueue("once", work, unique=f"{client}/{number // 5}")
    if number % 20 == 19:
        await ctx.enqueue("doomed", work)
    return {"accepted": id}
