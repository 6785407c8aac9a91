"""Every error iii raises, on one screen. The branch of the tree says whose fault it is.

    IIIError
    ├── ConfigError         the configuration file
    ├── StepError           a step file: its config, its handler, or what the handler did
    ├── InputError          what a caller sent
    └── StoreError          the store, or what the store refuses
        └── Refusal         a Txn that was refused and wrote nothing (model.REFUSALS says what follows)

A message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "BadMerge",
    "BadName",
    "ChangesHeld",
    "ConfigError",
    "Conflict",
    "Detail",
    "Fault",
    "HandlerEnded",
    "IIIError",
    "InputError",
    "LeaseLost",
    "NameTooLong",
    "QueueFull",
    "Refusal",
    "StepError",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreFailing",
    "StoreFull",
    "StoreGone",
    "StoreIncompatible",
    "TooLarge",
    "UndeclaredTopic",
    "ValidationError",
]


class IIIError(Exception):
    """The root: `except IIIError` catches everything iii raises on purpose."""


class LoopStuck(IIIError):
    """The event loop has not turned for `health.stuck_after`."""


class ConfigError(IIIError):
    """The configuration is wrong. `file` and `field` say where, the message what to do."""

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        self.message, self.file, self.field = message, file, field
        super().__init__(": ".join(part for part in (file, field, message) if part))


class Fault(NamedTuple):
    """What of a value cannot be stored. `path`: of the first such part; `given`: it, where it is a number or
    a text; is_type: no value of its type can."""

    path: tuple[str | int, ...]
    reason: str
    given: object = None
    is_type: bool = False

    @property
    def field(self) -> str:
        """("items", 0, "name") -> "items.0.name"."""
        return ".".join(map(str, self.path))


class StepError(IIIError):
    """A step is wrong. `file` and `field` say where, the message what to do. `fault`: what a handler gave
    that cannot be stored, sent or answered; `field` is its path then."""

    fault: Fault | None = None

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        self.message, self.file, self.field = message, file, field
        super().__init__(": ".join(part for part in (file, field, message) if part))


class HandlerEnded(StepError):
    """A context was used after its attempt had settled: nothing was written."""


class UndeclaredTopic(StepError):
    """A handler enqueued a topic that its config's `enqueues` does not name."""


class Detail(NamedTuple):
    """One finding of a validation: the dotted path of the field and what is wrong with it."""

    path: str
    message: str


class InputError(IIIError):
    """What a caller sent is refused; nothing was written."""


class BadName(InputError):
    """A key, topic, group or another argument of a call that no store takes.

    `field`: which; `given`: it; `allows`: whether another in its place would be taken.
    """

    def __init__(
        self, message: str, *, field: str, given: object, allows: Callable[[Any], object] | None = None
    ) -> None:
        super().__init__(message)
        self.field, self.given, self._check = field, given, allows

    def allows(self, other: object) -> bool:
        try:
            if self._check is not None:
                self._check(other)
        except IIIError:
            return False
        return self._check is not None


class ValidationError(InputError):
    """The input does not fit its schema. `details` names each field; `given`: it, where it is known."""

    given: object = None

    def __init__(self, message: str, details: tuple[Detail, ...] = ()) -> None:
        self.message, self.details = message, details
        fields = "; ".join(f"{d.path}: {d.message}" if d.path else d.message for d in details)
        super().__init__(f"{message}: {fields}" if fields else message)


class StoreError(IIIError):
    """The store cannot do what was asked."""


class StoreClosed(StoreError):
    """The store is closed, or was opened by a process this one was forked from."""


class StoreBusy(StoreError):
    """Another process holds what is needed (an exclusive lock, a port, the data folder)."""


class StoreDamaged(StoreError):
    """The store's file fails its checks, or it or its lock file was removed while in use. Nothing is written
    to it any more: stop, put a backup in its place."""


class StoreGone(StoreDamaged):
    """The store that has to be there is not; none is made in its place."""


class StoreIncompatible(StoreError):
    """The store's file is of another format, filesystem or PID namespace; nothing was changed."""


class Refusal(StoreError):
    """A Txn was refused. It wrote nothing."""


class Conflict(Refusal):
    """`if_version`, a Mark's `expected` or the row a Discard names is not what the Txn expected."""


class BadMerge(Refusal):
    """A Merge does not fit the value it meets (wrong type, missing index)."""


class QueueFull(Refusal):
    """A lane already holds `max_depth` messages, or `topics_max` topics have no step."""


class TooLarge(Refusal):
    """A key, value, payload or Txn is over its limit; the message names both numbers. `field`: what of a call
    it is, `size`: its bytes."""

    def __init__(self, message: str, *, field: str = "", size: int = 0) -> None:
        super().__init__(message)
        self.field, self.size = field, size


class NameTooLong(BadName, TooLarge):
    """A BadName that is over its limit."""


class StoreFull(Refusal):
    """The map or the disk is full. Settlements still land; new work is refused until there is room."""


class ChangesHeld(StoreFull):
    """A state trigger holds so much of the change log that only what leaves no changes still lands."""


class StoreFailing(StoreFull):
    """The disk fails (EIO). As with a full one, what is settled is tried again, new work is refused."""


class LeaseLost(Refusal):
    """The lease is no longer this session's: another attempt owns the message."""
