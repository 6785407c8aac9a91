"""A collector of spans: a real HTTP server that takes OTLP and decodes its protobuf."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUSES = {0: "unset", 1: "ok", 2: "error"}


class TakenSpan(Struct, frozen=True):
    """A span as it came out of the wire: ids in hex, times in ns, attributes as plain values."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    status_text: str
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    links: tuple[str, ...]
    resource: dict[str, Any]
    scope: str


class Collector:
    """`url`: of it. `holds`: while set, requests get no answer until `release()`."""

    def __init__(self) -> None:
        self.spans: list[TakenSpan] = []
        self.requests: list[tuple[str, dict[str, str]]] = []  # path, headers
        self.asked, self.released = Event(), Event()
        self.status, self.holds = 200, False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._take(self)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers))
        self.asked.set()
        if self.holds:
            self.released.wait()
        if self.status == 200:
            self.spans += _decoded(body)
        request.send_response(self.status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def named(self, name: str) -> TakenSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def of_step(self, name: str) -> list[TakenSpan]:
        """Its runs, in the order of their attempts."""
        found = [span for span in self.spans if span.attributes.get("iii.step") == name]
        return sorted(found, key=lambda span: (span.start_ns, span.attributes["iii.attempt"]))

    def tree(self) -> list[Any]:
        """What was taken, as (span id, (step, attempt, outcome), children)."""
        known = {span.span_id for span in self.spans}
        under: dict[str, list[TakenSpan]] = {}
        for span in self.spans:
            under.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

        def grown(parent: str) -> list[Any]:
            return sorted((each.span_id, _what(each), grown(each.span_id)) for each in under.get(parent, ()))

        return grown("")


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


def _what(span: TakenSpan) -> tuple[Any, ...]:
    return tuple(span.attributes.get(f"iii.{name}") for name in ("step", "attempt", "outcome"))


def _decoded(body: bytes) -> Iterator[TakenSpan]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _values(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield TakenSpan(
                    name=span.name,
                    kind=KINDS[span.kind],
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=STATUSES[span.status.code],
                    status_text=span.status.message,
                    attributes=_values(span.attributes),
                    events=tuple((event.name, _values(event.attributes)) for event in span.events),
                    links=tuple(link.span_id.hex() for link in span.links),
                    resource=resource,
                    scope=scoped.scope.name,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
