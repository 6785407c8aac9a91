"""`from iii import state, enqueue, logger`: the running handler's own, without passing `ctx` along.

`state` is one object in two roles: called it declares a trigger (`state(namespace="orders")`), its methods
are those of the running handler's `ctx.state`. They answer by where they are called: in code that runs on an
event loop they are awaited, in a thread without one they are plain calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

from iii.errors import StepError
from iii.handling.blocking import BlockingContext
from iii.handling.context import Context
from iii.observe.step_logger import LogCalls
from iii.step import Fire, TriggerConfig, state_trigger

__all__ = ["AmbientEnqueue", "AmbientLogger", "AmbientState", "enqueue", "logger", "running", "state"]

AnyContext: TypeAlias = Context | BlockingContext

running: ContextVar[Context] = ContextVar("iii.running")
"""The context of the handler that runs here; the runner sets it in a copy of the caller's variables."""


def _ctx(name: str) -> AnyContext:
    ctx = running.get(None)
    if ctx is None:
        raise StepError(
            f"{name} belongs to a running handler and none runs here; outside of one use "
            "engine.state, engine.enqueue and the logging module"
        )
    return ctx if asyncio._get_running_loop() is ctx.loop else BlockingContext(ctx)


class AmbientState:
    """See State; every method returns what it returns there: an awaitable on an event loop."""

    __slots__ = ()

    def __call__(
        self,
        *,
        namespace: str | None = None,
        filter: Mapping[str, Any] | None = None,
        fire: Fire = "enter",
        condition: Any = None,
    ) -> TriggerConfig:
        """A state trigger, for `config["triggers"]`."""
        return state_trigger(namespace=namespace, filter=filter, fire=fire, condition=condition)

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """As State.get: `get` then `set` loses updates, several are no snapshot: `update`, `if_version`."""
        return _ctx("state.get").state.get(namespace, key, default)

    def entry(self, namespace: str, key: str) -> Any:
        return _ctx("state.entry").state.entry(namespace, key)

    def set(self, namespace: str, key: str, value: object, *, if_version: int | None = None) -> Any:
        return _ctx("state.set").state.set(namespace, key, value, if_version=if_version)

    def update(self, namespace: str, key: str, patch: object) -> Any:
        return _ctx("state.update").state.update(namespace, key, patch)

    def delete(self, namespace: str, key: str, *, if_version: int | None = None) -> Any:
        return _ctx("state.delete").state.delete(namespace, key, if_version=if_version)

    def list(self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None) -> Any:
        return _ctx("state.list").state.list(namespace, prefix=prefix, after=after, limit=limit)

    def items(self, namespace: str, *, prefix: str = "", after: str = "", limit: int | None = None) -> Any:
        return _ctx("state.items").state.items(namespace, prefix=prefix, after=after, limit=limit)

    def namespaces(self) -> Any:
        return _ctx("state.namespaces").state.namespaces()

    def clear(self, namespace: str, *, prefix: str = "") -> Any:
        return _ctx("state.clear").state.clear(namespace, prefix=prefix)


class AmbientEnqueue:
    """See Context.enqueue; the same options, as keywords or as one mapping."""

    __slots__ = ()

    def __call__(self, topic: str | Mapping[str, Any], data: object = None, **options: Any) -> Any:
        return _ctx("enqueue").enqueue(topic, data, **options)


class AmbientLogger(LogCalls):
    """See StepLogger."""

    __slots__ = ()

    def _write(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        fields: dict[str, Any],
        exc_info: object,
        extra: object,
        stacklevel: int,
    ) -> None:
        _ctx("logger").logger._write(level, message, args, fields, exc_info, extra, stacklevel, above=1)


state = AmbientState()
enqueue = AmbientEnqueue()
logger = AmbientLogger()
