"""The reckoning of the kill loop finds what it is there to find: each broken promise, in forged evidence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from accounts import HOPS, Evidence, Findings, audit
from client_ledger import Line, Work, fold
from journal_runs import NEVER_NS, Death, Run, Stop, cut, most_at_once, parse, recoveries_ms, share, together

IDS = [f"c0-{number}" for number in range(20)]


def evidence(**changed: Any) -> Evidence:
    """A client's twenty pieces of work, all of them done, the last of them with a dead letter."""
    whole = Evidence(
        ledger={id: Work("c0", number, number, "accepted", number) for number, id in enumerate(IDS)},
        work={id: {"status": "done"} for id in IDS},
        effects={id: effects(id) for id in IDS},
        totals={"first": 20},
        ordered={"c0": list(range(20))},
        ordered_again={"c0": list(range(20))},
        capped=dict.fromkeys(IDS, 1),
        once={f"c0/{part}": 1 for part in range(4)},
        doomed={"c0-19": 2},
        ticks={"12:00:00": 1},
        letters=Counter({"c0-19": 1}),
        done=dict.fromkeys(HOPS, 20),
        left=dict.fromkeys(HOPS, 0),
        broken=[],
        runs=[],
    )
    return whole._replace(**changed)


def effects(id: str) -> dict[str, int]:
    once = {"accepted": 1, "first": 1, "second": 1, "noticed": 1}
    return once | ({"failed": 1} if id.endswith("0") else {})


def run(start: int, stop: int, *, message: int = 1, client: str = "c0", topic: str = "capped") -> Run:
    return Run(topic, message, 1, client, 100, start, stop)


def test_a_whole_run_gives_no_finding() -> None:
    assert audit(evidence()) == Findings([], [], [], [], [])


def without(field: str, key: str) -> dict[str, Any]:
    return {field: {name: value for name, value in getattr(evidence(), field).items() if name != key}}


@pytest.mark.parametrize(
    "changed",
    [
        without("work", "c0-3"),
        {"work": {id: {"status": "accepted" if id == "c0-3" else "done"} for id in IDS}},
        {"effects": {id: effects(id) | ({"noticed": 0} if id == "c0-3" else {}) for id in IDS}},
        without("capped", "c0-3"),
        without("once", "c0/1"),
        {"ordered": {"c0": [n for n in range(20) if n != 3]}},
        {"doomed": {"c0-19": 1}},
        {"letters": Counter[str]()},
        {"totals": {"first": 19}},
        {"ledger": {**evidence().ledger, "c0-3": Work("c0", 3, 3, "refused", 3, "503")}},
    ],
)
def test_what_is_missing_is_lost(changed: dict[str, Any]) -> None:
    assert audit(evidence(**changed)).lost


@pytest.mark.parametrize(
    "changed",
    [
        {"effects": {id: effects(id) | ({"first": 2} if id == "c0-3" else {}) for id in IDS}},
        {"effects": {id: effects(id) | ({"failed": 1} if id == "c0-3" else {}) for id in IDS}},
        {"totals": {"first": 21}},
        {"capped": {**evidence().capped, "c0-3": 2}},
        {"once": {**evidence().once, "c0/1": 2}},
        {"ticks": {"12:00:00": 2}},
        {"letters": Counter({"c0-19": 2})},
        {"ordered": {"c0": [0, *range(20)]}, "ordered_again": {"c0": [0, *range(20)]}},
        {"runs": [run(0, 10), run(5, 15)]},
    ],
)
def test_what_happened_twice_is_doubled(changed: dict[str, Any]) -> None:
    assert audit(evidence(**changed)).doubled


def test_a_group_is_in_order_or_it_is_found() -> None:
    swapped = [1, 0, *range(2, 20)]
    assert audit(evidence(ordered={"c0": swapped}, ordered_again={"c0": swapped})).out_of_order
    assert audit(evidence(ordered_again={"c0": swapped})).out_of_order
    two_at_a_time = [run(0, 10, message=1, topic="ordered"), run(5, 15, message=2, topic="ordered")]
    assert audit(evidence(runs=two_at_a_time)).out_of_order


def test_what_was_not_acknowledged_may_land_late() -> None:
    swapped = [1, 0, *range(2, 20)]
    unknown = {**evidence().ledger, "c0-0": Work("c0", 0, 0, "unknown", 0)}
    found = audit(evidence(ledger=unknown, ordered={"c0": swapped}, ordered_again={"c0": swapped}))
    assert found.all() == []


def test_more_than_the_cap_at_a_time_is_found() -> None:
    three = [run(0, 10, message=message, client=f"c{message}") for message in range(3)]
    after = run(10, 20, message=3, client="c3")
    assert audit(evidence(runs=[*three, after])).all() == []
    assert audit(evidence(runs=[*three, after._replace(start_ns=9)])).over_the_cap


def test_counts_that_differ_from_a_recount_are_found() -> None:
    assert audit(evidence(broken=["lane 1 counts 3"])).counts
    assert audit(evidence(done=dict.fromkeys(HOPS, 19))).counts
    assert audit(evidence(left={("first", "First"): 1})).counts


def test_work_asked_for_again_keeps_its_last_answer() -> None:
    events = [("asked", 1), ("unknown", 2), ("accepted", 3)]
    lines = [Line("c0-0", "c0", 0, event, at) for event, at in events]  # type: ignore[arg-type]
    assert fold(lines) == {"c0-0": Work("c0", 0, 1, "accepted", 3)}


# ------------------------------------------------------------------------------------------------- runs


def test_the_journal_pairs_each_start_with_its_stop() -> None:
    lines = ["start t 7 1 c0 100 5", "start t 8 1 c0 100 6", "stop t 7 1 c0 100 9"]
    assert parse(lines) == [Run("t", 7, 1, "c0", 100, 5, 9), Run("t", 8, 1, "c0", 100, 6, NEVER_NS)]


def death(at_ns: int, gone_ns: int, pid: int = 100, heirs: tuple[int, ...] = ()) -> Death:
    return Death(pid, at_ns, gone_ns, heirs)


def test_a_run_ends_with_its_process_and_with_a_stop_that_costs_it_its_lease() -> None:
    one = run(10, NEVER_NS)
    assert cut([one], [death(50, 60)], []) == [run(10, 50)]
    assert cut([one], [death(8, 12)], []) == [run(10, 10)], "it began after the signal was on its way"
    assert cut([one], [death(5, 6), death(90, 91)], []) == [run(10, 90)], "the pid came again"
    assert cut([one], [death(50, 60, pid=101)], []) == [one]
    long, short = Stop(100, 20, 11_000_000_000), Stop(100, 20, 1_000_000_000)
    assert cut([one], [], [long]) == [run(10, 20)]
    assert cut([one], [], [short]) == [one]


def test_at_once_are_runs_that_share_a_moment() -> None:
    assert most_at_once([run(0, 5), run(5, 9), run(8, 12)]) == 2
    assert most_at_once([]) == 0
    assert together([run(0, 5), run(5, 9)], "message") == []
    assert together([run(0, 20), run(5, 6), run(10, 12)], "message") == [
        (run(0, 20), run(5, 6)),
        (run(0, 20), run(10, 12)),
    ]


def test_a_recovery_lasts_from_the_death_to_the_same_attempt_elsewhere() -> None:
    dead, deaths = run(0, NEVER_NS, message=7), [death(1_000_000, 1_100_000, heirs=(101, 102))]
    heir = dead._replace(pid=101, start_ns=3_000_000)
    assert recoveries_ms([dead, heir], deaths, []) == [2.0]
    assert recoveries_ms([dead, heir._replace(attempt=2)], deaths, []) == []
    assert share([3.0, 1.0, 2.0], 0.5) == 2.0


def test_a_recovery_counts_only_where_an_heir_went_on() -> None:
    runs = [run(0, NEVER_NS, message=7), run(9_000_000, NEVER_NS, message=7)._replace(pid=103)]
    first, second = death(1_000_000, 1_100_000, heirs=(101, 102)), death(2_000_000, 2_100_000, pid=101)
    stop = Stop(102, 3_000_000, 4_000_000)
    assert recoveries_ms(runs, [first], [stop]) == [8.0]
    assert recoveries_ms(runs, [first, second], []) == [8.0]
    assert recoveries_ms(runs, [first, second], [stop]) == []
    assert recoveries_ms(runs, [first._replace(heirs=())], []) == []
