"""What is to happen to one key: the ops that are buffered for it, and the value that follows from them."""

from __future__ import annotations

from typing import TypeAlias

from iii.formats.merge import evaluate
from iii.model import Delete, Entry, Merge, Put

__all__ = ["Key", "Patched", "Replaced", "Write"]

Key: TypeAlias = tuple[str, str]
"""(namespace, key)"""


class Replaced:
    """One key's new value, or that it is deleted. `size`: of its ops, as the store counts it."""

    __slots__ = ("ops", "size")

    def __init__(self, op: Put | Delete, size: int) -> None:
        self.ops, self.size = (op,), size

    def over(self, entry: Entry | None) -> bytes | None:
        """The value as the handler sees it, `entry` being what is committed."""
        op = self.ops[0]
        return op.value if type(op) is Put else None


class Patched:
    """As Replaced: patches upon whatever is there."""

    __slots__ = ("_seen", "ops", "size")

    def __init__(self) -> None:
        self.ops: list[Merge] = []
        self.size = 0
        self._seen: tuple[int, bytes] | None = None  # (version of the base, value after the patches)

    def over(self, entry: Entry | None) -> bytes | None:
        version = entry.version if entry else 0
        if self._seen is None or self._seen[0] != version:
            value = entry.value if entry else None
            for op in self.ops:
                value = evaluate(value, op.patch)
            assert value is not None
            self._seen = version, value
        return self._seen[1]

    def add(self, op: Merge, size: int, entry: Entry | None, value: bytes) -> None:
        """One patch more; `value` is what follows from it, upon `entry`."""
        self.ops.append(op)
        self.size += size
        self._seen = entry.version if entry is not None else 0, value


Write: TypeAlias = Replaced | Patched
