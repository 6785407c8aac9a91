"""The twin of Context for plain `def` handlers: the same calls, blocking, from the handler's thread.

Each call runs on the loop while the thread waits: a store is read on its loop only, and a handler may use
its context from threads of its own.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from iii.handling.context import Context, StartedBy
from iii.handling.draft import StateEntry
from iii.handling.outbox import NORMAL, Delay, Priority, UniqueKey
from iii.observe.logs import StepLogger

__all__ = ["BlockingContext", "BlockingState"]

T = TypeVar("T")


class BlockingContext:
    """`ctx` of a plain `def` handler; see Context for what each part does."""

    __slots__ = ("_ctx", "_loop", "state")

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx, self._loop = ctx, loop
        self.state = BlockingState(self)

    @property
    def trigger(self) -> StartedBy:
        return self._ctx.trigger

    @property
    def headers(self) -> Mapping[str, str]:
        return self._ctx.headers

    @property
    def message_id(self) -> str:
        return self._ctx.message_id

    @property
    def attempt(self) -> int:
        return self._ctx.attempt

    @property
    def trace_id(self) -> str:
        return self._ctx.trace_id

    @property
    def logger(self) -> StepLogger:
        return self._ctx.logger

    def now(self) -> datetime:
        return self._ctx.now()

    @property
    def twin(self) -> Context:
        """The context it stands for."""
        return self._ctx

    def enqueue(
        self,
        topic: str | Mapping[str, Any],
        data: object = None,
        *,
        priority: Priority = NORMAL,
        delay: Delay = 0,
        group: str | None = None,
        unique: UniqueKey | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = self._ctx.enqueue(
            topic, data, priority=priority, delay=delay, group=group, unique=unique, headers=headers
        )
        self.wait(message)

    def flush(self) -> None:
        self.wait(self._ctx.flush())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop while this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class BlockingState:
    """`ctx.state` of a plain `def` handler; see State for what each call does."""

    __slots__ = ("_state", "_wait")

    def __init__(self, ctx: BlockingContext) -> None:
        self._state, self._wait = ctx.twin.state, ctx.wait

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        return self._wait(self._state.get(namespace, key, default))

    def entry(self, namespace: str, key: str) -> StateEntry | None:
        return self._wait(self._state.entry(namespace, key))

    def set(self, namespace: str, key: str, value: object, *, if_version: int | None = None) -> None:
        self._wait(self._state.set(namespace, key, value, if_version=if_version))

    def update(self, namespace: str, key: str, patch: object) -> Any:
        return self._wait(self._state.update(namespace, key, patch))

    def delete(self, namespace: str, key: str, *, if_version: int | None = None) -> bool:
        return self._wait(self._state.delete(namespace, key, if_version=if_version))

    def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Any]:
        return self._wait(self._state.list(namespace, prefix=prefix, after=after, limit=limit))

    def items(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> builtins.list[tuple[str, Any]]:
        return self._wait(self._state.items(namespace, prefix=prefix, after=after, limit=limit))

    def namespaces(self) -> builtins.list[str]:
        return self._wait(self._state.namespaces())

    def clear(self, namespace: str, *, prefix: str = "") -> int:
        return self._wait(self._state.clear(namespace, prefix=prefix))
