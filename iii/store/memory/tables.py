"""The tables of the memory store and their undo journal. Knows rows and order, no rule about them.

counter  name                        last id, version, session, commit; ids of history rows
lane     Lane                        policy, paused, served
count    Lane, name                  exact counts: ready later behind leased dead done failed
ready    Lane, 255 - priority, id    Row      order of grants
later    due, id                     Row
behind   Lane, group, id             Row      waits behind its group's head
leased   session, id                 Row      with its token
group    Lane, group                 id of the head: present exactly while the head is in a table above
place    id                          state (the name of the table that holds it) and its key there
expiry   time, id                    ready messages that expire
suspect  Lane, 255 - priority, id    Row      the suspects among the ready
unique   Lane, key                   (id, known until);  unique_until: the same by time
state    namespace, key              Entry
change   version                     Change
mark, session, history               cursors; who works here; ("run" | "audit", id) -> content
placed      part, share, id          size of that row of the history, by quotas.py
runs_until  time                     the run records up to this id go then
started  session, id                 token: its handler runs (elsewhere: the process's running board)
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from iii.model import Change, DeadLetter, Entry, Lane, LanePolicy, MessageState, SessionRow
from iii.store.quotas import Kind, Place, Shares

__all__ = ["Known", "LaneRow", "MemoryTables", "Now", "Row", "Table"]

K = TypeVar("K")
V = TypeVar("V")


class Now(NamedTuple):
    """Both clocks, read once for everything one commit does."""

    delay_ms: int
    wall_ms: int


class Row(Struct, frozen=True):
    """A message. Its state is the table it lies in."""

    id: int
    lane: Lane
    priority: int
    payload: bytes
    headers: dict[str, str]
    group: str | None
    dead: DeadLetter | None
    enqueued_ms: int  # wall clock
    due_ms: int  # delay clock
    expires_ms: int | None = None  # delay clock; lanes of which nothing is granted
    attempts: int = 0  # failed ones
    crashes: int = 0
    alone: int = 0  # of them in a quarantine
    error: str | None = None
    session: int = 0  # while leased, as is the token
    token: int = 0
    due_wall_ms: int = 0  # wall clock, after a delay or a retry


class LaneRow(Struct, frozen=True):
    policy: LanePolicy
    paused: bool = False
    served: bool = False


class Known(NamedTuple):
    """What a unique key stands for, and until when (delay clock)."""

    id: int
    until_ms: int


class Table(Generic[K, V]):
    """A mapping in key order whose writes can be undone. None is no value.

    Reads O(1), scans O(log n) to their start, writes O(n) pointer moves. Do not write while scanning.
    """

    def __init__(self, journal: list[Callable[[], None]]) -> None:
        self._journal = journal
        self._rows: dict[K, V] = {}
        self._keys: list[Any] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def get(self, key: K) -> V | None:
        return self._rows.get(key)

    def put(self, key: K, value: V) -> None:
        old = self._rows.get(key)
        self._journal.append(lambda: self._set(key, old))
        self._set(key, value)

    def pop(self, key: K) -> V:
        old = self._rows[key]
        self._journal.append(lambda: self._set(key, old))
        self._set(key, None)
        return old

    def scan(self, start: object = None) -> Iterator[tuple[K, V]]:
        """Rows in key order, from the first key >= `start`."""
        at = 0 if start is None else bisect_left(self._keys, start)
        while at < len(self._keys):
            key = self._keys[at]
            yield key, self._rows[key]
            at += 1

    def under(self, *prefix: object) -> Iterator[tuple[K, V]]:
        """Rows whose tuple key begins with `prefix`, in key order."""
        for key, value in self.scan(prefix):
            if key[: len(prefix)] != prefix:  # type: ignore[index]
                return
            yield key, value

    def span(self, start: object, stop: object) -> int:
        """How many keys lie in start <= key < stop."""
        return bisect_left(self._keys, stop) - bisect_left(self._keys, start)

    def _set(self, key: K, value: V | None) -> None:
        if value is None:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        else:
            if key not in self._rows:
                insort(self._keys, key)
            self._rows[key] = value


class MemoryTables:
    """One durable state. Several MemoryStores may share it, as processes share a file."""

    def __init__(self) -> None:
        journal: list[Callable[[], None]] = []
        self._journal = journal
        self.counter: Table[str, int] = Table(journal)
        self.lane: Table[Lane, LaneRow] = Table(journal)
        self.count: Table[tuple[Lane, str], int] = Table(journal)
        self.ready: Table[tuple[Lane, int, int], Row] = Table(journal)
        self.later: Table[tuple[int, int], Row] = Table(journal)
        self.behind: Table[tuple[Lane, str, int], Row] = Table(journal)
        self.leased: Table[tuple[int, int], Row] = Table(journal)
        self.group: Table[tuple[Lane, str], int] = Table(journal)
        self.place: Table[int, tuple[MessageState, Any]] = Table(journal)
        self.expiry: Table[tuple[int, int], Row] = Table(journal)
        self.suspect: Table[tuple[Lane, int, int], Row] = Table(journal)
        self.unique: Table[tuple[Lane, str], Known] = Table(journal)
        self.unique_until: Table[tuple[int, Lane, str], int] = Table(journal)
        self.state: Table[tuple[str, str], Entry] = Table(journal)
        self.change: Table[int, Change] = Table(journal)
        self.mark: Table[str, int] = Table(journal)
        self.session: Table[int, SessionRow] = Table(journal)
        self.history: Table[tuple[Kind, int], bytes] = Table(journal)
        self.placed: Table[tuple[int, str, int], int] = Table(journal)
        self.shares = Shares()
        self.runs_until: Table[tuple[int], int] = Table(journal)
        self.started: Table[tuple[int, int], int] = Table(journal)
        self.dead_sessions: set[int] = set()
        self.doorbells: list[Callable[[], None]] = []

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All writes inside land, or none of them where an exception leaves the block."""
        assert not self._journal, "a commit inside a commit"
        try:
            yield
        except BaseException:
            while self._journal:
                undo = self._journal.pop()
                undo()
            raise
        finally:
            self._journal.clear()

    def place_record(self, place: Place, id: int, size: int) -> None:
        self.placed.put((*place, id), size)
        self._count_record(place, 1, size)

    def unplace_record(self, place: Place, id: int) -> None:
        size = self.placed.pop((*place, id))
        self._count_record(place, -1, -size)

    def _count_record(self, place: Place, rows: int, size: int) -> None:
        self.shares.add(place, rows, size)
        self._journal.append(lambda: self.shares.add(place, -rows, -size))

    def next(self, counter: str) -> int:
        number = (self.counter.get(counter) or 0) + 1
        self.counter.put(counter, number)
        return number

    def last(self, counter: str) -> int:
        return self.counter.get(counter) or 0

    def add(self, lane: Lane, count: str, by: int) -> None:
        self.count.put((lane, count), self.counted(lane, count) + by)

    def counted(self, lane: Lane, count: str) -> int:
        return self.count.get((lane, count)) or 0

    def find(self, id: int) -> tuple[MessageState, Row] | None:
        """A message and its state, or None where there is no such message."""
        place = self.place.get(id)
        if place is None:
            return None
        state, key = place
        return state, getattr(self, state).get(key)

    def use(self, lane: Lane) -> LaneRow:
        """The lane's row, made where it is used for the first time."""
        row = self.lane.get(lane)
        if row is None:
            row = LaneRow(LanePolicy(lane.topic, lane.step))
            self.lane.put(lane, row)
        return row

    def anybody_lives(self) -> bool:
        """Whether a session on record has a process that lives."""
        return any(id not in self.dead_sessions for id, _ in self.session.scan())

    def anybody_died(self) -> bool:
        """Whether a session on record has no process any more."""
        return any(id in self.dead_sessions for id, _ in self.session.scan())

    def subscribing(self) -> list[SessionRow]:
        """The sessions on record but for quarantines."""
        return [session for _, session in self.session.scan() if session.suspects != "only"]

    def has_suspects(self) -> bool:
        """Whether a suspect is ready in a lane that may be granted from."""
        lanes = {key[0] for key, _ in self.suspect.scan()} if len(self.suspect) else ()
        return any((row := self.lane.get(lane)) and row.served and not row.paused for lane in lanes)

    def subscribers(self, topic: str) -> list[Lane]:
        """The served lanes of a topic, in order of their steps."""
        return [lane for lane, row in self.lane.under(topic) if row.served]
