"""What can be asked of the tables: pure reads, no clock of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, get_args

import orjson

from iii.model import Entry, Lane, LaneStats, MessageState, Page, SessionRow, Waiting
from iii.store.contract import Held
from iii.store.memory.tables import MemoryTables, Row
from iii.store.message_ids import number_of, prefix_of

__all__ = ["MemoryReads"]

STATES: tuple[MessageState, ...] = get_args(MessageState)


class MemoryReads(ABC):
    """The reading half of the Store protocol."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    def get(self, namespace: str, key: str) -> Entry | None:
        return self._tables.state.get((namespace, key))

    def scan(self, namespace: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Entry]:
        found: list[Entry] = []
        for (at, key), entry in self._tables.state.scan((namespace, max(prefix, after))):
            if at != namespace or not key.startswith(prefix) or len(found) >= limit:
                break
            if not after or key > after:
                found.append(entry)
        return found

    def namespaces(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        start = ("", "")
        while first := next(self._tables.state.scan(start), None):
            namespace = first[0][0]
            start = (namespace + "\0", "")
            if not namespace.startswith("$"):
                found.append((namespace, self._tables.state.span((namespace, ""), start)))
        return found

    def version(self) -> int:
        return self._tables.last("version")

    def message_id(self, number: int) -> str:
        return f"{prefix_of(0)}{number}"

    def number_of(self, message_id: str) -> int | None:
        return number_of(message_id, self.message_id)

    def mark(self, name: str) -> int | None:
        return self._tables.mark.get(name)

    def marks(self, prefix: str) -> dict[str, int]:
        return {name: value for name, value in self._tables.mark.scan() if name.startswith(prefix)}

    def stats(self) -> list[LaneStats]:
        return [
            LaneStats(
                topic=lane.topic,
                step=lane.step,
                ready=self._tables.counted(lane, "ready"),
                later=self._tables.counted(lane, "later"),
                behind=self._tables.counted(lane, "behind"),
                leased=self._tables.counted(lane, "leased"),
                dead=self._tables.counted(lane, "dead"),
                done=self._tables.counted(lane, "done"),
                failed=self._tables.counted(lane, "failed"),
                oldest_ms=min((row.enqueued_ms for _, row in self._tables.ready.under(lane)), default=None),
                paused=row.paused,
                served=row.served,
            )
            for lane, row in self._tables.lane.scan()
        ]

    def waiting(
        self, topic: str, *, step: str | None = None, states: Iterable[MessageState] = (), limit: int = 100
    ) -> list[Waiting]:
        wanted = set(states) or set(STATES)
        found = [
            _waiting(row, state)
            for state in STATES
            if state in wanted
            for row in self._rows(state)
            if row.lane.topic == topic and step in (None, row.lane.step)
        ]
        return found[:limit]

    def browse(
        self, topic: str, step: str, state: MessageState, *, after: bytes = b"", limit: int = 256
    ) -> Page:
        lane = Lane(topic, step)
        within = (lane,) if state in ("ready", "behind") else ()  # the others' keys know no lane
        last = tuple(orjson.loads(after)) if after else ()
        found: list[tuple[bytes, Waiting]] = []
        looked_at = 0
        for key, row in getattr(self._tables, state).scan((*within, *last)):
            if key == (*within, *last):
                continue
            if key[: len(within)] != within:
                break
            if looked_at == limit:
                return Page(found, looked_at, orjson.dumps(last))
            looked_at, last = looked_at + 1, key[-2:]
            if row.lane == lane:
                found.append((orjson.dumps(last), _waiting(row, state)))
        return Page(found, looked_at, None)

    def find(self, id: int, *, after: bytes = b"", limit: int = 4096) -> tuple[Waiting | None, bytes | None]:
        place = self._tables.place.get(id)
        if place is None:
            return None, None
        state, key = place
        return _waiting(getattr(self._tables, state).get(key), state), None

    def head(self, topic: str, step: str, group: str) -> int | None:
        return self._tables.group.get((Lane(topic, step), group))

    def known(self, topic: str, step: str, unique_key: str) -> Waiting | None:
        lane = Lane(topic, step)
        known = self._tables.unique.get((lane, unique_key))
        if known is None or known.until_ms <= self._now_ms():
            return None
        row = self._tables.ready.get((lane, 255 - 128, known.id))
        return _waiting(row, "ready") if row else None

    def records(
        self, kind: Literal["run", "audit"], *, limit: int = 100, before: int | None = None
    ) -> list[tuple[int, bytes]]:
        rows = [(id, content) for (_, id), content in self._tables.history.under(kind)]
        return [row for row in reversed(rows) if before is None or row[0] < before][:limit]

    def held(self) -> Held:
        return self._tables.shares.held()

    def sessions(self) -> list[SessionRow]:
        return [row for _, row in self._tables.session.scan()]

    def unsettled(self, lanes: Iterable[Lane] | None = None) -> int:
        asked = [lane for lane, _ in self._tables.lane.scan()] if lanes is None else list(lanes)
        served = [lane for lane in asked if (row := self._tables.lane.get(lane)) and row.served]
        return sum(self._tables.counted(lane, state) for lane in served for state in STATES)

    @abstractmethod
    def _now_ms(self) -> int:
        """The delay clock."""

    def _rows(self, state: MessageState) -> list[Row]:
        """All messages of a state: ready and later as they are granted, the others by age."""
        rows: list[Row] = [row for _, row in getattr(self._tables, state).scan()]
        return rows if state in ("ready", "later") else sorted(rows, key=lambda row: (row.lane, row.id))


def _waiting(row: Row, state: MessageState) -> Waiting:
    return Waiting(
        id=row.id,
        topic=row.lane.topic,
        step=row.lane.step,
        state=state,
        priority=row.priority,
        attempts=row.attempts,
        payload=row.payload,
        headers=row.headers,
        group=row.group,
        enqueued_ms=row.enqueued_ms,
        due_ms=row.due_ms if state == "later" else None,
        error=row.error,
        crashes=row.crashes,
        alone=row.alone,
        dead=row.dead,
        session=row.session if state == "leased" else 0,
    )
