"""POST /work: a value among a bounded number of them, and messages of every kind."""

from __future__ import annotations

from typing import Any

from iii import Context, http

KEYS = 2_000

config = {"name": "Accept", "triggers": [http("POST", "/work")], "enqueues": ["plain", "flaky", "ordered"]}


async def handler(request: Any, ctx: Context) -> dict[str, int]:
    work = request.body
    number = work["number"]
    await ctx.state.set("work", str(number % KEYS), {"number": number, "text": "x" * 500})
    await ctx.enqueue("plain", work, delay=200 if number % 5 == 0 else 0)
    await ctx.enqueue("ordered", work, group=f"g{number % 20}")
    if number % 10 == 0:
        await ctx.enqueue("flaky", work, unique=(f"u{number // 20}", "5s"))
    return {"accepted": number}
