"""This store's session: entered, renewed where peers buried it, left; and the burial of the others that died.

Knows the order in which a session becomes visible: its number, then what proves it alive, then its row.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from iii.clock import Clock
from iii.errors import StoreClosed, StoreDamaged, StoreError
from iii.model import LanePolicy, SessionRow, Suspects
from iii.store.contract import Health
from iii.store.lmdb import sessions
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.doorbell import Ringer
from iii.store.lmdb.holder import Holder
from iii.store.lmdb.liveness import remove_files, session_ids
from iii.store.lmdb.patience import Patience
from iii.store.lmdb.rows import SessionEntry
from iii.store.lmdb.worker import Worker, is_dead, started_by

RENEW_WAIT_S = 0.2
RENEW_WAIT_MAX_S = 5.0

_log = logging.getLogger("iii.store")


class Host(Protocol):
    """The store, as its session needs it."""

    path: Path
    clock: Clock
    patience: Patience
    number: int

    def sessions(self) -> list[SessionRow]: ...

    async def call(self, apply: Callable[[Applier], Any]) -> Any:
        """Run `apply` in the next group; StoreClosed where there will be none."""

    def rung(self) -> None: ...

    def check_readers(self) -> None:
        """Let go of the reader slots of processes that died."""


class Membership:
    """Made and used on the event loop."""

    def __init__(self, host: Host, holder: Holder, ringer: Ringer) -> None:
        self._host, self._holder, self._ringer = host, holder, ringer
        self._policies: list[LanePolicy] = []
        self._suspects: Suspects = "one"
        self._health: Health = "starting"
        self._requests: Callable[[], int] = int
        self._burying: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.works = False  # there is a session, or one is to follow that peers buried
        self.worker: Worker | None = None

    async def enter(self, policies: Sequence[LanePolicy], suspects: Suspects) -> int:
        if self.worker is not None:
            raise StoreError(f"this store has session {self.worker.session} already: close_session() first")
        self._policies, self._suspects = list(policies), suspects
        session = await self._enter()
        self.works = True
        return session

    async def _enter(self) -> int:
        host = self._host
        session: int = await host.call(sessions.next_session)
        worker = Worker(
            host.path,
            session,
            self._holder,
            on_gone=self._gone,
            on_ring=host.rung,
            on_lost=partial(self._lost, session),
            patience=host.patience,
            number=host.number,
            quarantine=self._suspects == "only",
        )
        self.worker = worker
        try:
            await self.recover_dead()
            entry = SessionEntry(os.getpid(), host.clock.wall_ms(), self._policies, self._suspects)
            await host.call(lambda applier: sessions.open_session(applier, session, entry))
            self.show(self._health, self._requests)
        except BaseException:
            self.worker = None
            worker.close()
            raise
        return session

    def show(self, health: Health, requests: Callable[[], int]) -> None:
        """What the board says of this process, in this session and the next."""
        self._health, self._requests = health, requests
        if self.worker is not None:
            lanes = sum(1 for policy in self._policies if policy.step)
            self.worker.show(health, lanes, requests)

    async def leave(self) -> None:
        """Give back the leases and go. Idempotent."""
        self.works = False
        worker, self.worker = self.worker, None
        if worker is None:
            return
        try:
            await self._host.call(lambda applier: sessions.end_session(applier, worker.session))
        finally:
            worker.close()

    def drop(self, *, remove: bool = False) -> None:
        """Go as a killed process does: the leases stay, and the files too unless `remove`."""
        self.works = False
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.close(remove=remove)

    async def cancel(self) -> None:
        """End what still runs here; the store closes."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what the writer finds

    def on_record(self, session_ids: Iterable[int]) -> None:
        """Who has a row now: they are watched."""
        if self.worker is not None:
            self.worker.watch_all(session_ids)

    def buried(self, session: int) -> None:
        """Peers buried this session, which was stopped for long: its leases are gone, a new one goes on."""
        worker = self.worker
        if worker is not None and worker.session == session:
            self.worker = None
            worker.close()
            self._spawn(partial(self._renew, session))

    def _lost(self, session: int) -> None:
        """Somebody removed its files, so peers see nobody, or a dead one: it buries itself as they would."""
        if self.worker is not None and self.worker.session == session and session not in self._burying:
            self._burying.add(session)
            _log.warning("session %d: its files in %s were removed", session, self._host.path / "sessions")
            self._spawn(partial(self._bury, session))

    async def _bury(self, session: int) -> None:
        try:
            await self._host.call(lambda applier: sessions.recover(applier, session, ()))
            await self._host.call(lambda applier: None)  # a group that finds it buried
        finally:
            self._burying.discard(session)

    async def _renew(self, buried: int) -> None:
        wait_s = RENEW_WAIT_S
        while True:
            try:
                session = await self._enter()
                break
            except (StoreClosed, StoreDamaged):
                return
            except StoreError as error:
                _log.warning("no new session yet, trying again: %s", error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RENEW_WAIT_MAX_S)
        _log.warning(
            "session %d was taken for dead, it stood still or lost its files: going on as session %d",
            buried,
            session,
        )

    # -- the others

    async def recover_dead(self) -> None:
        """Look at every session on record, and take back the leases of the dead. Only a session does so."""
        worker = self.worker
        if worker is None:
            return
        path = self._host.path
        # Files first: a session makes its files before its row, and loses its row before its files.
        left = set(session_ids(path)) - {worker.session}
        for row in self._host.sessions():
            left.discard(row.id)
            if row.id != worker.session and is_dead(path, row.id):
                await self._recover(row.id)
        for session in left:
            remove_files(path, session)  # only where nobody holds its lock

    def _gone(self, session: int, verdict: Literal["dead", "stale"]) -> None:
        try:
            rows = self._host.sessions()
        except (StoreClosed, StoreDamaged):  # it takes nothing back any more
            return
        if all(row.id != session for row in rows):  # it left, or others were faster
            self._ringer.forget(session)
            return
        _log.warning("session %d is %s: its messages are taken back", session, verdict)
        self._spawn(partial(self._recover, session))

    async def _recover(self, session: int) -> None:
        host = self._host
        started = started_by(host.path, session)
        await host.call(lambda applier: sessions.recover(applier, session, started))
        host.check_readers()
        self._ringer.forget(session)
        remove_files(host.path, session)

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`work` may begin anew wherever it was cancelled."""
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, work))

    def _ended(self, work: Callable[[], Coroutine[Any, Any, None]], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if task.cancelling() and not self._closing:  # a handler cancels all tasks
                self._spawn(work)
            return
        if (error := task.exception()) is None:
            return
        if isinstance(error, StoreClosed | StoreDamaged):
            return
        _log.error("%s: care for the sessions failed", self._host.path, exc_info=error)
