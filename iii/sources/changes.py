"""State triggers: tails the change log and enqueues a message for each change that fires.

    changes after the marks -> filter and fire -> one Txn [Mark(trigger/…), …, Enqueue($state/<step>), …]

Each trigger has a mark of its own: the version up to which it has seen every change. It begins at the version
at which the trigger was first seen, and only instances that have the trigger move it, in the same Txn as the
messages: its compare-and-set makes a change one message over all instances, and a trigger whose instances are
all down catches up later. What fires nothing writes nothing: marks follow in steps of LAG_MAX, since looking
again at it fires nothing again.

Of the instances with the same triggers one tails: the mark `tailer/<hash>` names its session. The others wait
until that session has gone, then the first of them takes over where the marks stand. This saves work and no
more: two that tail at once, as during a deploy that changes triggers, meet at the marks.

Owns the mark TAIL too, below which the store trims the log. It is the least of all triggers' marks but those
that nobody waits for: of a step that has other triggers by now, or more than FORGOTTEN_LAG versions behind
(their step is gone). Such a trigger that comes back sees what is left of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

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
from iii.formats import codec
from iii.formats.filters import Firing, firing
from iii.handling.inputs import encode_change
from iii.model import TAIL, Change, Enqueue, Mark, Op, Txn
from iii.running.bindings import TRIGGER_HEADER
from iii.running.timers import Timers
from iii.step import StateTrigger, Step
from iii.store.contract import Store

__all__ = ["FORGOTTEN_LAG", "ChangeSource"]

PAGE = 256
LAG_MAX = 1_000
FORGOTTEN_LAG = 1_000_000
TXN_COPIES_MAX = 1_000
TXN_BYTES_MAX = 4 << 20
LOOK_AGAIN_MS = 60_000
AGAIN_MS = 200
MARKS = "trigger/"
TAILERS = "tailer/"

log = logging.getLogger("iii.changes")


class _Watch(Struct, frozen=True):
    """A state trigger of this process and the name of its mark. `fires` None: on every change."""

    step: str
    index: int
    namespace: str | None
    fires: Firing | None
    mark: str


_UNREAD = object()


class _Values:
    """A change's values, decoded when a filter asks and only once."""

    __slots__ = ("_change", "_new", "_old")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._old: Any = _UNREAD
        self._new: Any = _UNREAD

    @property
    def old(self) -> Any:
        if self._old is _UNREAD:
            raw = self._change.old
            self._old = None if raw is None else codec.decode(raw)
        return self._old

    @property
    def new(self) -> Any:
        if self._new is _UNREAD:
            raw = self._change.new
            self._new = None if raw is None else codec.decode(raw)
        return self._new


class _Copy(NamedTuple):
    """The message that a change becomes for one trigger."""

    watch: _Watch
    version: int
    message: Enqueue


class ChangeSource:
    """`moved` is called whenever the tail went on, `on_failure` when it died of an unexpected error."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        steps: Sequence[Step],
        moved: Callable[[], object],
        *,
        on_failure: Callable[[], object] | None = None,
    ) -> None:
        self._store, self._timers, self._moved, self._on_failure = store, timers, moved, on_failure
        self._steps = {step.name for step in steps}
        self._watches = [watch for step in steps for watch in _watches(step)]
        self._marks: dict[str, int] = {}
        self._tailer = TAILERS + _hash("\n".join(sorted(watch.mark for watch in self._watches)))
        self._tails = False
        self._position = 0  # every trigger here has seen the changes up to it
        self._kept = 0  # where the marks and TAIL were last made to follow
        self._task: asyncio.Task[None] | None = None

    async def caught_up(self) -> bool:
        """Whether every change has been turned into messages."""
        if self._watches and not self._tails:
            await self._skim()
        return not self._watches or not await self._store.changes(self._position, 1, 0)

    async def start(self) -> None:
        if not self._watches or not await self._takes_tail():
            await self._load()
        self._kept = self._store.mark(TAIL) or 0
        self._warn_of_trimmed()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self._watches and not self._tails:
            return  # the marks are kept by who tails
        try:
            newest = self._store.version()
            if await self.caught_up():
                self._position = max(self._position, newest)
            await self._keep_marks()
            await self._move_tail(1)
        except StoreError as error:
            log.debug("the marks of state triggers stay where they are: %s", error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("state triggers failed: no change starts a step any more", exc_info=error)
            if self._on_failure is not None:
                self._on_failure()

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
                if any(True for _ in self._copies(change)):
                    return
                self._position = max(self._position, change.version)

    # -------------------------------------------------------------------------------------- following

    async def _run(self) -> None:
        while True:
            try:
                if self._watches:
                    await self._become_tailer()
                    await self._follow()
                else:
                    await self._timers.sleep(LOOK_AGAIN_MS)
                    await self._move_tail(LAG_MAX)
            except (StoreClosed, StoreDamaged):
                return
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
            if self._position - self._kept >= LAG_MAX:
                await self._keep_marks()
                await self._move_tail(LAG_MAX)
                self._kept = self._position
        except Conflict:  # another instance went on
            await self._load()
        self._moved()

    async def _enqueue(self, changes: Sequence[Change]) -> None:
        """Commit the messages of `changes` in Txns of bounded size, each with the marks of its triggers."""
        copies: list[_Copy] = []
        size = 0
        for change in changes:
            for copy in self._copies(change):
                bytes_more = _size(copy.message)
                if copies and (len(copies) >= TXN_COPIES_MAX or size + bytes_more > TXN_BYTES_MAX):
                    await self._commit(copies)
                    copies, size = [], 0
                copies.append(copy)
                size += bytes_more
        if copies:
            await self._commit(copies)
        if changes:
            self._position = max(self._position, changes[-1].version)

    async def _commit(self, copies: Sequence[_Copy]) -> None:
        """Enqueue together, or one by one where that is refused; one that is refused alone is skipped."""
        reached = {copy.watch.mark: copy.version for copy in copies}
        messages = [copy.message for copy in copies]
        try:
            await self._store.commit(Txn([*self._mark_ops(reached), *messages]))
        except (Conflict, QueueFull, StoreFull):  # a full lane has room again when its step has worked
            raise
        except (Refusal, InputError) as error:
            if len(copies) > 1:
                for copy in copies:
                    await self._commit((copy,))
                return
            (copy,) = copies
            log.error("%s misses change %d of the state: %s", copy.watch.step, copy.version, error)
            await self._store.commit(Txn(self._mark_ops(reached)))
        self._marks.update(reached)

    def _mark_ops(self, reached: Mapping[str, int]) -> list[Op]:
        return [Mark(name, version, self._marks[name]) for name, version in reached.items()]

    def _copies(self, change: Change) -> Iterator[_Copy]:
        """A message for each trigger that has not seen the change yet and fires."""
        values = _Values(change)
        payload: bytes | None = None
        for watch in self._watches:
            if watch.namespace not in (None, change.namespace) or change.version <= self._marks[watch.mark]:
                continue
            try:
                if watch.fires is not None and not watch.fires(values):
                    continue
                payload = payload or encode_change(change)
            except Exception:
                log.exception(
                    "%s misses change %d of %s/%s", watch.step, change.version, change.namespace, change.key
                )
                continue
            yield _Copy(watch, change.version, _message(watch, change, payload))

    # ------------------------------------------------------------------------------------------ marks

    async def _load(self) -> None:
        """Read the marks of the triggers here; what has none yet begins now."""
        names = {watch.mark for watch in self._watches}
        while names:
            now = self._store.version()
            marks = self._store.marks(MARKS)
            missing: list[Op] = [Mark(name, now, None) for name in sorted(names - marks.keys())]
            if self._store.mark(TAIL) is None:
                missing.append(Mark(TAIL, min(marks.values(), default=now), None))
            try:
                if missing:
                    await self._store.commit(Txn(missing))
            except Conflict:  # another instance starts too
                continue
            self._marks = {name: marks.get(name, now) for name in names}
            self._position = max(self._position, min(self._marks.values()))
            return

    async def _keep_marks(self) -> None:
        """Let the marks of all triggers here follow."""
        marks = {name: self._store.mark(name) for name in self._marks}
        reached = {name: self._position for name, mark in marks.items() if (mark or 0) < self._position}
        if reached:
            await self._store.commit(Txn(tuple(Mark(name, at, marks[name]) for name, at in reached.items())))
        self._marks.update(reached)

    async def _move_tail(self, least: int) -> None:
        """Let TAIL follow the triggers that are waited for, by `least` versions or not at all."""
        newest, tail = self._store.version(), self._store.mark(TAIL)
        waited_for = [
            mark for name, mark in self._store.marks(MARKS).items() if self._waits(name, newest - mark)
        ]
        reached = min(waited_for, default=newest)
        if tail is None or reached - tail < least:
            return
        try:
            await self._store.commit(Txn((Mark(TAIL, reached, tail),)))
        except Conflict:
            log.debug("another instance moved the tail")

    def _waits(self, mark: str, lag: int) -> bool:
        """Whether the log is kept for the trigger of `mark`."""
        step = mark.removeprefix(MARKS).rpartition("/")[0]
        superseded = step in self._steps and mark not in self._marks
        return not superseded and lag <= FORGOTTEN_LAG

    def _warn_of_trimmed(self) -> None:
        tail = min(self._store.mark(TAIL) or 0, self._store.version() - self._store.limits.changes_max)
        for watch in self._watches:
            if self._marks[watch.mark] < tail:
                log.warning(
                    "%s was away for long: it misses changes before %d of the state", watch.step, tail
                )


def _message(watch: _Watch, change: Change, payload: bytes) -> Enqueue:
    return Enqueue(
        f"$state/{watch.step}",
        payload,
        group=_hash(f"{change.namespace}\0{change.key}", 16),
        headers={**change.headers, TRIGGER_HEADER: str(watch.index)},
        step=watch.step,
    )


def _hash(text: str, size: int = 8) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _size(message: Enqueue) -> int:
    """About how many bytes of a Txn it takes."""
    return len(message.payload) + sum(len(name) + len(text) for name, text in message.headers.items())


def _watches(step: Step) -> Iterator[_Watch]:
    """The state triggers of a step. Another filter is another trigger, which starts anew."""
    alike: Counter[bytes] = Counter()
    for index, trigger in enumerate(step.triggers):
        if isinstance(trigger, StateTrigger):
            meaning = msgspec.json.encode(
                (trigger.namespace, trigger.filter, trigger.fire), order="deterministic"
            )
            nth = b"%d" % alike[meaning] if alike[meaning] else b""
            alike[meaning] += 1
            mark = f"{MARKS}{step.name}/{blake2b(meaning + nth, digest_size=8).hexdigest()}"
            fires = None if trigger.filter is None else firing(trigger.filter, trigger.fire)
            yield _Watch(step.name, index, trigger.namespace, fires, mark)
