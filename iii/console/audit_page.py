"""/api/audit: what was changed through console and command line, by whom, the newest first."""

from __future__ import annotations

from typing import Any

from iii.console.asks import Ask
from iii.store.audit import audits

__all__ = ["ROUTES"]


def audit(ask: Ask) -> dict[str, Any]:
    limit = ask.whole("limit", 100, 1, 1_000)
    rows = audits(ask.means.store, limit=limit, before=ask.before())
    return {
        "entries": [row.entry for row in rows],
        "next": str(rows[-1].id) if len(rows) == limit else None,
    }


ROUTES = (("GET", "/api/audit", audit),)
