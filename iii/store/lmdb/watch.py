"""The watch over the other sessions: tells that one is dead or stale.

A pidfd on the event loop sees a kill within a millisecond; the lock then confirms it. Every second all
are asked anyway: for kernels without pidfd, for a lock that was not free yet, and for the stale.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from iii.errors import StoreClosed
from iii.store.lmdb import machine
from iii.store.lmdb.liveness import Peer, Staleness, verdict
from iii.store.lmdb.mapping import FORKED, poison_after_fork

__all__ = ["POLL_S", "PeerWatch"]

POLL_S = 1.0


class _Watched:
    __slots__ = ("peer", "pidfd", "told_stale")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pidfd: int | None = None
        self.told_stale = False


class PeerWatch:
    """Made and used on the event loop; `sample` alone belongs to the heartbeat thread.

    `on_gone(session_id, "dead" | "stale")` is called on the loop, never from within `watch`. The dead are
    not watched any more then. The stale are told of once and watched on until `unwatch`: while one stays
    stale inside the write transaction, Holder.unfreeze must still see it, or its recovery never commits.
    """

    def __init__(
        self,
        folder: Path,
        on_gone: Callable[[int, Literal["dead", "stale"]], None],
        *,
        staleness: Staleness,
        poll_s: float = POLL_S,
    ) -> None:
        self._folder, self._on_gone, self._staleness, self._poll_s = folder, on_gone, staleness, poll_s
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, _Watched] = {}
        self._closed: str | None = None
        self._timer = self._loop.call_later(poll_s, self._poll)
        poison_after_fork(self)

    @property
    def session_ids(self) -> list[int]:
        """Who is watched."""
        return list(self._watched)

    def watch(self, session_id: int) -> None:
        """Idempotent. A session that is dead already is told of in the loop's next turn."""
        if self._closed:
            raise StoreClosed(self._closed)
        if session_id in self._watched:
            return
        watched = self._watched[session_id] = _Watched(Peer(self._folder, session_id))
        process = watched.peer.process
        if process is not None and watched.peer.same_namespace():
            watched.pidfd = _pidfd_of(*process)
        if watched.pidfd is None:
            self._loop.call_soon(self._judge, session_id)
        else:
            self._loop.add_reader(watched.pidfd, self._process_ended, session_id)

    def unwatch(self, session_id: int) -> None:
        """Idempotent."""
        watched = self._watched.pop(session_id, None)
        if watched is not None:
            self._drop_pidfd(watched)
            watched.peer.close()
            self._staleness.forget(session_id)

    def sample(self) -> None:
        """Once per own heartbeat: look whether the others' go on."""
        for session_id, watched in self._watched.copy().items():
            try:
                self._staleness.sample(session_id, watched.peer.heartbeat)
            except StoreClosed:
                pass  # unwatched just now, in the loop's thread

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = "the store is closed"
        self._timer.cancel()
        for session_id in self.session_ids:
            self.unwatch(session_id)

    def poison(self) -> None:
        """Without the loop: its selector is the parent's too."""
        self._closed = FORKED
        for watched in self._watched.values():
            if watched.pidfd is not None:
                os.close(watched.pidfd)
        self._watched.clear()

    def _process_ended(self, session_id: int) -> None:
        self._drop_pidfd(self._watched[session_id])
        self._judge(session_id)

    def _drop_pidfd(self, watched: _Watched) -> None:
        if watched.pidfd is not None:
            self._loop.remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = None

    def _poll(self) -> None:
        self._timer = self._loop.call_later(self._poll_s, self._poll)
        for session_id in self.session_ids:
            self._judge(session_id)

    def _judge(self, session_id: int) -> None:
        watched = self._watched.get(session_id)
        if watched is None:
            return
        finding = verdict(watched.peer, self._staleness)
        told_stale, watched.told_stale = watched.told_stale, finding == "stale"
        if finding == "dead":
            self.unwatch(session_id)
            self._on_gone(session_id, finding)
        elif finding == "stale" and not told_stale:
            self._on_gone(session_id, finding)


def _pidfd_of(pid: int, start: int) -> int | None:
    """None where the pid names another process by now, or nothing can be watched."""
    pidfd = machine.open_pidfd(pid)
    if pidfd is None:
        return None
    stat = machine.process_stat(pid)
    if stat is None or stat.start != start:
        os.close(pidfd)
        return None
    return pidfd
