"""What a process with a session keeps running: lock and board, heartbeat, the watch over its peers, its bell.

Owns their order of making and ending; must not know the tables. `on_gone` and `on_ring` come on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from iii.store.contract import Health
from iii.store.lmdb.doorbell import Doorbell
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import BEAT_S, Heartbeat, OwnSession, Peer, Staleness
from iii.store.lmdb.patience import Patience
from iii.store.lmdb.watch import PeerWatch

LOOK_BEATS = 4
"""Every so many beats (1 s) the store looks for itself: a ringer may die between its commit and its ring."""


class Worker:
    """Made on the event loop; `close` there too. `on_lost`: somebody removed this session's files."""

    def __init__(
        self,
        folder: Path,
        session: int,
        holder: Holder,
        *,
        on_gone: Callable[[int, Literal["dead", "stale"]], None],
        on_ring: Callable[[], None],
        on_lost: Callable[[], None],
        patience: Patience | None = None,
        number: int = 0,
        quarantine: bool = False,
    ) -> None:
        patience = patience or Patience()
        self.session = session
        self._loop = asyncio.get_running_loop()
        self._on_ring, self._on_lost, self._holder, self._beats = on_ring, on_lost, holder, 0
        self._requests: Callable[[], int] = int
        self.own = OwnSession(folder, session, number=number, quarantine=quarantine)
        try:
            self._bell = Doorbell(folder, session, on_ring)
            self.staleness = Staleness(patience.stale_beats)
            self.watch = PeerWatch(folder, on_gone, staleness=self.staleness)
        except BaseException:
            self.own.close()
            raise
        holder.serve(session, lambda peer: self.staleness.stands_still(peer, patience.lock_beats))
        self._heartbeat = Heartbeat([self._beat, self.watch.sample, self._look])
        self._heartbeat.start()
        self._turn()

    def show(self, health: Health, lanes: int, requests: Callable[[], int]) -> None:
        """For whoever lists the instances."""
        self._requests = requests
        self.own.show(health, lanes)

    def watch_all(self, sessions: Iterable[int]) -> None:
        """Watch exactly these, itself left out."""
        others = set(sessions) - {self.session}
        for gone in set(self.watch.session_ids) - others:
            self.watch.unwatch(gone)
        for session in others:
            self.watch.watch(session)

    def close(self, *, remove: bool = True) -> None:
        self._next_turn.cancel()
        self._heartbeat.stop()
        self._holder.serve(0)
        self.watch.close()
        self._bell.close()
        self.own.close(remove=remove)

    def _turn(self) -> None:
        """By the loop itself, so that whoever reads the board sees one that stands still."""
        self.own.turn()
        self._next_turn = self._loop.call_later(BEAT_S, self._turn)

    def _beat(self) -> None:
        self.own.beat(self._requests())

    def _look(self) -> None:
        self._beats += 1
        if self._beats % LOOK_BEATS == 0:
            try:
                self._loop.call_soon_threadsafe(self._on_ring)
                if not self.own.is_whole():
                    self._loop.call_soon_threadsafe(self._on_lost)
            except RuntimeError:  # the loop is closed
                pass


def started_by(folder: Path, session: int) -> set[int]:
    """The messages that a session's death counts against."""
    peer = Peer(folder, session)
    try:
        return set(peer.running_ids())
    finally:
        peer.close()


def is_dead(folder: Path, session: int) -> bool:
    peer = Peer(folder, session)
    try:
        return peer.is_dead()
    finally:
        peer.close()
