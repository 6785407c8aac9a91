"""What must be true when a run is over, whatever befell it. Reads the tables and the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

from sim_ledger import Ledger
from sim_steps import SLOTS, TICK

from iii.formats import codec
from iii.formats.cron_expression import parse
from iii.model import ARCHIVE, MessageState
from iii.sections import CRASHES_MIN
from iii.store.memory import MemoryTables
from iii.store.memory.tables import Row
from iii.store.memory.verify import verify

SUBSCRIBERS = {
    "jobs": ("First", "Copy"),
    "second": ("Second",),
    "ordered": ("Ordered",),
    "grim": ("Grim",),
    "once": ("Once",),
    "late": ("Late",),
    "swift": ("Swift",),
    "poison": ("Poison",),
}
CLOCK_ERROR_MS = 3 * 3_600_000
STATES: tuple[MessageState, ...] = ("ready", "later", "behind", "leased")


class Ended(Protocol):
    """A world whose story is over."""

    tables: MemoryTables
    ledger: Ledger
    flushed: set[object]
    starts: Counter[object]
    most_inside: int


def findings(world: Ended) -> list[str]:
    """What is broken, as sentences."""
    end = _End(world)
    checks = (end.tables_are_in_order, end.nothing_is_lost, end.nothing_is_doubled, end.chains_are_whole,
              end.groups_are_in_order, end.attempts_are_counted, end.ticks_are_complete, end.changes_are_seen,
              end.unique_keys_are_one, end.poisons_alone_die_of_their_workers)  # fmt: skip
    found = [finding for check in checks for finding in check()]
    if world.most_inside > SLOTS:
        found.append(f"{world.most_inside} handlers of one step ran in one process, which has {SLOTS} slots")
    return found


class _End:
    def __init__(self, world: Ended) -> None:
        self._tables, self._ledger, self._flushed = world.tables, world.ledger, world.flushed
        self._starts = world.starts
        self._dead: Counter[tuple[str, Any]] = Counter()
        for state in STATES:
            for row in self._rows(state):
                if row.dead is not None and row.lane.step == ARCHIVE:
                    self._dead[row.dead.step, _key(row)] += 1

    def _rows(self, state: MessageState) -> Iterator[Row]:
        for _, row in getattr(self._tables, state).scan():
            yield row

    def _values(self, namespace: str) -> dict[str, Any]:
        found = self._tables.state.under(namespace)
        return {key: codec.decode(entry.value) for (_, key), entry in found}

    def tables_are_in_order(self) -> Iterator[str]:
        yield from verify(self._tables)
        for state in ("later", "behind", "leased"):
            left = [row for row in self._rows(state) if row.lane.step != ARCHIVE]
            yield from (f"{row.lane} still has message {row.id} {state}" for row in left)
        yield from (f"session {id} is left" for id, _ in self._tables.session.scan())
        counts = self._tables.count
        settled = sum(n for (_, name), n in counts.scan() if name in ("done", "failed"))
        told = self._ledger.counts["acks"] + self._ledger.counts["retries"]
        if settled != told:
            yield f"the counters say {settled} attempts were settled, {told} were"

    def nothing_is_lost(self) -> Iterator[str]:
        at_rest = {row.id for state in STATES for row in self._rows(state)}
        alive = self._ledger.born - self._ledger.gone
        if at_rest != alive:
            yield f"messages that are nowhere: {alive - at_rest}, from nowhere: {at_rest - alive}"
        done = self._values("done")
        for topic, keys in self._ledger.accepted.items():
            for key in sorted(keys, key=str):
                for step in SUBSCRIBERS[topic]:
                    if not done.get(f"{step}/{key}") and not self._dead.get((step, key)):
                        yield f"{topic} {key} was accepted, {step} neither did it nor is it a dead letter"

    def nothing_is_doubled(self) -> Iterator[str]:
        for key, times in self._values("done").items():
            if times != 1:
                yield f"{key} was done {times} times"
            step, _, name = key.partition("/")
            topic = next((topic for topic, known in SUBSCRIBERS.items() if step in known), None)
            if topic not in (None, "second") and name not in map(str, self._ledger.sent.get(topic or "", ())):
                yield f"{key} was done, nobody sent it"
        for (step, key), times in self._dead.items():
            if times > 1 or f"{step}/{key}" in self._values("done"):
                yield f"{step}/{key} is {times} dead letters, done: {f'{step}/{key}' in self._values('done')}"

    def chains_are_whole(self) -> Iterator[str]:
        done = self._values("done")
        firsts = {key.split("/")[1] for key in done if key.startswith("First/")}
        seconds = {key.split("/")[1] for key in done if key.startswith("Second/")}
        seconds |= {str(key) for step, key in self._dead if step == "Second"}
        asked = {key.split("/")[1] for key in done if key.startswith("Accept/")}
        begun = firsts | {str(key) for step, key in self._dead if step == "First"}
        if asked - begun:
            yield f"requests that came to nothing: {asked - begun}"
        if firsts != seconds:
            yield f"First without Second: {firsts - seconds}, Second without First: {seconds - firsts}"

    def groups_are_in_order(self) -> Iterator[str]:
        for namespace in ("order", "seen"):
            for group, numbers in self._values(namespace).items():
                if numbers != sorted(set(numbers)):
                    yield f"{namespace} {group} ran out of order: {numbers}"

    def attempts_are_counted(self) -> Iterator[str]:
        tries, flushed = self._values("tries"), set(map(str, self._flushed))
        snoozes, done_at = self._values("snoozes"), self._values("done_at")
        for key, attempt in done_at.items():
            if key not in flushed and tries[key] != attempt + snoozes.get(key, 0):
                yield f"First {key} was done at attempt {attempt}, {tries[key]} attempts settled"

    def ticks_are_complete(self) -> Iterator[str]:
        """None is left out; only of what was given up as a clock error one runs beside."""
        marks = [value for name, value in self._tables.mark.scan() if name.startswith("cron/Tick/")]
        ran = sorted(int(key.split("/")[1]) * 1000 for key in self._values("done") if key.startswith("Tick/"))
        ran = sorted([*ran, *(round(key * 1000) for step, key in self._dead if step == "Tick")])
        first = self._ledger.first_mark("cron/Tick/")
        if not marks or first is None:
            return
        errors = [(low, high) for name, low, high in self._ledger.set_back if name.startswith("cron/Tick/")]
        for low, high in errors:
            if high - low <= CLOCK_ERROR_MS:
                yield f"the mark of Tick went back from {high} to {low}"
        last = max([marks[0], *(high for _, high in errors)])
        expected = set(parse(TICK, "UTC").between(first, last, 1_000_000))
        again = {tick for tick in ran if any(low < tick <= high for low, high in errors)}
        lost, more = sorted(expected - set(ran)), sorted(set(ran) - expected - again)
        if lost or more or (not errors and len(ran) != len(expected)):
            yield f"ticks between {first} and {last}: missing {lost}, unexpected {more}, of {len(ran)}"

    def changes_are_seen(self) -> Iterator[str]:
        start = self._ledger.first_mark("trigger/Watch/") or 0
        due = {
            c.version for c in self._ledger.changes if c.namespace == "orders" and c.version > (start or 0)
        }
        seen = {int(key.split("/")[1]) for key in self._values("done") if key.startswith("Watch/")}
        seen |= {key for step, key in self._dead if step == "Watch"}
        if due != seen:
            yield f"changes that triggered nothing: {due - seen}, triggers without a change: {seen - due}"

    def unique_keys_are_one(self) -> Iterator[str]:
        for key, ids in self._ledger.ids_of.items():
            if len(ids) != 1:
                yield f"the unique key {key} was answered with the ids {sorted(ids)}"

    def poisons_alone_die_of_their_workers(self) -> Iterator[str]:
        for row in (row for state in STATES for row in self._rows(state)):
            if row.dead is None or row.lane.step != ARCHIVE:
                continue
            died = row.dead.error.startswith("worker died")
            if died != (row.dead.step == "Poison"):
                yield f"{row.dead.step} {_key(row)} is a dead letter: {row.dead.error}"
            if row.dead.step == "Poison" and self._starts[_key(row)] < CRASHES_MIN:
                yield f"poison {_key(row)} ran {self._starts[_key(row)]} times: {row.dead.error}"


def _key(row: Row) -> Any:
    """What a dead letter's message was about."""
    content = codec.decode(row.payload)
    assert row.dead is not None
    match row.dead.step:
        case "Tick":
            return datetime.fromisoformat(content["scheduled_at"]).timestamp()
        case "Watch":
            return content["version"]
        case _:
            return content["key"]
