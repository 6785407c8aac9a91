"""Waiting for what other threads and processes bring about: look again and again, fail at the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_S = 30.0
LOOK_AGAIN_S = 0.005

T = TypeVar("T")


def until(look: Callable[[], T], what: str = "", *, deadline_s: float = DEADLINE_S) -> T:
    """What `look` returns as soon as that is true."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what or look}"
        time.sleep(LOOK_AGAIN_S)
    return found
