"""`ctx.state`: the durable state as one attempt sees and writes it.

Each call waits for a flush under way first, so that it sees what that committed. The buffer is draft.py's.
"""

from __future__ import annotations

import asyncio
import builtins
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from iii.handling.draft import Draft, StateEntry

if TYPE_CHECKING:
    from iii.handling.context import Context

__all__ = ["State"]

PAGES_AT_ONCE = 4
"""Between so many pages of keys that `clear` counts the loop turns."""


class State(Struct, eq=False):
    """`ctx.state`: own writes show at once, others' as soon as they are committed.

    Nothing is locked between a read and the commit: `get` then `set` loses the updates of others, and several
    reads are no snapshot. Use `update` with ops, or `entry` and `if_version`.
    """

    _ctx: Context
    _draft: Draft

    async def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """The value as it is committed now, or `default` where there is none.

        `get` then `set` loses updates: another handler may read the same value before this one commits, and
        both are acknowledged. `update(namespace, key, [{"type": "increment", "path": "count"}])` loses none;
        `set(…, if_version=)` with the version of `entry` is refused instead. Several `get`s are no snapshot:
        a commit of another's may lie between them. One `items` is one.
        """
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return self._draft.get(namespace, key, default)

    async def entry(self, namespace: str, key: str) -> StateEntry | None:
        """The value with its version (for `if_version`) and time; None where there is none."""
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return self._draft.entry(namespace, key)

    async def set(self, namespace: str, key: str, value: object, *, if_version: int | None = None) -> None:
        """Write a value. if_version: Conflict unless the committed value has it (0: there is none).

        Without it the last write wins: where the value was made of one that was read, see `get`.
        """
        if self._ctx.flight is not None:
            await self._ctx.landed()
        self._draft.set(namespace, key, value, if_version)

    async def update(self, namespace: str, key: str, patch: object) -> Any:
        """Merge a partial object, or apply ops like {"type": "increment", "path": "count", "by": 1}.

        Evaluated again at commit, so that it never conflicts; returns this handler's view, which is
        therefore no sequence number. BadMerge where the value is of another type.
        """
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return self._draft.update(namespace, key, patch)

    async def delete(self, namespace: str, key: str, *, if_version: int | None = None) -> bool:
        """Delete a value; whether there was one."""
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return self._draft.delete(namespace, key, if_version)

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Any]:
        """The values in key order. Without limit= all, TooLarge beyond 10,000."""
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return [entry.value for entry in self._draft.entries(namespace, prefix, after, limit)]

    async def items(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> builtins.list[tuple[str, Any]]:
        """The (key, value) pairs in key order, all of one moment; as `list`. Next page, of a later moment:
        after=the last key."""
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return [(entry.key, entry.value) for entry in self._draft.entries(namespace, prefix, after, limit)]

    async def namespaces(self) -> builtins.list[str]:
        """The namespaces that hold something."""
        if self._ctx.flight is not None:
            await self._ctx.landed()
        return self._draft.namespaces()

    async def clear(self, namespace: str, *, prefix: str = "") -> int:
        """Delete all keys (of a prefix) that are there now; how many. A failed attempt clears nothing.

        It commits with the outcome. Beyond what one Txn holds (10,000 writes; 16 MiB with the old values) all
        but the last of it goes in chunks just before: one that dies in between leaves the rest to its retry.
        """
        if self._ctx.flight is not None:
            await self._ctx.landed()
        count = 0
        for number, taken in enumerate(self._draft.clear(namespace, prefix)):
            count += taken
            if number and number % PAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return count
