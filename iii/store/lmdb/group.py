"""What passes between the loop and the writer: items in, groups out. Values only."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Mapping
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


class Claim:
    """A worker's demand. `once`: answered by the next group whatever that grants; `dropped`: nobody waits.

    `standing`: lanes for which it stands on after its answer, until it is replaced; `seen`: the newest commit
    whose grants were known when it was made.
    """

    __slots__ = ("demand", "dropped", "future", "once", "seen", "standing")

    def __init__(
        self,
        demand: Mapping[Lane, int],
        future: Future[list[Message]],
        *,
        once: bool = False,
        standing: Collection[Lane] = (),
        seen: int = 0,
    ) -> None:
        self.demand, self.future, self.once = demand, future, once
        self.standing, self.seen = standing, seen
        self.dropped = False

    def drop(self) -> None:
        """Answer it with nothing."""
        self.dropped = True
        if not self.future.done():
            self.future.set_result([])


class Call:
    """Something the store does inside a group: opening a session, recovering one, giving leases back."""

    __slots__ = ("apply", "future")

    def __init__(self, apply: Callable[[Applier], Any], future: Future[Any]) -> None:
        self.apply, self.future = apply, future


Item: TypeAlias = "tuple[Txn, Answer] | Claim | Call"


class Group(Struct):
    """What one group led to, told to the loop at once."""

    answers: list[tuple[Answer | Future[Any], Any]]
    granted: list[tuple[Claim, list[Message]]] = []
    ended: list[int] = []  # leases that were settled
    changed: bool = False
    concerns_others: bool = False  # other processes that wait are to look
    committed: bool = False
    session_lost: int = 0  # this store's session, which others have buried
    sessions: list[int] | None = None  # those on record, where they may have changed


class Meter(Struct):
    """Where the writer's time went since it started: counts, and nanoseconds by stage."""

    groups: int = 0  # commits that wrote something
    items: int = 0  # Txns, claims and calls in them
    lock_ns: int = 0  # waiting for the write transaction, which other processes may hold
    apply_ns: int = 0  # checking and applying, granting included
    grant_ns: int = 0
    commit_ns: int = 0  # LMDB's commit, its fsync included


class Owner(Protocol):
    """The store, as its writer sees it."""

    def deliver(self, group: Group) -> None:
        """Runs on the loop."""

    def damaged(self, error: StoreDamaged) -> None:
        """The file is found to be damaged: nothing is committed any more."""

    def landed(self, session_ids: Iterable[int]) -> None:
        """Runs on the writer's thread after a commit that concerns others: the sessions on record."""


def answer_of(item: Item) -> Answer | Future[Any]:
    return item[1] if isinstance(item, tuple) else item.future
