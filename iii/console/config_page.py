"""/api/config: the configuration as it holds, every default filled in and every secret hidden."""

from __future__ import annotations

from typing import Any

from iii.console.asks import Ask
from iii.observe.effective import effective

__all__ = ["ROUTES"]


def config(ask: Ask) -> dict[str, Any]:
    held = ask.means.config
    return {"file": str(held.file) if held.file else None, "effective": effective(held)}


ROUTES = (("GET", "/api/config", config),)
