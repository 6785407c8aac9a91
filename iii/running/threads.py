"""The threads that plain `def` functions run in: how many there are, and their end.

Requests have threads of their own, so that slow ones cannot take those of messages. All are started when
needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from iii.running.bindings import Binding

__all__ = ["HTTP_THREADS", "Threads"]

HTTP_THREADS = 32


class Threads:
    """`messages`: one for each slot that may need it; `requests`: HTTP_THREADS."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self.messages = ThreadPoolExecutor(_slots(bindings), thread_name_prefix="iii-step")
        self.requests = ThreadPoolExecutor(HTTP_THREADS, thread_name_prefix="iii-http")

    def close(self) -> None:
        """What waits for a thread never begins; what runs is not waited for."""
        for pool in (self.requests, self.messages):
            pool.shutdown(wait=False, cancel_futures=True)


def _slots(bindings: Iterable[Binding]) -> int:
    """How many have a step, or a condition of it, that may be a plain `def`."""
    slots = (
        each.rules.concurrency
        for each in bindings
        if not each.step.is_async or any(start.condition for start in each.starts.values())
    )
    return max(1, sum(slots))
