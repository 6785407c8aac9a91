"""What passes between the loop and the writer: items in, groups out. Values only."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from iii.errors import StoreDamaged
from iii.model import Lane, Message, Txn
from iii.store.contract import Answer
from iii.store.lmdb.apply import Applier

Probe: TypeAlias = Callable[[str, int], None]
"""Called with ("before" | "applied" | "after", number of the commit) on the writer's thread."""

OP_BYTES = 256
"""What an op counts against the pending bytes, beside what it holds."""


class Credit:
    """Levels of this store's session: see Store.credit. Answered with None, whatever becomes of its group."""

    __slots__ = ("future", "levels")

    def __init__(self, levels: dict[Lane, int], future: Future[None]) -> None:
        self.levels, self.future = levels, future


class Call:
    """Something the store does inside a group: opening a session, recovering one."""

    __slots__ = ("apply", "future")

    def __init__(self, apply: Callable[[Applier], Any], future: Future[Any]) -> None:
        self.apply, self.future = apply, future


Item: TypeAlias = "tuple[Txn, Answer] | Credit | Call"


class Group(Struct):
    """What one group led to, told to the loop at once."""

    answers: list[tuple[Answer | Future[Any], Any]]
    granted: list[Message] = []
    ended: list[int] = []  # leases that were settled
    changed: bool = False
    concerns_others: bool = False  # other processes that wait are to look
    committed: bool = False
    session_lost: int = 0  # this store's session, which others have buried
    suspects: bool | None = None  # whether some are ready and may be granted; None: nobody looked
    sessions: list[int] | None = None  # those on record, where they may have changed


class Meter(Struct):
    """Where the writer's time went since it started: counts, and nanoseconds by stage."""

    groups: int = 0  # commits that wrote something
    items: int = 0  # Txns, credits and calls in them
    lock_ns: int = 0  # waiting for the write transaction, which other processes may hold
    apply_ns: int = 0  # checking and applying, granting included
    grant_ns: int = 0
    commit_ns: int = 0  # LMDB's commit, its fsync included


class Owner(Protocol):
    """The store, as its writer sees it."""

    def answer(self, group: Group) -> None:
        """Runs on the loop, once per group: answer who waits, then deliver what was granted."""

    def damaged(self, error: StoreDamaged) -> None:
        """The file is found to be damaged: nothing is committed any more."""

    def landed(self, session_ids: Iterable[int]) -> None:
        """Runs on the writer's thread after a commit that concerns others: the sessions on record."""


def answer_of(item: Item) -> Answer | Future[Any]:
    return item[1] if isinstance(item, tuple) else item.future
