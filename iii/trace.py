"""The trace that runs from a request to its messages, their state changes and what those trigger.

W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` = 00-<trace id>-<span id>-<flags>.
`iii-depth` counts the hops, so that a chain that feeds itself ends as a dead letter ("loop").
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import NamedTuple

DEPTH_MAX = 100
_HEX = frozenset("0123456789abcdef")
_random = random.Random(os.urandom(16))  # ids need to differ, not to be secret: 10 times faster than urandom
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(16)))


class Trace(NamedTuple):
    """trace_id: 32 hex digits, the same over the chain; span_id: 16, one per run; depth: hops so far."""

    trace_id: str
    span_id: str
    flags: str = "01"
    depth: int = 0

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def headers(self) -> dict[str, str]:
        """What an Enqueue or a change carries, one hop deeper."""
        return {"traceparent": self.traceparent, "iii-depth": str(self.depth + 1)}


def new() -> Trace:
    """The root of a new trace."""
    return Trace(f"{_random.getrandbits(128) or 1:032x}", f"{_random.getrandbits(64) or 1:016x}")


def child(headers: Mapping[str, str]) -> Trace:
    """The trace that `headers` carry, with a span of its own; a new one where they carry none."""
    trace_id, flags = _parse(headers.get("traceparent", ""))
    if not trace_id:
        return new()
    depth = headers.get("iii-depth", "")
    hops = int(depth) if depth.isascii() and depth.isdigit() and len(depth) < 7 else 0
    return Trace(trace_id, f"{_random.getrandbits(64) or 1:016x}", flags, hops)


def _parse(traceparent: str) -> tuple[str, str]:
    """(trace id, flags) of a valid traceparent, else ("", "")."""
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or [len(p) for p in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return "", ""
    if parts[0] == "00" and len(parts) > 4:
        return "", ""
    if not all(_HEX.issuperset(p) for p in parts[:4]) or set(parts[1]) == {"0"} or set(parts[2]) == {"0"}:
        return "", ""
    return parts[1], parts[3]
