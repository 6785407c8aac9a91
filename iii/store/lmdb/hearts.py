"""The heartbeats of all sessions on a data folder, as a process without a session samples them: one that is
starting, or a command. It waits for the write lock as others do, and maybe nobody else does."""

from __future__ import annotations

from pathlib import Path

from iii.store.lmdb.liveness import Peer, Staleness, session_ids

__all__ = ["Hearts"]


class Hearts:
    """`sample` once per own heartbeat, in its thread; `close` when that has ended."""

    def __init__(self, folder: Path, beats: int) -> None:
        self._folder, self._beats = folder, beats
        self._peers: dict[int, Peer] = {}
        self._staleness = Staleness()

    def sample(self) -> None:
        ids = session_ids(self._folder)
        for gone in self._peers.keys() - ids:
            self._peers.pop(gone).close()
            self._staleness.forget(gone)
        for session in ids:
            peer = self._peers.setdefault(session, Peer(self._folder, session))
            self._staleness.sample(session, peer.heartbeat)

    def stand_still(self, session: int) -> bool:
        return self._staleness.stands_still(session, self._beats)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
