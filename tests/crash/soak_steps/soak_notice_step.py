"""Each hundredth value, in a thread."""

from __future__ import annotations

from typing import Any

from iii import StateChange, state


def _is_hundredth(change: StateChange, ctx: Any) -> bool:
    return bool(change.value["number"] % 100 == 0)


config = {
    "name": "Notice",
    "triggers": [state(namespace="work", fire="every", condition=_is_hundredth)],
}


def handler(change: StateChange, ctx: Any) -> None:
    ctx.state.set("noticed", change.key, change.value["number"])
