"""An order comes in by HTTP, with an Idempotency-Key: its answer is kept."""

from __future__ import annotations

from iii import StepConfig, http

config = StepConfig(name="Order", triggers=[http("POST", "/orders")])


async def handler(request, ctx):
    order = request.body
    await ctx.state.set("orders", order["id"], {**order, "status": "placed"})
    await ctx.enqueue("work", {"do": "confirm", "id": order["id"]})
    return {"placed": order["id"]}
