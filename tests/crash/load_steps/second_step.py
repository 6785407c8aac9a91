"""second: the second hop, in a thread."""

from __future__ import annotations

from typing import Any

from iii import queue

from .journal import written_down

config = {"name": "Second", "triggers": [queue("second")]}


def handler(work: dict[str, Any], ctx: Any) -> None:
    with written_down(work, ctx):
        ctx.state.update("effects", work["id"], [{"type": "increment", "path": "second"}])
        ctx.state.update("work", work["id"], {"status": "done"})
