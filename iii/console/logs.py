"""/api/logs: the newest lines of the log that the data folder keeps, of all instances."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from iii.console.asks import Ask
from iii.console.means import Means
from iii.observe.log_file import LEVELS, LogTail, TailedLine
from iii.threads import in_thread

__all__ = ["ROUTES", "LogView", "folder", "log_view"]

SCAN_MAX = 20_000


class LogView(Struct, frozen=True, omit_defaults=True):
    at_ms: int
    level: str
    message: str
    logger: str = ""
    step: str = ""
    trace_id: str = ""
    attempt: int = 0
    fields: dict[str, Any] = {}
    error: str = ""


def folder(means: Means) -> Path | None:
    """None where no lines are kept."""
    config = means.config
    return config.store.path if config.store.kind == "lmdb" and config.log.file_bytes_max else None


def log_view(line: TailedLine) -> LogView:
    try:
        at_ms = round(datetime.fromisoformat(line.time).timestamp() * 1000)
    except ValueError:
        at_ms = 0
    return LogView(
        at_ms,
        line.level,
        line.message,
        line.logger,
        line.step,
        line.trace_id,
        line.attempt,
        line.fields,
        line.error,
    )


async def logs(ask: Ask) -> dict[str, Any]:
    data = folder(ask.means)
    limit, level = ask.whole("limit", 200, 1, 2_000), ask.choice("level", LEVELS)
    if data is None:
        return {"lines": [], "next": None}
    tail = LogTail(data, step=ask.given("step"), level=level)
    lines = await in_thread(lambda: tail.last(SCAN_MAX))
    q, trace = ask.text("q").lower(), ask.text("trace")
    before = ask.whole("before", 0, 1, 1 << 62)
    wanted = (
        log_view(line)
        for line in reversed(lines)
        if (not trace or line.trace_id == trace) and (not q or q in _text(line))
    )
    shown = list(islice((view for view in wanted if not before or view.at_ms < before), limit + 1))
    page = shown[:limit]
    return {"lines": page, "next": str(page[-1].at_ms) if len(shown) > limit else None}


def _text(line: TailedLine) -> str:
    return f"{line.message} {line.step} {line.trace_id} {line.fields or ''} {line.error}".lower()


ROUTES = (("GET", "/api/logs", logs),)
