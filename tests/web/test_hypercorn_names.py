"""What is used of Hypercorn beyond its documented interface: an upgrade that changes it fails here first."""

from __future__ import annotations

import inspect
import subprocess
import sys

import h2.config
import h2.connection
import h2.stream
import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol


def _parameters(function: object) -> list[str]:
    assert callable(function)
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_a_connection_is_made_read_and_told_of_as_server_py_does() -> None:
    assert _parameters(TCPServer) == ["app", "loop", "config", "context", "state", "reader", "writer"]
    assert inspect.iscoroutinefunction(TCPServer.run)
    assert _parameters(TCPServer.protocol_send) == ["event"]
    assert inspect.iscoroutinefunction(TCPServer.protocol_send)
    assert _parameters(TCPServer._read_data) == []
    assert inspect.iscoroutinefunction(TCPServer._read_data)
    assert _parameters(ASGIWrapper) == ["app"]
    assert _parameters(WorkerContext) == ["max_requests"]
    assert MAX_RECV > 0


def test_events_and_protocols_have_the_fields_that_are_read() -> None:
    assert Updated(idle=True).idle
    assert RawData(data=b"a").data == b"a"
    assert Closed()
    assert _parameters(ProtocolWrapper.handle) == ["event"]
    assert "self.protocol = H11Protocol(" in inspect.getsource(ProtocolWrapper)
    assert "self.connection" in inspect.getsource(H11Protocol.__init__)
    assert h11.Connection(h11.SERVER).trailing_data == (b"", False)


def test_what_http_1_is_told_otherwise_is_what_hypercorn_asks() -> None:
    assert _parameters(H11Protocol.__init__) == [
        *("app", "config", "context", "task_group", "connection_state", "ssl", "client", "server", "send")
    ]
    assert _parameters(H11Protocol._check_protocol) == ["event"]
    assert _parameters(H11Protocol._send_error_response) == ["status_code"]
    assert _parameters(H11Protocol._send_h11_event) == ["event"]
    assert _parameters(ASGIWrapper.__call__) == ["scope", "receive", "send", "sync_spawn", "call_soon"]
    handle = inspect.getsource(H11Protocol._handle_events)
    assert handle.index("self._check_protocol(event)") < handle.index("self._create_stream(event)")
    assert "keep_alive_requests" in inspect.getsource(H11Protocol.__init__)
    assert "self.protocol = H2Protocol(" in inspect.getsource(ProtocolWrapper)
    assert "self.protocol.handle(event)" in inspect.getsource(ProtocolWrapper.handle)
    assert _parameters(Config.response_headers) == ["protocol"]
    assert [name for name, _ in Config().response_headers("h2")] == [b"date", b"server"]


def test_the_tables_of_h2_that_are_bounded_are_where_they_were() -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    assert connection.MAX_CLOSED_STREAMS and connection.decoder.max_header_list_size
    assert connection.encoder.header_table_size == 4096
    assert _parameters(h2.connection.H2Connection._begin_new_stream) == ["stream_id", "allowed_ids"]
    assert _parameters(h2.stream.H2Stream._track_content_length) == ["length", "end_stream"]
    assert connection.streams == {}
    assert connection.outbound_flow_control_window == 65535


def test_every_option_that_is_set_exists() -> None:
    for option in (
        "accesslog",
        "errorlog",
        "include_server_header",
        "keep_alive_timeout",
        "keep_alive_max_requests",
        "h11_max_incomplete_size",
    ):
        assert hasattr(Config, option), option


def test_the_endpoint_loads_no_server() -> None:
    code = (
        "import sys, iii.web.endpoint, iii.web.asgi; print('hypercorn' in sys.modules, 'h2' in sys.modules)"
    )
    asked = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert asked.split() == ["False", "False"]
