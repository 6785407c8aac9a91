"""A run as an OpenTelemetry span: the very ids of its record, so that both show the same tree.

    RunSpan     while it runs: the current span of its handler, which may add to it
    finished    when its record is durable: what is exported, made from that record

    trigger                kind        name
    http                   SERVER      "POST /orders/{id}"
    queue, cron, state     CONSUMER    "process <topic>" ($cron/<step>, $state/<step>)

Attributes by the semantic conventions (https://opentelemetry.io/docs/specs/semconv/), what they have no word
for as `iii.…`. Sends nothing (otlp.py). Only this module and otlp.py import opentelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from iii.observe.capture import told_traceback
from iii.observe.redaction import Redaction
from iii.observe.runs import Run
from iii.store.quotas import FAILURES
from iii.trace import Trace, child

__all__ = ["RunSpan", "finished"]

Attributes: TypeAlias = Mapping[str, AttributeValue]

NS_PER_MS = 1_000_000
SCOPE = InstrumentationScope("iii")

_STACK = "exception.stacktrace"
_NO_STATUS = Status(StatusCode.UNSET)


class RunSpan(Span):
    """What a handler finds as the current span. Its end is the engine's to say: `end()` does nothing.

    run: the record that it is exported with, once there is one. Any thread may add to it. Nothing is made
    before it is asked for: most handlers never do, and most spans are not exported.
    """

    run: Run | None = None
    name, status = "", _NO_STATUS
    is_over = False
    attributes: BoundedAttributes | None = None
    events: BoundedList[Event] | None = None
    links: BoundedList[Link] | None = None
    _trace: Trace | None = None
    _context: SpanContext | None = None

    def __init__(self, headers: Mapping[str, str], limits: SpanLimits, trace: Trace | None = None) -> None:
        """headers: the message's; `trace` is theirs where it is not given."""
        self._headers, self._limits = headers, limits
        if trace is not None:
            self._trace = trace

    @property
    def trace(self) -> Trace:
        trace = self._trace
        if trace is None:  # several threads may ask at once: one of their answers holds
            trace = self.__dict__.setdefault("_trace", child(self._headers))
        return trace

    def get_span_context(self) -> SpanContext:
        if self._context is None:
            trace = self.trace
            self._context = _context(trace.trace_id, trace.span_id, is_sampled=trace.sampled)
        return self._context

    def is_recording(self) -> bool:
        """Also where its trace is not kept: a run that fails is exported in any case."""
        return not self.is_over

    def set_attributes(self, attributes: Attributes) -> None:
        for name, value in attributes.items():
            self.set_attribute(name, value)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if self.is_over:
            return
        if self.attributes is None:
            limits = self._limits
            self.attributes = BoundedAttributes(
                limits.max_span_attributes, immutable=False, max_value_len=limits.max_span_attribute_length
            )
        self.attributes[key] = value

    def add_event(
        self, name: str, attributes: Attributes | None = None, timestamp: int | None = None
    ) -> None:
        if self.is_over:
            return
        if self.events is None:
            self.events = BoundedList(self._limits.max_events)
        bounded = self._bounded(attributes, self._limits.max_event_attributes)
        self.events.append(Event(name, bounded, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes | None = None) -> None:
        if self.is_over or not context.is_valid:
            return
        if self.links is None:
            self.links = BoundedList(self._limits.max_links)
        self.links.append(Link(context, self._bounded(attributes, self._limits.max_link_attributes)))

    def update_name(self, name: str) -> None:
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """OK is final, and nothing unsets a status, as the specification has it."""
        given = status if isinstance(status, Status) else Status(status, description)
        if not given.is_unset and self.status.status_code is not StatusCode.OK:
            self.status = given

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        told = _exception(f"{module}{kind.__qualname__}", str(exception), told_traceback(exception))
        self.add_event(
            "exception", {**told, "exception.escaped": str(escaped), **(attributes or {})}, timestamp
        )

    def end(self, end_time: int | None = None) -> None: ...

    def _bounded(self, attributes: Attributes | None, most: int | None) -> BoundedAttributes:
        return BoundedAttributes(most, attributes, max_value_len=self._limits.max_attribute_length)


def finished(span: RunSpan, run: Run, resource: Resource, redaction: Redaction) -> ReadableSpan:
    """`span` with what its record says; from then on it takes nothing any more. What the handler added goes
    through `redaction`; the record has been through it.

    Always as a sampled one: whoever asks for it has decided that it is exported.
    """
    span.is_over = True
    start_ns = run.started_ms * NS_PER_MS
    end_ns = start_ns + round(run.duration_ms * NS_PER_MS)
    events = [_without_secrets(event, redaction) for event in span.events or ()]
    if run.outcome in FAILURES and run.error:
        kind, message = _error(run)
        events.append(Event("exception", _exception(kind, message, run.traceback), end_ns))
    return ReadableSpan(
        name=span.name or _name(run),
        context=_context(run.trace_id, run.span_id),
        parent=_context(run.trace_id, run.parent_id, is_remote=True) if run.parent_id else None,
        resource=resource,
        attributes={**dict(_attributes(run)), **redaction.fields(span.attributes or {})},
        events=events,
        links=span.links if span.links is not None else (),
        kind=SpanKind.SERVER if run.trigger == "http" else SpanKind.CONSUMER,
        status=Status(StatusCode.ERROR, run.error or None) if _is_error(run) else _status(span, redaction),
        start_time=start_ns,
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )


def _without_secrets(event: Event, redaction: Redaction) -> Event:
    told = redaction.fields(event.attributes or {})
    if isinstance(stack := (event.attributes or {}).get(_STACK), str):
        told[_STACK] = redaction.traceback(stack)
    return Event(event.name, told, event.timestamp)


def _status(span: RunSpan, redaction: Redaction) -> Status:
    said = span.status.description
    return Status(span.status.status_code, redaction.text(said)) if said else span.status


def _context(trace_id: str, span_id: str, *, is_sampled: bool = True, is_remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags)


def _name(run: Run) -> str:
    return run.source if run.trigger == "http" else f"process {run.topic}"


def _attributes(run: Run) -> Iterator[tuple[str, AttributeValue]]:
    yield "iii.step", run.step
    yield "iii.trigger", run.trigger
    yield "iii.attempt", run.attempt
    yield "iii.outcome", run.outcome
    yield "iii.session", run.session
    if run.trigger == "http":
        yield from _of_request(run)
    else:
        yield from _of_message(run)
    if run.outcome in FAILURES:
        yield "error.type", _error(run)[0] if run.error else str(run.status)
    elif run.outcome == "cancelled":
        yield "iii.cancel_reason", run.error


def _of_request(run: Run) -> Iterator[tuple[str, AttributeValue]]:
    method, _, route = run.source.partition(" ")
    yield "http.request.method", method
    yield "http.route", route
    yield "http.response.status_code", run.status


def _of_message(run: Run) -> Iterator[tuple[str, AttributeValue]]:
    yield "messaging.system", "iii"
    yield "messaging.operation.name", "process"
    yield "messaging.operation.type", "process"
    yield "messaging.destination.name", run.topic
    yield "messaging.consumer.group.name", run.step
    yield "messaging.message.id", run.message_id
    yield "iii.wait_ms", run.wait_ms
    if run.trigger == "cron":
        yield "iii.cron.expression", run.source
    elif run.trigger == "state":
        yield "iii.state.namespace", run.source
        yield "iii.state.key", run.key


def _is_error(run: Run) -> bool:
    """The conventions leave a server's span alone where the client is to blame."""
    return run.outcome in FAILURES and not (run.trigger == "http" and run.status < 500)


def _error(run: Run) -> tuple[str, str]:
    """What kind of error ("ValueError", "timeout", "worker died"), and what it said."""
    kind, _, message = run.error.partition(": ")
    return kind, message


def _exception(kind: str, message: str, traceback: str) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {"exception.type": kind, "exception.message": message}
    if traceback:
        told[_STACK] = traceback
    return told
