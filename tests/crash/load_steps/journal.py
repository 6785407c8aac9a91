"""The outside record of what ran when: one line appended to the file `journal` at each start and stop.

start|stop  topic  message id  attempt  client  pid  ns of the monotonic clock
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def written_down(work: dict[str, Any], ctx: Any) -> Iterator[None]:
    """One run of a handler. A killed one has no stop."""
    number = ctx.message_id.rpartition("-")[2]  # the first release names no epoch
    line = f"{ctx.trigger.topic} {number} {ctx.attempt} {work['client']} {os.getpid()}"
    _append("start", line)
    try:
        yield
    finally:
        _append("stop", line)


def _append(what: str, line: str) -> None:
    os.write(_file(), f"{what} {line} {time.monotonic_ns()}\n".encode())


@cache
def _file() -> int:
    return os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
