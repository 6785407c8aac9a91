"""What really happened, written down outside of the store: each Txn that landed, and what clients were told.

It judges as it goes where it can (a cap, a lease, a settlement); the rest is for sim_checks.py at the end.
"""

from __future__ import annotations

from collections import Counter, deque
from hashlib import blake2b

from sim_loop import SimLoop
from sim_steps import CAP
from sim_store import SimStore

from iii.errors import StoreError
from iii.model import (
    SUSPECT_CRASHES,
    Ack,
    Change,
    Committed,
    Enqueue,
    Lane,
    Lease,
    Mark,
    Message,
    Op,
    Retry,
    Txn,
)
from iii.store.memory import MemoryTables

TOLD_MAX = 60


class Ledger:
    """The witness of every store of a run."""

    def __init__(self, loop: SimLoop, tables: MemoryTables) -> None:
        self._loop, self._tables = loop, tables
        self.is_full, self.failing, self.slow = False, 0.0, 1
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.accepted: dict[str, set[object]] = {}  # topic -> keys whose enqueue returned
        self.sent: dict[str, set[object]] = {}  # topic -> keys whose enqueue was called
        self.ids_of: dict[object, set[str]] = {}  # unique key -> ids it was answered with
        self.born: set[int] = set()
        self.gone: set[int] = set()
        self._first_marks: dict[str, int] = {}
        self.set_back: list[tuple[str, int, int]] = []  # mark, its value then and before
        self.changes: list[Change] = []
        self._trace = blake2b(digest_size=12)
        self._told: deque[str] = deque(maxlen=TOLD_MAX)

    # -- the trace

    def tell(self, what: str) -> None:
        """One event: part of the hash that two runs of a seed must agree on."""
        line = f"{self._loop.now_us / 1e6 - 1000:12.6f} {what}"
        self._trace.update(line.encode())
        self._told.append(line)
        self.counts["events"] += 1

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    @property
    def last_events(self) -> list[str]:
        return list(self._told)

    # -- what the stores tell

    def landed(self, store: SimStore, txn: Txn, committed: Committed) -> None:
        self.tell(f"{store.process.name} landed {' '.join(map(_shown, txn.ops))}")
        self.counts["Txns"] += 1
        ids = iter(committed.ids)
        for op in txn.ops:
            if isinstance(op, Ack):
                self._left(op.lease.id)
                self.counts["acks"] += 1
            elif isinstance(op, Retry):
                self.counts["retries"] += 1
            elif isinstance(op, Mark):
                self._first_marks.setdefault(op.name, op.value)
                if op.expected is not None and op.value < op.expected:
                    self.set_back.append((op.name, op.value, op.expected))
            elif isinstance(op, Enqueue):
                self._entered(op, next(ids))
        seen = self.changes[-1].version if self.changes else 0
        self.changes += [change for _, change in self._tables.change.scan(seen + 1)]

    def refused(self, store: SimStore, txn: Txn, error: StoreError) -> None:
        self.tell(f"{store.process.name} refused {type(error).__name__} {' '.join(map(_shown, txn.ops))}")
        self.counts[type(error).__name__] += 1

    def granted(self, store: SimStore, messages: list[Message]) -> None:
        for message in messages:
            self.tell(f"{store.process.name} granted {message.step} {message.lease.id}")
            self.counts["suspects"] += message.crashes >= SUSPECT_CRASHES
        for lane in {Lane(message.topic, message.step) for message in messages}:
            self._within_credit(store, lane)
        leased = self._tables.counted(Lane("second", "Second"), "leased")
        if leased > CAP:
            self.findings.append(f"Second has {leased} live leases, max_in_flight is {CAP}")

    def _within_credit(self, store: SimStore, lane: Lane) -> None:
        held = sum(row.lane == lane for _, row in self._tables.leased.under(store.session))
        if held > store.level(lane):
            self.findings.append(
                f"{store.process.name} holds {held} of {lane}, its level is {store.level(lane)}"
            )

    def _left(self, id: int) -> None:
        if id in self.gone or id not in self.born:
            self.findings.append(f"message {id} was settled for good twice, or never enqueued")
        self.gone.add(id)

    def _entered(self, op: Enqueue, ids: list[int]) -> None:
        for id in ids:
            if op.id == id:
                self.gone.discard(id)
            elif id in self.born and op.unique is None:
                self.findings.append(f"the id {id} was given twice")
            self.born.add(id)

    def first_mark(self, prefix: str) -> int | None:
        """What the mark whose name begins so was first set to."""
        return next((value for name, value in self._first_marks.items() if name.startswith(prefix)), None)

    # -- what clients tell

    def sending(self, topic: str, key: object) -> None:
        self.sent.setdefault(topic, set()).add(key)

    def accept(self, topic: str, key: object, ids: list[str]) -> None:
        self.tell(f"accepted {topic} {key} {ids}")
        self.accepted.setdefault(topic, set()).add(key)
        if topic == "once":
            self.ids_of.setdefault(key, set()).update(ids)


def _shown(op: Op) -> str:
    lease: Lease | None = getattr(op, "lease", None)
    name = type(op).__name__
    if lease is not None:
        return f"{name}({lease.id})"
    if isinstance(op, Enqueue):
        return f"{name}({op.topic})"
    if isinstance(op, Mark):
        return f"{name}({op.name}={op.value})"
    return f"{name}({getattr(op, 'namespace', '')}/{getattr(op, 'key', '')})"
