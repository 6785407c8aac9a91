"""Every night at 02:00: delete the messages that were processed more than 30 days ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from iii import Context, CronTick, cron

PAGE = 1000

config = {
    "name": "CleanupMessages",
    "description": "Clean up old processed messages",
    "triggers": [cron("0 0 2 * * * *")],
}


async def handler(tick: CronTick, ctx: Context) -> None:
    ctx.logger.info("Starting message cleanup")
    cutoff = ctx.now() - timedelta(days=30)
    total = deleted = 0
    after = ""
    while page := await ctx.state.items("messages", after=after, limit=PAGE):
        for key, message in page:
            if was_processed_before(cutoff, message):
                await ctx.state.delete("messages", key)
                deleted += 1
        total, after = total + len(page), page[-1][0]
        await ctx.flush()
    ctx.logger.info("Cleanup completed", {"totalMessages": total, "deletedCount": deleted})


def was_processed_before(cutoff: datetime, message: Any) -> bool:
    """What is no processed message with a date is somebody else's, and stays."""
    try:
        date = datetime.fromisoformat(message.get("processedAt") or message["createdAt"])
        return message["status"] == "processed" and date.replace(tzinfo=date.tzinfo or UTC) < cutoff
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
