"""The threads that plain `def` functions run in: how many there are, and their end.

Requests have threads of their own, so that slow ones cannot take those of messages. All are started when
needed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from iii.running.bindings import Binding

__all__ = ["HTTP_THREADS", "Threads"]

HTTP_THREADS = 32


class Threads:
    """`messages`: one for each slot that may need it; `requests`: HTTP_THREADS."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self.messages = ThreadPoolExecutor(_slots(bindings), "iii-step", show_name)
        self.requests = ThreadPoolExecutor(HTTP_THREADS, "iii-http", show_name)

    def close(self) -> None:
        """What waits for a thread never begins; what runs is not waited for."""
        for pool in (self.requests, self.messages):
            pool.shutdown(wait=False, cancel_futures=True)


def show_name() -> None:
    """Its name is the system's, too: `top -H` shows it, and the last word of a process that it stopped."""
    with suppress(OSError):
        own = threading.current_thread()
        Path(f"/proc/self/task/{own.native_id}/comm").write_text(own.name)


def _slots(bindings: Iterable[Binding]) -> int:
    """How many have a step, or a condition of it, that may be a plain `def`."""
    slots = (
        each.rules.concurrency
        for each in bindings
        if not each.step.is_async or any(start.condition for start in each.starts.values())
    )
    return max(1, sum(slots))
