"""What a process follows of all others: the next changes, the end of a session; and what it shows of itself.

Owns nobody's wake-up: the store looks at `_readers` again after each commit of its own and at each ring.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from iii.model import Change, Waiting
from iii.store.contract import Health, Limits, StoreFigures
from iii.store.lmdb.browsing import Browsing
from iii.store.lmdb.kept import total_of
from iii.store.lmdb.membership import Membership
from iii.store.lmdb.roster import roster
from iii.store.lmdb.waiting import Waiters
from iii.store.lmdb.writer import Writer

LOOK_S = 0.05
"""How often a reader looks for other processes' commits where there is no session, so nothing to ring."""


class Following(Browsing):
    """The store's following half. `_membership` and `_readers` are there while the store is open."""

    path: Path
    limits: Limits
    _membership: Membership
    _readers: Waiters[Any]
    _writer: Writer

    async def changes(self, after: int, limit: int, wait_ms: int | None) -> list[Change]:
        self._require_open()
        if wait_ms == 0:
            return self._changes(after, limit)
        look = partial(self._next_changes, after, limit)
        return look() or await self._readers.wait(look, wait_ms, self._look_s)

    def _next_changes(self, after: int, limit: int) -> list[Change]:
        """As `_changes`, but what this process has just committed is not read again."""
        found = self._writer.applier.state.recent.since(after, self.version(), limit)
        return self._changes(after, limit) if found is None else found

    def known(self, topic: str, step: str, unique_key: str) -> Waiting | None:
        """As Reads.known, without a look at each lane."""
        self._require_open()
        lane = self._writer.applier.catalog.lanes.get((topic, step))
        if lane is None:
            return super().known(topic, step, unique_key)
        with self._read() as txn:
            return self._known(txn, lane.number, lane.row(), unique_key)

    @property
    def session(self) -> int:
        worker = self._membership.worker
        return 0 if worker is None else worker.session

    async def gone(self, session: int) -> None:
        self._require_open()
        await self._readers.wait(lambda: [] if self._is_on_record(session) else [session], None, self._look_s)

    def show(self, health: Health, requests: Callable[[], int]) -> None:
        self._membership.show(health, requests)

    def has_idle_peer(self) -> bool:
        peers = (row for row in roster(self.path) if row.session != self.session and not row.quarantine)
        return any(peer.health == "ready" and not peer.in_flight for peer in peers)

    def figures(self) -> StoreFigures:
        self._require_open()
        meter, opened = self._writer.meter, self._opened
        found = opened.env.info()
        used_bytes = (found["last_pgno"] + 1) * opened.env.stat()["psize"]
        with self._read() as txn:
            kept = total_of(txn, self._tables)
        return StoreFigures(
            commits=meter.groups,
            items=meter.items,
            commit_s=meter.commit_ns / 1e9,
            file_bytes=opened.file.stat().st_size,
            used_bytes=used_bytes,
            map_bytes=found["map_size"],
            changes_bytes=self._writer.log.size,
            changes_held_by=self._writer.log.held_by,
            kept_bytes=kept.bytes,
            kept_answers=kept.answers,
            kept_evicted=kept.evicted,
            kept_bytes_max=self.limits.kept_bytes_max,
        )

    @property
    def _look_s(self) -> float | None:
        return None if self.session else LOOK_S
