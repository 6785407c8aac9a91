"""Which state triggers a change fires, and the messages it becomes. Pure: knows marks as numbers alone.

A trigger's mark is named after what it watches: another namespace, filter or `fire` is another trigger. The
messages of a key are one group, so they run in the order of its changes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from iii.formats import codec
from iii.formats.filters import Firing, firing
from iii.handling.inputs import encode_change
from iii.model import Change, Enqueue
from iii.running.bindings import TRIGGER_HEADER
from iii.step import StateTrigger, Step
from iii.store.keeping import CHANGES, MARKS
from iii.trace import hopped

__all__ = ["Copy", "Watch", "Watches"]

log = logging.getLogger("iii.changes")


class Watch(Struct, frozen=True):
    """A state trigger of this process and the name of its mark. `fires` None: on every change."""

    step: str
    topic: str
    index: str  # among the step's triggers, as the message's header says it
    namespace: str | None
    fires: Firing | None
    mark: str


class Copy(Struct, frozen=True):
    """The message that a change becomes for one trigger, and about how many bytes of a Txn it takes."""

    mark: str
    version: int
    message: Enqueue
    size: int


class Watches:
    """The state triggers of these steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.all = tuple(watch for step in steps for watch in _watches(step))
        namespaces = {watch.namespace for watch in self.all if watch.namespace is not None}
        self._of = {name: self._interested(name) for name in namespaces}
        self._everywhere = self._interested(None)

    def _interested(self, namespace: str | None) -> tuple[Watch, ...]:
        return tuple(watch for watch in self.all if watch.namespace in (None, namespace))

    def copies(self, change: Change, marks: Mapping[str, int], wall_ms: int) -> Sequence[Copy]:
        """A message for each trigger whose mark lies below the change and that fires, it being `wall_ms`.

        A change that a filter cannot read is told and skipped.
        """
        namespace, version = change.namespace, change.version
        found: list[Copy] = []
        values, payload = None, b""
        for watch in self._of.get(namespace, self._everywhere):
            if version <= marks[watch.mark]:
                continue
            try:
                if watch.fires is not None:
                    values = values or _Values(change)
                    if not watch.fires(values):
                        continue
                payload = payload or encode_change(change)
            except Exception:
                log.exception("%s misses change %d of %s/%s", watch.step, version, namespace, change.key)
                continue
            if not found:
                group, carried = _group(change), hopped(change.headers, wall_ms)
                size = len(payload) + _size(carried)
            headers = {**carried, TRIGGER_HEADER: watch.index}
            message = Enqueue(watch.topic, payload, group=group, headers=headers, step=watch.step)
            found.append(Copy(watch.mark, version, message, size))
        return found


_UNREAD = object()


class _Values:
    """A change's values, each decoded only once; the old one when a filter asks for it."""

    __slots__ = ("_old", "_old_raw", "new")

    def __init__(self, change: Change) -> None:
        self.new: Any = None if change.new is None else codec.decode(change.new)
        self._old: Any = _UNREAD
        self._old_raw = change.old

    @property
    def old(self) -> Any:
        if self._old is _UNREAD:
            self._old = None if self._old_raw is None else codec.decode(self._old_raw)
        return self._old


_hash = blake2b(digest_size=16)  # a copy of it costs half of a new one


def _group(change: Change) -> str:
    """One for each key."""
    hash = _hash.copy()
    hash.update(f"{change.namespace}\0{change.key}".encode())
    return hash.hexdigest()


def _size(headers: Mapping[str, str]) -> int:
    return sum(map(len, headers)) + sum(map(len, headers.values()))


def _watches(step: Step) -> Iterator[Watch]:
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
            yield Watch(step.name, CHANGES + step.name, str(index), trigger.namespace, fires, mark)
