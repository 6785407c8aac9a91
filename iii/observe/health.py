"""What /health says, to whoever watches over an instance from outside: here and on the console alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

__all__ = ["Instance", "health"]


class Instance(Protocol):
    """Of the store's roster."""

    @property
    def pid(self) -> int: ...
    @property
    def instance(self) -> int: ...
    @property
    def stuck_ms(self) -> int: ...


def health(*, draining: bool, others: Iterable[Instance]) -> tuple[int, dict[str, Any]]:
    """Status and body. An instance that answers is well; `others`: whose loop stands still is named, by its
    number under its supervisor, which one that was started by hand has not."""
    if draining:
        return 503, {"status": "draining"}
    stuck = [
        {"instance": each.instance or None, "pid": each.pid, "since_s": each.stuck_ms // 1000}
        for each in others
        if each.stuck_ms
    ]
    return 200, {"status": "ok", "stuck": stuck} if stuck else {"status": "ok"}
