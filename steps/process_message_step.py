"""message.sent: process a message in the background; what fails is retried by the queue."""

from __future__ import annotations

import asyncio
from typing import Literal

from msgspec import Struct

from iii import Context, queue

WORK_MS = {"high": 100, "normal": 500, "low": 1000}


class SentMessage(Struct):
    messageId: str
    text: str
    priority: Literal["low", "normal", "high"]


config = {
    "name": "ProcessMessage",
    "description": "Background worker for message processing",
    "triggers": [queue("message.sent", input=SentMessage)],
    "enqueues": ["message.processed"],
}


async def handler(message: SentMessage, ctx: Context) -> None:
    message_id = message.messageId
    ctx.logger.info("Processing message", {"messageId": message_id, "priority": message.priority})
    try:
        processed_text = process_text(message.text)
        processing_time = await simulate_work(message.priority)
        await ctx.state.update(
            "messages",
            message_id,
            {
                "status": "processed",
                "processedAt": ctx.now().isoformat(),
                "processedText": processed_text,
                "processingTime": processing_time,
            },
        )
        ctx.logger.info(
            "Message processed successfully", {"messageId": message_id, "processingTime": processing_time}
        )
        await ctx.enqueue("message.processed", {"messageId": message_id, "processedText": processed_text})
    except Exception as error:
        ctx.logger.error("Message processing failed", {"messageId": message_id, "error": str(error)})
        await ctx.state.update(
            "messages",
            message_id,
            {"status": "failed", "error": str(error), "failedAt": ctx.now().isoformat()},
        )
        raise  # the queue tries again: the state above is kept, what was enqueued is not


def process_text(text: str) -> str:
    return text.upper()


async def simulate_work(priority: str) -> int:
    """Stands for an API call or a transformation; returns how many milliseconds it took."""
    delay_ms = WORK_MS[priority]
    await asyncio.sleep(delay_ms / 1000)
    return delay_ms
