"""State triggers: tails the change log and enqueues a message for each change that fires. Owns the mark TAIL.

    changes after the mark -> filter and fire -> one Txn [Mark(TAIL), Enqueue($state/<step>), …]

All instances tail; the compare-and-set of the mark lets one of them through, so each change fires once. While
nothing fires the mark follows in steps of LAG_MAX, since looking again at what fired nothing fires nothing.
A trigger's own mark holds the version at which it was first seen: what is older never starts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct

from iii import codec
from iii.bindings import TRIGGER_HEADER
from iii.errors import Conflict, StoreClosed, StoreError
from iii.filters import fires
from iii.inputs import encode_change
from iii.model import TAIL, Change, Enqueue, Mark, Op, Txn
from iii.step import StateTrigger, Step
from iii.store.contract import Store
from iii.timers import Timers

__all__ = ["ChangeSource"]

PAGE = 256
LAG_MAX = 1_000
TXN_OPS_MAX = 2_000
TXN_BYTES_MAX = 4 << 20
AGAIN_MS = 200

log = logging.getLogger("iii.changes")


class _Watch(Struct, frozen=True):
    """A state trigger of this process. It sees changes above `since`."""

    step: str
    index: int
    trigger: StateTrigger
    since: int

    def fires(self, change: Change) -> bool:
        trigger = self.trigger
        if trigger.namespace not in (None, change.namespace) or change.version <= self.since:
            return False
        if trigger.filter is None:
            return True
        if change.new is None:
            return False
        old = None if change.old is None else codec.decode(change.old)
        return fires(trigger.filter, trigger.fire, old, codec.decode(change.new))


class ChangeSource:
    """`moved` is called whenever the tail went on."""

    def __init__(
        self, store: Store, timers: Timers, steps: Sequence[Step], moved: Callable[[], object]
    ) -> None:
        self._store, self._timers, self._steps, self._moved = store, timers, steps, moved
        self._watches: list[_Watch] = []
        self._mark: int | None = None
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    async def caught_up(self) -> bool:
        """Whether every change has been turned into messages."""
        return not await self._store.changes(self._position, 1, 0)

    async def start(self) -> None:
        marks = await self._first_seen()
        self._mark = self._position = marks[TAIL]
        self._watches = [
            _Watch(step, index, trigger, marks[_mark_name(step, trigger)])
            for step, index, trigger in _triggers(self._steps)
        ]
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self._mark is not None and self._position > self._mark:
            try:
                await self._store.commit(Txn((Mark(TAIL, self._position, self._mark),)))
            except StoreError as error:
                log.debug("the tail's mark stays where it is: %s", error)

    async def _first_seen(self) -> dict[str, int]:
        """The marks of the tail and of each trigger; what has none yet begins now."""
        names = {TAIL, *(_mark_name(step, trigger) for step, _, trigger in _triggers(self._steps))}
        while True:
            marks = {name: mark for name in names if (mark := self._store.mark(name)) is not None}
            now = self._store.version()
            missing = tuple(Mark(name, now, None) for name in sorted(names - marks.keys()))
            try:
                await self._store.commit(Txn(missing))
            except Conflict:  # another instance starts too
                continue
            return marks | {mark.name: mark.value for mark in missing}

    async def _run(self) -> None:
        while True:
            try:
                changes = await self._store.changes(self._position, PAGE, None)
                await self._follow(changes)
            except StoreClosed:
                return
            except Conflict:
                self._reload()
            except StoreError as error:
                log.warning("state triggers wait for the store: %s", error)
                await self._timers.sleep(AGAIN_MS)

    async def _follow(self, changes: list[Change]) -> None:
        """Turn `changes` into messages, in Txns of bounded size."""
        ops: list[Op] = []
        size = 0
        for change in changes:
            for op in self._messages(change):
                ops.append(op)
                size += len(op.payload)
            if len(ops) >= TXN_OPS_MAX or size >= TXN_BYTES_MAX:
                await self._advance(change.version, ops)
                ops, size = [], 0
        if changes:
            await self._advance(changes[-1].version, ops)

    async def _advance(self, version: int, ops: list[Op]) -> None:
        mark = self._mark
        if ops or mark is None or version - mark >= LAG_MAX:
            await self._store.commit(Txn([Mark(TAIL, version, mark), *ops]))
            self._mark = version
        self._position = version
        self._moved()

    def _reload(self) -> None:
        """Another instance went on: follow from where it is."""
        self._mark = self._store.mark(TAIL)
        self._position = max(self._position, self._mark or 0)
        self._moved()

    def _messages(self, change: Change) -> list[Enqueue]:
        watches = [watch for watch in self._watches if watch.fires(change)]
        if not watches:
            return []
        payload = encode_change(change)
        group = blake2b(f"{change.namespace}\0{change.key}".encode(), digest_size=16).hexdigest()
        return [
            Enqueue(
                f"$state/{watch.step}",
                payload,
                group=group,
                headers={**change.headers, TRIGGER_HEADER: str(watch.index)},
                step=watch.step,
            )
            for watch in watches
        ]


def _triggers(steps: Iterable[Step]) -> list[tuple[str, int, StateTrigger]]:
    return [
        (step.name, index, trigger)
        for step in steps
        for index, trigger in enumerate(step.triggers)
        if isinstance(trigger, StateTrigger)
    ]


def _mark_name(step: str, trigger: StateTrigger) -> str:
    """Another filter is another trigger, which starts anew."""
    meaning = msgspec.json.encode((trigger.namespace, trigger.filter, trigger.fire), order="deterministic")
    return f"trigger/{step}/{blake2b(meaning, digest_size=8).hexdigest()}"
