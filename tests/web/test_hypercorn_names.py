"""What is used of Hypercorn beyond its documented interface: an upgrade that changes it fails here first."""

from __future__ import annotations

import inspect
import subprocess
import sys

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
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
    assert _parameters(H11Protocol._check_protocol) == ["event"]
    assert "self.stream_buffers" in inspect.getsource(H2Protocol.__init__)
    assert inspect.iscoroutinefunction(StreamBuffer.close) and _parameters(StreamBuffer.close) == []
    assert h11.Connection(h11.SERVER).trailing_data == (b"", False)


def test_every_option_that_is_set_exists() -> None:
    for option in (
        "accesslog",
        "errorlog",
        "include_server_header",
        "keep_alive_timeout",
        "keep_alive_max_requests",
        "h11_max_incomplete_size",
        "h2_max_header_list_size",
    ):
        assert hasattr(Config, option), option


def test_the_endpoint_loads_no_server() -> None:
    code = (
        "import sys, iii.web.endpoint, iii.web.asgi; print('hypercorn' in sys.modules, 'h2' in sys.modules)"
    )
    asked = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert asked.split() == ["False", "False"]
