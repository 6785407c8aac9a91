"""POST /messages: store a message and hand it to the background worker."""

from __future__ import annotations

import random
import string
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from iii import Context, Request, http


class NewMessage(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=500)]
    priority: Literal["low", "normal", "high"] = "normal"
    metadata: dict[str, str] | None = None


class Accepted(Struct):
    messageId: str
    status: str


config = {
    "name": "SendMessage",
    "description": "Receives messages and enqueues them for background processing",
    "triggers": [http("POST", "/messages", body_schema=NewMessage, response_schema={200: Accepted})],
    "enqueues": ["message.sent"],
}


async def handler(request: Request, ctx: Context) -> dict[str, Any]:
    message: NewMessage = request.body
    now = ctx.now()
    message_id = f"msg-{int(now.timestamp() * 1000)}-{_random_text(7)}"
    ctx.logger.info("Received message", {"messageId": message_id, "priority": message.priority})

    await ctx.state.set(
        "messages",
        message_id,
        {
            "text": message.text,
            "priority": message.priority,
            "metadata": message.metadata,
            "status": "pending",
            "createdAt": now.isoformat(),
        },
    )
    await ctx.enqueue(
        "message.sent",
        {"messageId": message_id, "text": message.text, "priority": message.priority},
        priority=message.priority,
    )
    return {"status": 200, "body": {"messageId": message_id, "status": "enqueued"}}


def _random_text(length: int) -> str:
    return "".join(random.choices(string.ascii_lowercase + string.digits, k=length))
