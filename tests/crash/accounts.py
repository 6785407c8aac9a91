"""The reckoning after a run: ledger, journal and store side by side. What does not fit comes as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import journal_runs
import orjson
from client_ledger import Work
from crash_kit import values
from journal_runs import Run

from iii.model import ARCHIVE
from iii.store.contract import Store

IN_FLIGHT_MAX = 3
DOOMED_ATTEMPTS = 2
HOPS = [
    ("first", "First"),
    ("second", "Second"),
    ("ordered", "Order"),
    ("ordered.again", "Order"),
    ("capped", "Capped"),
    ("$state/Notice", "Notice"),
]
"""Each piece of work passes each of these lanes once."""


class Findings(NamedTuple):
    """Sentences, by what is broken."""

    lost: list[str]
    doubled: list[str]
    out_of_order: list[str]
    over_the_cap: list[str]
    counts: list[str]

    def all(self) -> list[str]:
        return [each for kind in self for each in kind]


class Evidence(NamedTuple):
    """What a run left behind. `unsettled`: some messages may still wait."""

    ledger: Mapping[str, Work]
    work: Mapping[str, Any]
    effects: Mapping[str, dict[str, int]]
    totals: Mapping[str, int]
    ordered: Mapping[str, list[int]]
    ordered_again: Mapping[str, list[int]]
    capped: Mapping[str, int]
    once: Mapping[str, int]
    doomed: Mapping[str, int]
    ticks: Mapping[str, int]
    letters: Counter[str]
    done: Mapping[tuple[str, str], int]
    left: Mapping[tuple[str, str], int]
    broken: Sequence[str]
    runs: Sequence[Run]


def gather(store: Store, ledger: Mapping[str, Work], journal: Sequence[Run]) -> Evidence:
    lanes = {(lane.topic, lane.step): lane for lane in store.stats()}
    names = ("work", "effects", "totals", "ordered", "ordered.again", "capped", "once", "doomed", "ticks")
    state = [values(store, name) for name in names]
    letters = store.waiting("doomed.failed", step=ARCHIVE, limit=1_000_000)
    return Evidence(
        ledger,
        *state,
        letters=Counter(_id_of(letter.payload) for letter in letters),
        done={name: lane.done for name, lane in lanes.items()},
        left={name: lane.ready + lane.later + lane.behind + lane.leased for name, lane in lanes.items()},
        broken=store.verify(),
        runs=journal,
    )


def _id_of(payload: bytes) -> str:
    return str(orjson.loads(payload)["id"])


def audit(evidence: Evidence) -> Findings:
    return Findings(
        list(_lost(evidence)),
        list(_doubled(evidence)),
        list(_out_of_order(evidence)),
        list(_over_the_cap(evidence)),
        list(_counts(evidence)),
    )


def _expected(number: int) -> dict[str, int]:
    once = {"accepted": 1, "first": 1, "second": 1, "noticed": 1}
    return {"failed": 1, **once} if number % 10 == 0 else once


def _number(id: str) -> int:
    return int(id.rpartition("-")[2])


def _keys(evidence: Evidence) -> set[str]:
    """The unique keys of `once` that somebody used."""
    split = (id.rpartition("-") for id in evidence.work)
    return {f"{client}/{int(number) // 5}" for client, _, number in split}


def _lost(evidence: Evidence) -> Iterator[str]:
    """Everything acknowledged is there, and what is there is there whole."""
    for id, asked in evidence.ledger.items():
        if asked.end == "accepted" and id not in evidence.work:
            yield f"{id} was acknowledged and is not there"
        if asked.end == "refused" and id in evidence.work:
            yield f"{id} was refused ({asked.told}) and is there"
    for id, record in evidence.work.items():
        if id not in evidence.ledger:
            yield f"{id} is there and nobody asked for it"
        if record != {"status": "done"}:
            yield f"{id} was left at {record}"
        effects = evidence.effects.get(id, {})
        for name, count in _expected(_number(id)).items():
            if effects.get(name, 0) < count:
                yield f"{id}: effect {name} is missing"
        if id not in evidence.capped:
            yield f"{id}: never passed capped"
        if _number(id) % 20 == 19 and (
            evidence.doomed.get(id, 0) < DOOMED_ATTEMPTS or not evidence.letters[id]
        ):
            yield f"{id}: {evidence.doomed.get(id, 0)} attempts, {evidence.letters[id]} dead letters"
    for key in _keys(evidence) - evidence.once.keys():
        yield f"the unique key {key} never ran"
    for name in ("ordered", "ordered_again"):
        listed = {f"{client}-{n}" for client, numbers in getattr(evidence, name).items() for n in numbers}
        for id in evidence.work.keys() - listed:
            yield f"{id} is missing in {name}"
    if evidence.totals.get("first", 0) < len(evidence.work):
        yield f"the total of first is {evidence.totals.get('first')}, {len(evidence.work)} passed"


def _doubled(evidence: Evidence) -> Iterator[str]:
    """No effect happened more often than it should, and none of what is not there."""
    for id, effects in evidence.effects.items():
        expected = _expected(_number(id)) if id in evidence.work else {}
        for name, count in effects.items():
            if count > expected.get(name, 0):
                yield f"{id}: effect {name} happened {count} times"
    counted = [
        ("capped", evidence.capped, 1),
        ("unique key", evidence.once, 1),
        ("tick", evidence.ticks, 1),
        ("doomed", evidence.doomed, DOOMED_ATTEMPTS),
        ("dead letter of", evidence.letters, 1),
    ]
    for what, found, most in counted:
        for name, count in found.items():
            if count > most:
                yield f"{what} {name} happened {count} times, at most {most}"
    for name in ("ordered", "ordered_again"):
        for client, numbers in getattr(evidence, name).items():
            for number, count in Counter(numbers).items():
                if count > 1:
                    yield f"{client}-{number} stands {count} times in {name}"
    if evidence.totals.get("first", 0) > len(evidence.work):
        yield f"the total of first is {evidence.totals.get('first')}, {len(evidence.work)} passed"
    for before, after in journal_runs.together(evidence.runs, "message"):
        yield f"message {after.message} ran twice at a time: {before} and {after}"


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """Nothing stands before what was acknowledged earlier; the second hop follows the first."""
    for client, numbers in evidence.ordered.items():
        for index, number in enumerate(numbers):
            late = [n for n in numbers[index + 1 :] if n < number and _acknowledged(evidence, client, n)]
            for each in late:
                yield f"{client}-{each} was acknowledged before {client}-{number} and ran after it"
        if evidence.ordered_again.get(client) != numbers:
            yield f"{client}: {evidence.ordered_again.get(client)} in the second hop, {numbers} in the first"
    for topic in ("ordered", "ordered.again"):
        of_topic = [run for run in evidence.runs if run.topic == topic]
        for before, after in journal_runs.together(of_topic, "client"):
            yield f"group {after.client} of {topic} ran two at a time: {before} and {after}"


def _acknowledged(evidence: Evidence, client: str, number: int) -> bool:
    asked = evidence.ledger.get(f"{client}-{number}")
    return asked is not None and asked.end == "accepted"


def _over_the_cap(evidence: Evidence) -> Iterator[str]:
    most = in_flight(evidence.runs)
    if most > IN_FLIGHT_MAX:
        yield f"{most} messages of capped ran at a time, at most {IN_FLIGHT_MAX}"


def in_flight(journal: Iterable[Run]) -> int:
    return journal_runs.most_at_once(run for run in journal if run.topic == "capped")


def _counts(evidence: Evidence) -> Iterator[str]:
    """Counters equal a recount, those of the store and those of what ran."""
    yield from evidence.broken
    for name in HOPS:
        if evidence.done.get(name) != len(evidence.work):
            yield f"lane {name} counts {evidence.done.get(name)} done, {len(evidence.work)} passed"
    for (topic, step), count in evidence.left.items():
        if count and step not in ("", ARCHIVE) and not topic.startswith("$cron/"):
            yield f"{count} messages were left in {topic} ({step})"
