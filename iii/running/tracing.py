"""Runs as OpenTelemetry spans, where the configuration asks for them: what an engine does otherwise then.

Nothing of opentelemetry is imported where it does not. The span of a run hangs on its context: made when its
handler is first called, given the run's record by the Recorder, exported when that is durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from iii.clock import Clock
from iii.config import Config
from iii.errors import ConfigError
from iii.handling.ambient import running
from iii.handling.context import Context
from iii.running.invoke import Invoker
from iii.running.threads import Threads
from iii.running.timers import Timers

if TYPE_CHECKING:
    from iii.observe.otlp import Spans
    from iii.observe.spans import RunSpan

__all__ = ["TracedInvoker", "invoker_of", "spans_of"]


def spans_of(config: Config) -> Spans | None:
    """What exports spans, not started; None where nobody asks for them. ConfigError: its extra is missing."""
    if config.traces is None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    file = str(config.file or "")
    try:
        from iii.observe.otlp import Spans
    except ImportError as error:
        raise ConfigError(
            f"spans need the OpenTelemetry SDK ({error}); pip install 'iii-engine[otel]'",
            file=file,
            field="traces",
        ) from error
    return Spans(config.traces, file, config.log.redact)


def invoker_of(spans: Spans | None, timers: Timers, threads: Threads, clock: Clock) -> Invoker:
    """What calls handlers."""
    pools = threads.messages, threads.requests
    return Invoker(timers, *pools, clock) if spans is None else TracedInvoker(spans, timers, *pools, clock)


class TracedInvoker(Invoker):
    """As Invoker; while a function runs, the span of its run is OpenTelemetry's current one."""

    def __init__(self, spans: Spans, *args: Any) -> None:
        super().__init__(*args)
        self._spans = spans

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], ctx: Context) -> Any:
        return super().begin(self._inside(function, ctx), args, ctx)

    async def _in_thread(
        self, function: Callable[..., Any], args: tuple[Any, ...], ctx: Context, timeout_ms: int | None
    ) -> Any:
        return await super()._in_thread(self._inside(function, ctx), args, ctx, timeout_ms)

    def _inside(self, function: Callable[..., Any], ctx: Context) -> Callable[..., Any]:
        if running.get(None) is ctx:  # called by another of the run's functions, maybe in a span of its own
            return function
        if ctx.span is None:
            ctx.span = self._spans.begin(ctx.headers, ctx.trace if ctx.message is None else None)
        return partial(_call, self._spans.enter, ctx.span, function)


def _call(enter: Callable[[RunSpan], None], span: RunSpan, function: Callable[..., Any], *args: Any) -> Any:
    """In the copy of the context variables that the function runs in."""
    enter(span)
    return function(*args)
