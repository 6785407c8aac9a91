"""Whose event loop has not turned for how long, as a supervisor sees it on the boards: counted in samples of
its own, so that neither a clock nor a sleep of the machine accuses anybody.

Knows no instance: processes have pids. One that was stopped, and one of an older version, are left alone.
"""

from __future__ import annotations

from pathlib import Path

from iii.store.lmdb import machine
from iii.store.lmdb.liveness import Peer, session_ids

__all__ = ["Turns"]


class Turns:
    """The loops of the processes that have a session on a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._peers: dict[int, Peer] = {}
        self._seen: dict[int, tuple[int, int]] = {}  # pid -> its loop's last turn, samples since

    def sample(self) -> dict[int, int]:
        """Look once more; by pid, over how many samples in a row its loop has not turned."""
        before, self._seen = self._seen, {}
        for pid, turned_ms in self._turned().items():
            last_ms, still = before.get(pid, (0, 0))
            stands = turned_ms == last_ms and not _is_stopped(pid)
            self._seen[pid] = (turned_ms, still + 1 if stands else 0)
        return {pid: still for pid, (_, still) in self._seen.items()}

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    def _turned(self) -> dict[int, int]:
        """By pid; a process may have left a board behind, and the newer of its sessions counts."""
        ids = session_ids(self._folder)
        for gone in self._peers.keys() - ids:
            self._peers.pop(gone).close()
        found: dict[int, int] = {}
        for session in ids:
            peer = self._peers.setdefault(session, Peer(self._folder, session))
            board = peer.board()
            if board is not None and board.turned_ms:
                found[board.pid] = max(board.turned_ms, found.get(board.pid, 0))
        return found


def _is_stopped(pid: int) -> bool:
    stat = machine.process_stat(pid)
    return stat is None or stat.stopped
