"""State triggers: tails the change log and enqueues a message for each change that fires.

    changes after the marks -> who fires (watches.py) -> one Txn [Mark(trigger/…), Enqueue($state/<step>), …]

Each trigger has a mark of its own: the version up to which it has seen every change. It begins at the version
at which the trigger was first seen, and only instances that have the trigger move it, in the same Txn as the
messages: its compare-and-set makes a change one message over all instances, and a trigger whose instances are
all down catches up later. What fires nothing writes nothing: marks follow in steps of LAG_MAX, since looking
again at it fires nothing again.

Of the instances with the same triggers one tails: the mark `tailer/<hash>` names its session. The others wait
until that session has gone, then the first of them takes over where the marks stand. This saves work and no
more: two that tail at once, as during a deploy that changes triggers, meet at the marks.

Owns the mark TAIL too, below which the store trims the log. It is the least of all triggers' marks but those
that nobody waits for: of a step that has other triggers by now, or forgotten by the store, which bounds the
log by bytes and moves TAIL past what no instance serves (store/keeping.py). Such a trigger that comes back
sees what is left of the log, and holds that again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

from iii.errors import (
    Conflict,
    InputError,
    QueueFull,
    Refusal,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
)
from iii.model import TAIL, Change, Mark, Op, Txn
from iii.running.duty import Duty, Failed, ignored
from iii.running.timers import Timers
from iii.sources.watches import Copy, Watches
from iii.step import Step
from iii.store import keeping
from iii.store.contract import Store
from iii.store.keeping import MARKS

__all__ = ["ChangeSource"]

PAGE = 256
LAG_MAX = 1_000
LAG_SHARE = 8
"""The marks follow once the changes behind them take a share of what the log may hold."""
TXN_COPIES_MAX = 1_000
TXN_BYTES_MAX = 4 << 20
LOOK_AGAIN_MS = 60_000
AGAIN_MS = 200
TAILERS = "tailer/"

log = logging.getLogger("iii.changes")


class ChangeSource:
    """`moved` is called whenever the tail went on, `on_failure` when it died of an unexpected error."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        steps: Sequence[Step],
        moved: Callable[[], object],
        *,
        on_failure: Failed = ignored,
    ) -> None:
        self._store, self._timers, self._moved, self._on_failure = store, timers, moved, on_failure
        self._steps = {step.name for step in steps}
        self._watches = Watches(steps)
        self._marks: dict[str, int] = {}
        names = "\n".join(sorted(watch.mark for watch in self._watches.all))
        self._tailer = TAILERS + blake2b(names.encode(), digest_size=8).hexdigest()
        self._tails = False
        self._position = 0  # every trigger here has seen the changes up to it
        self._kept = 0  # where the marks and TAIL were last made to follow
        self._duty: Duty | None = None
        self._unkept_bytes = 0  # of the changes since
        self._unkept_bytes_max = store.limits.changes_bytes_max // LAG_SHARE

    async def caught_up(self) -> bool:
        """Whether every change has been turned into messages."""
        if self._watches.all and not self._tails:
            await self._skim()
        return not self._watches.all or not await self._store.changes(self._position, 1, 0)

    async def start(self) -> None:
        if not self._watches.all or not await self._takes_tail():
            await self._load()
        self._kept = self._store.mark(TAIL) or 0
        self._duty = Duty(
            "state triggers", self._run, lost="no change starts a step any more", failed=self._on_failure
        )

    async def stop(self) -> None:
        if self._duty is None:
            return
        await self._duty.cancel()
        if self._watches.all and not self._tails:
            return  # the marks are kept by who tails
        try:
            newest = self._store.version()
            if await self.caught_up():
                self._position = max(self._position, newest)
            await self._keep_marks()
            await self._move_tail()
        except StoreError as error:
            log.debug("the marks of state triggers stay where they are: %s", error)

    # ---------------------------------------------------------------------------------------- tailing

    async def _become_tailer(self) -> None:
        """Returns when this instance tails: at once, or when the session of the one that does has gone."""
        while not await self._takes_tail():
            await self._store.gone(self._store.mark(self._tailer) or 0)

    async def _takes_tail(self) -> bool:
        """Whether this instance tails, having taken over where nobody did."""
        tailer, own = self._store.mark(self._tailer), self._store.session
        if tailer != own:
            self._tails = False
            if any(row.id == tailer for row in self._store.sessions()):
                return False
            try:
                await self._store.commit(Txn((Mark(self._tailer, own, tailer),)))
            except Conflict:  # another was faster
                return False
        if not self._tails:
            await self._load()
            self._tails = True
        return True

    async def _skim(self) -> None:
        """Where another tails: go on past the changes that fire nothing here, or have fired."""
        while changes := await self._store.changes(self._position, PAGE, 0):
            marks = self._store.marks(MARKS)
            self._marks = {name: marks.get(name, at) for name, at in self._marks.items()}
            for change in changes:
                if self._watches.copies(change, self._marks, self._store.clock.wall_ms()):
                    return
                self._position = max(self._position, change.version)

    # -------------------------------------------------------------------------------------- following

    async def _run(self) -> None:
        while True:
            try:
                if self._watches.all:
                    await self._become_tailer()
                    await self._follow()
                else:
                    await self._timers.sleep(LOOK_AGAIN_MS)
                    await self._move_tail()
            except (StoreClosed, StoreDamaged):
                raise
            except StoreError as error:
                log.warning("state triggers wait for the store: %s", error)
                await self._timers.sleep(AGAIN_MS)

    async def _follow(self) -> None:
        """Turn the next changes into messages; wait for some where there are none."""
        newest = self._store.version()
        changes = await self._store.changes(self._position, PAGE, LOOK_AGAIN_MS)
        try:
            await self._enqueue(changes)
            # A short page ends the log: what is left up to `newest` left no change there.
            self._position = max(self._position, newest if len(changes) < PAGE else 0)
            for change in changes:
                self._unkept_bytes += len(change.old or b"") + len(change.new or b"")
            if self._position - self._kept >= LAG_MAX or self._unkept_bytes > self._unkept_bytes_max:
                await self._keep_marks()
                await self._move_tail()
                self._kept, self._unkept_bytes = self._position, 0
        except Conflict:  # another instance went on
            await self._load()
        self._moved()

    async def _enqueue(self, changes: Sequence[Change]) -> None:
        """Commit the messages of `changes` in Txns of bounded size, each with the marks of its triggers."""
        copies: list[Copy] = []
        size, wall_ms = 0, self._store.clock.wall_ms()
        for change in changes:
            for copy in self._watches.copies(change, self._marks, wall_ms):
                if copies and (len(copies) >= TXN_COPIES_MAX or size + copy.size > TXN_BYTES_MAX):
                    await self._commit(copies)
                    copies, size = [], 0
                copies.append(copy)
                size += copy.size
        if copies:
            await self._commit(copies)
        if changes:
            self._position = max(self._position, changes[-1].version)

    async def _commit(self, copies: Sequence[Copy]) -> None:
        """Enqueue together, or one by one where that is refused; one that is refused alone is skipped.

        A full lane has room again when its step has worked; until then as many go in as fit.
        """
        reached = {copy.mark: copy.version for copy in copies}
        messages = [copy.message for copy in copies]
        try:
            await self._store.commit(Txn([*self._mark_ops(reached), *messages]))
        except (Conflict, StoreFull):
            raise
        except QueueFull:
            if len(copies) == 1:
                raise
            half = len(copies) // 2
            await self._commit(copies[:half])
            await self._commit(copies[half:])
            return
        except (Refusal, InputError) as error:
            if len(copies) > 1:
                for copy in copies:
                    await self._commit((copy,))
                return
            (copy,) = copies
            log.error("%s misses change %d of the state: %s", copy.message.step, copy.version, error)
            await self._store.commit(Txn(self._mark_ops(reached)))
        self._marks.update(reached)

    def _mark_ops(self, reached: Mapping[str, int]) -> list[Op]:
        return [Mark(name, version, self._marks[name]) for name, version in reached.items()]

    # ------------------------------------------------------------------------------------------ marks

    async def _load(self) -> None:
        """Read the marks of the triggers here; what has none yet begins now."""
        names = {watch.mark for watch in self._watches.all}
        while names:
            now = self._store.version()
            marks, tail = self._store.marks(MARKS), self._store.mark(TAIL)
            own = {name: marks.get(name, now) for name in names}
            least = min(own.values())
            ops: list[Op] = [Mark(name, now, None) for name in sorted(names - marks.keys())]
            ops += self._come_back(own, tail or 0)
            if tail is None:
                ops.append(Mark(TAIL, min(marks.values(), default=now), None))
            elif ops or least < tail:
                ops.append(Mark(TAIL, min(least, tail), tail))
            try:
                if ops:
                    await self._store.commit(Txn(ops))
            except Conflict:  # another instance starts too
                continue
            self._marks = own
            self._position = max(self._position, least)
            return

    def _come_back(self, own: Mapping[str, int], tail: int) -> list[Op]:
        """Those of the triggers here that were not waited for are from now on."""
        forgotten = self._store.marks(keeping.FORGOTTEN)
        found: list[Op] = []
        for name, at in own.items():
            record = keeping.forgotten_mark(name)
            if forgotten.get(record):
                found.append(Mark(record, 0, forgotten[record]))
            elif at >= tail:
                continue
            log.warning(
                "%s was away for long: it may miss changes after %d of the state", keeping.step_of(name), at
            )
        return found

    async def _keep_marks(self) -> None:
        """Let the marks of all triggers here follow."""
        marks = {name: self._store.mark(name) for name in self._marks}
        reached = {name: self._position for name, mark in marks.items() if (mark or 0) < self._position}
        if reached:
            await self._store.commit(Txn(tuple(Mark(name, at, marks[name]) for name, at in reached.items())))
        self._marks.update(reached)

    async def _move_tail(self) -> None:
        """Let TAIL follow the triggers that are waited for."""
        newest, tail = self._store.version(), self._store.mark(TAIL)
        if tail is None:
            return
        marks = {name: at for name, at in self._store.marks(MARKS).items() if not self._is_superseded(name)}
        waited = keeping.waited_for(marks, self._store.marks(keeping.FORGOTTEN), tail)
        reached = waited[0][0] if waited else newest
        if reached <= tail:
            return
        try:
            await self._store.commit(Txn((Mark(TAIL, reached, tail),)))
        except Conflict:
            log.debug("another instance moved the tail")

    def _is_superseded(self, mark: str) -> bool:
        """Whether its step has other triggers by now."""
        return keeping.step_of(mark) in self._steps and mark not in self._marks
