"""Spans on their way to a collector: the SDK's batches, sent by OTLP over HTTP from a thread of their own.

Owns the exporter and its end. Nothing waits for a collector: what it does not take is left out once the SDK's
queue is full (OTEL_BSP_* say how long that is), and at the engine's stop after FLUSH_S. A process that the
engine owns gets its tracer provider and hears of the SDK's troubles in its own log (`own_process`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Thread

from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    ProxyTracerProvider,
    get_tracer_provider,
    set_span_in_context,
    set_tracer_provider,
)
from opentelemetry.util.types import AttributeValue

from iii.errors import ConfigError
from iii.observe.redaction import Redaction
from iii.observe.spans import RunSpan, finished
from iii.sections import TracesConfig
from iii.trace import Trace

__all__ = ["Spans"]

FLUSH_S = 2.0
SAID_AGAIN_S = 60.0

log = logging.getLogger("iii.traces")


class Spans:
    """The spans of one engine. `file`: of the configuration, for an error; `redact`: names whose values no
    span shows."""

    def __init__(self, config: TracesConfig, file: str = "", redact: Iterable[str] = ()) -> None:
        self._redaction = Redaction(redact)
        self._config, self._file = config, file
        self._resource = _resource(config.service_name)
        self._limits = SpanLimits()
        self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)

    def start(self) -> None:
        """From now on spans leave. ConfigError: the SDK cannot use what it is given."""
        config, timeout_ms = self._config, self._config.timeout_ms
        try:
            self._exporter = _Exporter(
                OTLPSpanExporter(
                    endpoint=config.endpoint,
                    headers=config.headers or None,
                    timeout=None if timeout_ms is None else timeout_ms / 1000,
                )
            )
            self._processor: SpanProcessor = BatchSpanProcessor(self._exporter)
        except Exception as error:
            raise ConfigError(
                f"spans cannot be exported: {error}; look at the OTEL_… variables, too",
                file=self._file,
                field="traces",
            ) from error
        self._provider.add_span_processor(self._processor)

    def own_process(self) -> None:
        """The process is the engine's: tracers that steps and libraries ask for are ours, unless they have a
        provider of their own; and what the SDK has to say stands in our log."""
        if isinstance(get_tracer_provider(), ProxyTracerProvider):
            set_tracer_provider(self._provider)
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers[:] = [_SdkLines()]
        sdk.propagate = False

    # --------------------------------------------------------------------------------------- a run

    def begin(self, headers: Mapping[str, str], trace: Trace | None = None) -> RunSpan:
        """A run is about to begin; as RunSpan."""
        return RunSpan(headers, self._limits, trace)

    def enter(self, span: RunSpan) -> None:
        """`span` is the current one, in the context variables of whoever calls."""
        attach(set_span_in_context(span, Context()))

    def export(self, span: RunSpan) -> None:
        """Its record, `span.run`, is durable."""
        if (run := span.run) is None or span.is_over:
            return
        try:
            self._processor.on_end(finished(span, run, self._resource, self._redaction))
        except Exception:  # whatever a handler put into it: its work is done
            log.exception("a span of %s was not exported", run.step)

    async def close(self) -> None:
        """Send what is left. What has not arrived within FLUSH_S does not."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waited
                loop.call_soon_threadsafe(sent.set)

        Thread(target=send, name="iii-spans", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await sent.wait()
        except TimeoutError:
            self._exporter.shutdown()
            log.warning("the last spans are lost: the collector did not take them within %g s", FLUSH_S)


class _Exporter(SpanExporter):
    """The SDK's, with an end: after `shutdown` nothing is tried any more, and nobody is told so."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter, self._is_over = exporter, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE if self._is_over else self._exporter.export(spans)

    def shutdown(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._exporter.shutdown()


class _SdkLines(logging.Handler):
    """What the SDK logs, as a line of ours; each kind once in SAID_AGAIN_S, for a collector may be away for
    long."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now, kind = time.monotonic(), str(record.msg)
        if now - self._said.get(kind, -SAID_AGAIN_S) >= SAID_AGAIN_S:
            self._said[kind] = now
            why = f" {record.exc_info[1]!r}" if record.exc_info else ""
            log.log(record.levelno, "%s%s", record.getMessage(), why)


def _resource(service_name: str | None) -> Resource:
    """This process, and what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say."""
    own: dict[str, AttributeValue] = {
        "service.instance.id": str(uuid.uuid4()),
        "process.pid": os.getpid(),
        "host.name": socket.gethostname(),
    }
    resource = Resource.create(own)
    if service_name is None and str(resource.attributes["service.name"]).startswith("unknown_service"):
        service_name = "iii"
    return resource if service_name is None else resource.merge(Resource({"service.name": service_name}))
