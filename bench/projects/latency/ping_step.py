"""A request that sends one message: answered when that is on disk."""

from __future__ import annotations

from typing import Any

from iii import Context, Request, http

config = {"name": "Ping", "triggers": [http("POST", "/pings")], "enqueues": ["ping"]}


async def handler(request: Request, ctx: Context) -> dict[str, Any]:
    await ctx.enqueue("ping", request.body)
    return {"status": 200, "body": {"ok": True}}
