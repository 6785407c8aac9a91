"""What of the kept HTTP answers stays (contract 24): how large one is, and what stands for it. Pure.

An answer is a message in a lane of the engine's own, "$http/<step>" without a step. It counts its payload and
ROW_BYTES for the rows beside it; in the file it may take more, as large payloads lie in whole pages.
"""

from __future__ import annotations

from iii.model import Enqueue

__all__ = ["ROW_BYTES", "TOPICS", "headers", "is_kept", "size_of", "unique_key"]

TOPICS = "$http/"
ROW_BYTES = 512
"""What an answer takes beside its payload: its record, its unique key, and when each of them expires."""

_UNIQUE = "iii-unique"
"""The header that names an answer's unique key, which goes with it."""


def is_kept(topic: str, step: str) -> bool:
    """Whether kept answers lie in this lane."""
    return topic.startswith(TOPICS) and not step


def size_of(payload_bytes: int) -> int:
    return payload_bytes + ROW_BYTES


def headers(op: Enqueue) -> dict[str, str]:
    """Those its row has."""
    return op.headers if op.unique is None else {**op.headers, _UNIQUE: op.unique.key}


def unique_key(headers: dict[str, str]) -> str | None:
    """None: the first release wrote the row."""
    return headers.get(_UNIQUE)
