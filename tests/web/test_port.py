"""Listening: port 0, a port in use names its owner, hosts that are none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from iii.errors import ConfigError
from iii.web.port import address_of, listen, who_has

HOLDER = """
import socket, sys
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_port_0_takes_a_free_one_and_says_which() -> None:
    sockets = listen("127.0.0.1", 0)
    host, port = address_of(sockets)
    assert (host, port > 0) == ("127.0.0.1", True)
    with socket.create_connection((host, port)):
        pass
    sockets[0].close()


def test_every_address_of_a_name_gets_the_same_port() -> None:
    sockets = listen("localhost", 0)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()


def test_a_port_in_use_names_the_process_that_has_it() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    port = int(holder.stdout.readline())
    try:
        with pytest.raises(ConfigError) as refused:
            listen("127.0.0.1", port)
        message = str(refused.value)
        assert f"process {holder.pid}" in message
        assert "python" in message
        assert f"127.0.0.1:{port}" in message
        assert refused.value.field == "http.port"
    finally:
        holder.communicate()


def test_the_file_and_field_of_another_server_are_named() -> None:
    (held,) = listen("127.0.0.1", 0)
    with pytest.raises(ConfigError) as refused:
        listen("127.0.0.1", held.getsockname()[1], file="iii-config.yaml", field="console.port")
    assert (refused.value.file, refused.value.field) == ("iii-config.yaml", "console.port")
    assert f"process {os.getpid()}" in refused.value.message
    held.close()


def test_a_free_port_belongs_to_nobody() -> None:
    (held,) = listen("127.0.0.1", 0)
    port = held.getsockname()[1]
    held.close()
    assert who_has(port) == ""


@pytest.mark.parametrize("host", ["not a host", "203.0.113.1"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        listen(host, 0)
    assert refused.value.field == "http.host"
