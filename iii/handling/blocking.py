"""The twin of Context for what is not seen to be async: the same calls, answered by the thread that calls.

Where an event loop runs, the engine's or any other, a call returns what is to be awaited there; in a thread
without one it waits and returns the value. So one `ctx` serves a wrapper, which runs in a thread, and its
coroutine, be it returned (it runs on the engine's loop) or run in a loop that the wrapper starts. A call runs
on the engine's loop in any case, since a store is read there only.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from iii.handling.context import Context, StartedBy
from iii.handling.draft import StateEntry
from iii.handling.loops import PendingCall, result, send
from iii.handling.outbox import NORMAL, Delay, Priority, UniqueKey
from iii.handling.state import State
from iii.observe.step_logger import StepLogger
from iii.step import Step

__all__ = ["BlockingContext", "BlockingState"]

P = ParamSpec("P")
T = TypeVar("T")


class BlockingContext:
    """`ctx` of a plain `def` handler; see Context for what each part does."""

    __slots__ = ("_ctx", "state")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.state = BlockingState(ctx)

    @property
    def trigger(self) -> StartedBy:
        return self._ctx.trigger

    @property
    def step(self) -> Step:
        return self._ctx.step

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
        return _answer(self._ctx, message)

    def flush(self) -> None:
        return _answer(self._ctx, self._ctx.flush())


class BlockingState:
    """`ctx.state` of a plain `def` handler; see State for what each call does."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """As State.get: `get` then `set` loses updates, several are no snapshot: `update`, `if_version`."""
        return self._call(State.get, namespace, key, default)

    def entry(self, namespace: str, key: str) -> StateEntry | None:
        return self._call(State.entry, namespace, key)

    def set(self, namespace: str, key: str, value: object, *, if_version: int | None = None) -> None:
        return self._call(State.set, namespace, key, value, if_version=if_version)

    def update(self, namespace: str, key: str, patch: object) -> Any:
        return self._call(State.update, namespace, key, patch)

    def delete(self, namespace: str, key: str, *, if_version: int | None = None) -> bool:
        return self._call(State.delete, namespace, key, if_version=if_version)

    def list(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Any]:
        return self._call(State.list, namespace, prefix=prefix, after=after, limit=limit)

    def items(
        self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> builtins.list[tuple[str, Any]]:
        return self._call(State.items, namespace, prefix=prefix, after=after, limit=limit)

    def namespaces(self) -> builtins.list[str]:
        return self._call(State.namespaces)

    def clear(self, namespace: str, *, prefix: str = "") -> int:
        return self._call(State.clear, namespace, prefix=prefix)

    def _call(
        self,
        method: Callable[Concatenate[State, P], Coroutine[Any, Any, T]],
        *args: P.args,
        **named: P.kwargs,
    ) -> T:
        ctx = self._ctx

        async def call() -> T:  # a context's state and draft are made on the loop alone
            return await method(ctx.state, *args, **named)

        return _answer(ctx, call())


def _answer(ctx: Context, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, once it ran on the engine's loop; on a loop what is to be awaited for that."""
    running = asyncio._get_running_loop()
    if running is ctx.loop:
        return cast(T, work)
    job = send(ctx, work)
    if running is None:
        return result(ctx, job, work)
    ctx.expect(job)
    return cast(T, PendingCall(ctx, job, work))
