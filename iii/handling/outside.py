"""`engine.state`: the durable state for code that is no handler. Each call is a commit of its own."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from iii.errors import IIIError
from iii.handling.clearing import chunks, doomed
from iii.handling.draft import Draft, StateEntry
from iii.model import Delete, Txn
from iii.store.contract import Store
from iii.trace import Sampler

__all__ = ["OutsideState"]

T = TypeVar("T")


class OutsideState:
    """As `ctx.state`, but written at once: on disk, and seen by triggers, when a call returns.

    Here too `get` then `set` loses updates, and several `get`s are no snapshot: `update`, or `if_version`.
    """

    def __init__(self, store: Store, sampler: Sampler | None = None) -> None:
        self._store, self._sampler = store, sampler or Sampler()
        self.loop: asyncio.AbstractEventLoop | None = None  # where commits are answered, once that is known

    def require_loop(self) -> None:
        """IIIError in another loop than the engine's: what is written would land, and its answer not come."""
        if self.loop is not None and asyncio.get_running_loop() is not self.loop:
            raise IIIError(
                "this engine runs on the event loop of another thread; call it there: "
                "anyio.from_thread.run(engine.enqueue, …) in a plain def of FastAPI or Starlette, "
                "portal.call(…) of a TestClient, "
                "else asyncio.run_coroutine_threadsafe(engine.enqueue(…), loop)"
            )

    async def get(self, namespace: str, key: str, default: Any = None) -> Any:
        return Draft(self._store).get(namespace, key, default)

    async def entry(self, namespace: str, key: str) -> StateEntry | None:
        return Draft(self._store).entry(namespace, key)

    async def set(self, namespace: str, key: str, value: object, *, if_version: int | None = None) -> None:
        await self._commit(lambda draft: draft.set(namespace, key, value, if_version))

    async def update(self, namespace: str, key: str, patch: object) -> Any:
        return await self._commit(lambda draft: draft.update(namespace, key, patch))

    async def delete(self, namespace: str, key: str, *, if_version: int | None = None) -> bool:
        return await self._commit(lambda draft: draft.delete(namespace, key, if_version))

    async def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Any]:
        return [entry.value for entry in Draft(self._store).entries(namespace, prefix, after, limit)]

    async def items(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> builtins.list[tuple[str, Any]]:
        entries = Draft(self._store).entries(namespace, prefix, after, limit)
        return [(entry.key, entry.value) for entry in entries]

    async def namespaces(self) -> builtins.list[str]:
        return Draft(self._store).namespaces()

    async def clear(self, namespace: str, *, prefix: str = "") -> int:
        """Delete all keys (of a prefix) that are there now, in chunks that commit one by one; how many."""
        count = 0
        for ops in chunks(doomed(self._store, namespace, prefix, self._store.version())):
            count += await self._commit(partial(_delete_all, ops))
        return count

    async def _commit(self, write: Callable[[Draft], T]) -> T:
        self.require_loop()
        draft = Draft(self._store)
        result = write(draft)
        if (effects := draft.take()).ops:
            await self._store.commit(Txn(effects.ops, self._sampler.root_headers(), effects.checked))
        return result


def _delete_all(ops: builtins.list[Delete], draft: Draft) -> int:
    return sum(draft.delete(op.namespace, op.key, None) for op in ops)
