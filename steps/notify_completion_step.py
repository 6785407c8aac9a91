"""A message's status becomes "processed": send a notification."""

from __future__ import annotations

from iii import Context, StateChange, state

config = {
    "name": "NotifyCompletion",
    "description": "Send notification when message is processed",
    "triggers": [state(namespace="messages", filter={"status": "processed"})],
}


async def handler(change: StateChange, ctx: Context) -> None:
    await send_notification(change.key, change.value.get("processedAt"), ctx)


async def send_notification(message_id: str, completed_at: str | None, ctx: Context) -> None:
    """Stands for an e-mail or a push message."""
    ctx.logger.info("Notification sent", {"messageId": message_id, "completedAt": completed_at})
