"""How a commit in one process wakes a claim that is parked in another: a FIFO per session.

The owner parks inside the write transaction that found nothing (OwnSession.park), so whoever commits later
sees it parked and rings. Only the owner takes the flag down, on waking: were it the ringer, one killed
between flag and byte would leave the owner asleep. Too many rings cost a byte; a full FIFO is a loud one.
A ringer killed between its commit and its ring does leave it asleep: look again once a second.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from stat import S_ISFIFO

from iii.errors import StoreClosed
from iii.files import open_file
from iii.store.lmdb.liveness import OwnSession, Peer, session_file
from iii.store.lmdb.mapping import FORKED, poison_after_fork

__all__ = ["Doorbell", "Ringer"]

_CLOSED = "the store is closed"
_NOBODY_LISTENS = (errno.ENOENT, errno.ENXIO, errno.EPIPE)


class Doorbell:
    """The owner's end, made on its event loop: each ring unparks the session and calls `on_ring()`."""

    def __init__(self, own: OwnSession, on_ring: Callable[[], None]) -> None:
        self._own, self._on_ring = own, on_ring
        path = session_file(own.folder, own.session_id, "bell")
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # For writing too: a FIFO whose last writer has gone would be readable for ever.
        self._fd = open_file(path, os.O_RDWR, S_ISFIFO)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._rung)
        poison_after_fork(self)

    def close(self) -> None:
        """Idempotent. The file goes with the session."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def poison(self) -> None:
        """Without the loop: its selector is the parent's too."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rung(self) -> None:
        try:
            os.read(self._fd, 65536)  # a FIFO holds no more
        except BlockingIOError:
            return
        self._own.unpark()
        self._on_ring()


class _Door:
    __slots__ = ("fd", "peer")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.fd = -1

    def close(self) -> None:
        self.peer.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Ringer:
    """The other end, in any process, with a session or without. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._doors: dict[int, _Door] = {}
        self._closed: str | None = None
        poison_after_fork(self)

    def ring(self, session_ids: Iterable[int]) -> int:
        """Wake those of the sessions that are parked; never blocks. Returns how many were rung."""
        if self._closed:
            raise StoreClosed(self._closed)
        return sum(self._ring(session_id) for session_id in session_ids)

    def forget(self, session_id: int) -> None:
        """The session is gone: let go of its board and FIFO. Idempotent."""
        door = self._doors.pop(session_id, None)
        if door is not None:
            door.close()

    def close(self) -> None:
        """Idempotent."""
        self._closed = self._closed or _CLOSED
        for session_id in tuple(self._doors):
            self.forget(session_id)

    def poison(self) -> None:
        self._closed = FORKED
        for session_id in tuple(self._doors):
            self.forget(session_id)

    def _ring(self, session_id: int) -> bool:
        door = self._doors.get(session_id)
        if door is None:
            door = self._doors[session_id] = _Door(Peer(self._folder, session_id))
        if not door.peer.parked:
            return False
        try:
            if door.fd < 0:
                bell = session_file(self._folder, session_id, "bell")
                door.fd = open_file(bell, os.O_WRONLY, S_ISFIFO)
            os.write(door.fd, b"\0")
        except BlockingIOError:
            return True  # full: it is ringing already
        except OSError as error:
            if error.errno not in _NOBODY_LISTENS:
                raise
            self.forget(session_id)
            return False
        return True
