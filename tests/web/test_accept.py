"""Accepting connections, with and without file descriptors to spare."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from iii.web.accept import Acceptor
from iii.web.crowd import Crowd
from iii.web.port import listen


class Greeting(asyncio.Protocol):
    def __init__(self, client: str) -> None:
        self._client = client

    def connection_made(self, transport: Any) -> None:
        transport.write(self._client.encode())
        transport.close()


class Counting(socket.socket):
    """A listening socket; `refused` is set at the third accept that fails."""

    failed = 0
    refused: asyncio.Event

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self.failed += 1
                if self.failed == 3:
                    self.refused.set()
            raise


@contextmanager
def no_file_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
    try:
        while True:
            try:
                taken.append(os.dup(taken[0]))
            except OSError:
                break
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def read_all(client: socket.socket) -> bytes:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(client, 100)


async def test_a_connection_is_made_with_its_clients_address() -> None:
    sockets = listen("127.0.0.1", 0)
    acceptor = Acceptor(sockets, Crowd(1000, Greeting, []))
    reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
    assert await reader.read() == b"127.0.0.1"
    writer.close()
    acceptor.close()
    await acceptor.settled()


async def test_many_connections_at_once_are_all_accepted() -> None:
    sockets = listen("127.0.0.1", 0)
    acceptor = Acceptor(sockets, Crowd(1000, Greeting, []))
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(200)]
    for client in clients:
        client.setblocking(False)
        assert await read_all(client) == b"127.0.0.1"
        client.close()
    acceptor.close()
    await acceptor.settled()


async def test_without_file_descriptors_connections_wait_and_are_accepted_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (plain,) = listen("127.0.0.1", 0)
    listener = Counting(fileno=plain.detach())
    listener.setblocking(False)
    listener.refused = asyncio.Event()
    clients = [socket.socket() for _ in range(3)]
    acceptor = Acceptor([listener], Crowd(1000, Greeting, []))
    with no_file_descriptors():
        for client in clients:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        async with asyncio.timeout(10):
            await listener.refused.wait()
    for client in clients:
        assert await read_all(client) == b"127.0.0.1"
        client.close()
    assert len([record for record in caplog.records if "wait to be accepted" in record.message]) == 1
    acceptor.close()
    await acceptor.settled()


async def test_a_closed_acceptor_accepts_nothing() -> None:
    sockets = listen("127.0.0.1", 0)
    address = sockets[0].getsockname()
    acceptor = Acceptor(sockets, Crowd(1000, Greeting, []))
    acceptor.close()
    await acceptor.settled()
    with pytest.raises(OSError):
        await asyncio.open_connection(*address)
