"""Accepts connections on listening sockets. Knows nothing of HTTP.

An accept loop of our own, because uvloop's ends for good, and in silence, when the process runs out of file
descriptors. Here that is logged once, and accepting goes on when there are some again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Acceptor", "Admits"]

BATCH_MAX = 64  # accepted in a row, before what they ask is looked at
EXHAUSTED_S = 0.1  # until the next try

_OF_THE_CLIENT = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR, errno.EAGAIN}

_log = logging.getLogger("iii.http")


class Admits(Protocol):
    """Who decides what becomes of an accepted connection."""

    def protocol(self, client: str) -> asyncio.BaseProtocol:
        """Its protocol, from its address."""

    def settled(self, protocol: asyncio.BaseProtocol) -> None:
        """It has its connection, or never will."""

    def starved(self) -> None:
        """There was no file descriptor for one."""


class Acceptor:
    """Accepts until `close`, which closes the sockets."""

    def __init__(self, sockets: Sequence[socket.socket], admits: Admits) -> None:
        self._sockets, self._admits = {each: _inode(each) for each in sockets}, admits
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[Any]] = set()
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        self._exhausted = False
        for each in self._sockets:
            self._watch(each)

    @property
    def listens(self) -> bool:
        """False where other code closed a socket of ours, whose number may be another file's by now."""
        return all(_inode(each) == inode for each, inode in self._sockets.items())

    def close(self) -> None:
        """Idempotent."""
        sockets, self._sockets = self._sockets, {}
        for each, inode in sockets.items():
            if _inode(each) != inode:
                each.detach()
                continue
            if (retry := self._retries.pop(each, None)) is not None:
                retry.cancel()
            else:
                self._loop.remove_reader(each.fileno())
            each.close()

    async def settled(self) -> None:
        """Wait until what was accepted has its protocol."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _watch(self, listener: socket.socket) -> None:
        self._retries.pop(listener, None)
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BATCH_MAX):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _OF_THE_CLIENT:
                    self._pause(listener, error)
                return
            self._exhausted = False
            accepted.setblocking(False)
            task = self._loop.create_task(self._connect(accepted, str(address[0])))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket, client: str) -> None:
        protocol: asyncio.BaseProtocol | None = None
        try:
            made = protocol = self._admits.protocol(client)
            await self._loop.connect_accepted_socket(lambda: made, accepted)
        except OSError:  # it left again
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise
        except Exception:
            _log.exception("A connection could not be served")
            accepted.close()
        finally:
            if protocol is not None:
                self._admits.settled(protocol)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """No file descriptor or no memory for a connection: it waits in the backlog. To ask again at once
        would keep the loop busy."""
        self._admits.starved()
        self._loop.remove_reader(listener.fileno())
        self._retries[listener] = self._loop.call_later(EXHAUSTED_S, self._watch, listener)
        if not self._exhausted:
            self._exhausted = True
            _log.error("Connections wait to be accepted: %s (see `ulimit -n`)", error.strerror)


def _inode(listener: socket.socket) -> int | None:
    try:
        return os.fstat(listener.fileno()).st_ino
    except OSError:
        return None
