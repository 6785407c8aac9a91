"""How a commit in one process wakes the sessions of others: a FIFO per session.

Too many rings cost a byte; a full FIFO is a loud one. A ringer killed between its commit and its ring leaves
the others asleep: look again once a second.
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
from iii.store.lmdb.liveness import session_file
from iii.store.lmdb.mapping import FORKED, poison_after_fork

__all__ = ["Doorbell", "Ringer"]

_CLOSED = "the store is closed"
_NOBODY_LISTENS = (errno.ENOENT, errno.ENXIO, errno.EPIPE)


class Doorbell:
    """The owner's end, made on its event loop: each ring calls `on_ring()`."""

    def __init__(self, folder: Path, session_id: int, on_ring: Callable[[], None]) -> None:
        self._on_ring = on_ring
        path = session_file(folder, session_id, "bell")
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
            self.poison()

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
        self._on_ring()


class Ringer:
    """The other end, in any process, with a session or without. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bells: dict[int, int] = {}  # file descriptors by session
        self._closed: str | None = None
        poison_after_fork(self)

    def ring(self, session_ids: Iterable[int]) -> int:
        """Wake the sessions that have a bell; never blocks. Returns how many were rung."""
        if self._closed:
            raise StoreClosed(self._closed)
        return sum(self._ring(session_id) for session_id in session_ids)

    def forget(self, session_id: int) -> None:
        """The session is gone: let go of its bell. Idempotent."""
        bell = self._bells.pop(session_id, None)
        if bell is not None:
            os.close(bell)

    def close(self) -> None:
        """Idempotent."""
        self._closed = self._closed or _CLOSED
        for session_id in tuple(self._bells):
            self.forget(session_id)

    def poison(self) -> None:
        self._closed = FORKED
        self.close()

    def _ring(self, session_id: int) -> bool:
        try:
            bell = self._bells.get(session_id)
            if bell is None:
                path = session_file(self._folder, session_id, "bell")
                bell = self._bells[session_id] = open_file(path, os.O_WRONLY, S_ISFIFO)
            os.write(bell, b"\0")
        except BlockingIOError:
            return True  # full: it is ringing already
        except OSError as error:
            if error.errno not in _NOBODY_LISTENS:
                raise
            self.forget(session_id)
            return False
        return True
