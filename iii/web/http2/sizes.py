"""How large the answers of a path were lately: what a handler of it is expected to give.

The largest of the last answers counts, by a quarter less with each one since. Paths that were not asked for
for long are forgotten.
"""

from __future__ import annotations

__all__ = ["KNOWN_BYTES_MIN", "UNKNOWN_BYTES", "AnswerSizes"]

UNKNOWN_BYTES = 64 << 10
KNOWN_BYTES_MIN = 32 << 10
PATHS_MAX = 1024
PATH_LENGTH_MAX = 256  # longer ones stay unknown


class AnswerSizes:
    """For all connections of an application."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def expected(self, path: str) -> int:
        return max(KNOWN_BYTES_MIN, self._bytes.get(path, UNKNOWN_BYTES))

    def gave(self, path: str, size: int) -> None:
        if len(path) > PATH_LENGTH_MAX:
            return
        self._bytes[path] = max(size, self._bytes.pop(path, 0) * 3 // 4)
        if len(self._bytes) > PATHS_MAX:
            del self._bytes[next(iter(self._bytes))]
