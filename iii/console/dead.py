"""/api/dead: dead letters grouped by what they died of."""

from __future__ import annotations

from typing import Any

from iii.console.asks import Ask
from iii.store.letters import dead_groups

__all__ = ["ROUTES"]


async def dead(ask: Ask) -> dict[str, Any]:
    groups, scanned = await dead_groups(ask.means.store, ask.text("topic"))
    return {"groups": groups, "scanned": scanned}


ROUTES = (("GET", "/api/dead", dead),)
