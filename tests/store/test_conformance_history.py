"""Run records are bounded by number, age and size, failures apart; messages say when they could run."""

from __future__ import annotations

import json
from collections import Counter
from typing import Literal

import pytest
from store_kit import StoreKit, commit, enqueue, take, until, work

from iii.errors import Conflict
from iii.model import Mark, Record, Retry
from iii.store.audit import Actor
from iii.store.contract import Held, Limits, Store


async def test_run_records_go_when_they_are_old_although_nothing_is_written(kit: StoreKit) -> None:
    store = await work(kit, limits=Limits(runs_age_ms_max=64_000))
    await commit(store, Record("run", b"old"), Record("audit", b"stays"))
    kit.clock.advance(40_000)
    await commit(store, Record("run", b"new"))
    kit.clock.advance(25_500)
    await until(lambda: [content for _, content in store.records("run")] == [b"new"], "the old one goes")
    kit.clock.advance(60_000)
    await until(lambda: store.records("run") == [], "the new one goes")
    assert [content for _, content in store.records("audit")] == [b"stays"]


@pytest.mark.parametrize("kind", ["run", "audit"])
async def test_records_are_together_smaller_than_their_limit(
    kit: StoreKit, kind: Literal["run", "audit"]
) -> None:
    store = await kit.make(Limits(runs_bytes_max=1 << 20, audits_bytes_max=1 << 20))
    for n in range(0, 300, 10):
        await commit(store, *(Record(kind, b"%08d" % i + bytes(8_000)) for i in range(n, n + 10)))
    kept = [int(content[:8]) for _, content in store.records(kind, limit=1_000)]
    assert kept == list(range(299, 299 - len(kept), -1)) and 60 <= len(kept) <= 130


async def test_a_delayed_or_retried_message_says_when_it_could_run(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"now")
    await enqueue(store, b"later", delay_ms=5_000)
    (now,) = await take(store, 5)
    await commit(store, Retry(now.lease, 7_000, "no"))
    due = kit.clock.wall_ms() + 5_000, kit.clock.wall_ms() + 7_000
    kit.clock.advance(8_000)
    assert now.due_ms == 0
    assert {each.payload: each.due_ms for each in await take(store, 5)} == {b"later": due[0], b"now": due[1]}


def run_row(step: str, outcome: str, n: int, size: int = 0) -> Record:
    return Record("run", json.dumps({"step": step, "outcome": outcome, "n": n, "x": "x" * size}).encode())


def kept(store: Store, kind: Literal["run", "audit"] = "run") -> Counter[str]:
    rows = [json.loads(content) for _, content in store.records(kind, limit=100_000)]
    return Counter(row["what"] if kind == "audit" else f"{row['step']} {row['outcome']}" for row in rows)


def numbers(store: Store, step: str) -> list[int]:
    rows = [json.loads(content) for _, content in store.records("run", limit=100_000)]
    return [row["n"] for row in rows if row["step"] == step]


async def test_23_successes_take_no_failures_place_nor_failures_theirs(kit: StoreKit) -> None:
    store = await kit.make(Limits(runs_max=20, runs_failed_max=5))
    await commit(store, *(run_row("A", outcome, n) for n, outcome in enumerate(["failed", "dead", "failed"])))
    for n in range(30):
        await commit(store, *(run_row("A", outcome, n) for outcome in ("done", "cancelled", "snoozed")))
    assert kept(store).total() == 23 and kept(store)["A failed"] == 2 and kept(store)["A dead"] == 1
    assert store.held() == Held(runs=20, failed=3)
    for n in range(50):
        await commit(store, run_row("A", "failed", n))
    assert numbers(store, "A")[:5] == [49, 48, 47, 46, 45] and store.held() == Held(runs=20, failed=5)
    assert store.verify() == []


async def test_23_a_flood_of_one_steps_failures_takes_the_place_of_its_own_alone(kit: StoreKit) -> None:
    store = await kit.make(Limits(runs_max=5, runs_failed_max=100))
    await commit(store, *(run_row("Rare", "dead", n) for n in range(3)))
    await commit(store, *(run_row("Often", "failed", n) for n in range(60)))
    for n in range(500):
        await commit(store, run_row("Flooded", "failed", n), run_row("Flooded", "done", n))
    assert kept(store) == {"Rare dead": 3, "Often failed": 48, "Flooded failed": 49, "Flooded done": 5}
    assert numbers(store, "Often") == list(range(59, 11, -1)), "the oldest of the step with the most go"
    assert numbers(store, "Flooded")[:3] == [499, 499, 498]
    assert store.verify() == []


async def test_23_a_step_with_few_failures_keeps_them_through_a_flood_within_one_commit(
    kit: StoreKit,
) -> None:
    store = await kit.make(Limits(runs_failed_max=10))
    await commit(store, run_row("Rare", "dead", 0), *(run_row("Flooded", "failed", n) for n in range(500)))
    assert kept(store) == {"Rare dead": 1, "Flooded failed": 9} and store.verify() == []


async def test_23_bytes_of_successes_take_no_failures_place(kit: StoreKit) -> None:
    store = await kit.make(Limits(runs_bytes_max=100_000))
    await commit(store, *(run_row("A", "failed", n, 100) for n in range(100)))
    for n in range(300):
        await commit(store, run_row("B", "done", n, 3_000))
    assert kept(store)["A failed"] == 100 and 20 <= kept(store)["B done"] <= 30
    for n in range(300):
        await commit(store, run_row("C", "failed", n, 8_000))
    assert kept(store)["A failed"] == 100, "nor do those of another step's failures"
    assert kept(store)["B done"] >= 15, "which take half of the bytes at most"
    assert sum(len(content) for _, content in store.records("run", limit=1_000)) <= 100_000
    assert store.verify() == []


async def test_23_refused_logins_take_no_acts_place(kit: StoreKit) -> None:
    store = await kit.make(Limits(audits_max=10, audits_refused_max=4, audits_bytes_max=20_000))
    actor = Actor("cli ada")
    await commit(store, *(actor.did(store, "pause", topic=f"t{n}") for n in range(10)))
    for n in range(200):
        guesser = Actor(f"console 10.0.0.{n}")
        await commit(store, guesser.did(store, "login refused", wrong_tokens=1, padding="x" * 3_000))
    assert kept(store, "audit") == {"pause": 10, "login refused": 4}
    assert store.held() == Held(acts=10, refused=4) and store.verify() == []


async def test_23_what_is_kept_outlives_a_restart_and_is_the_same_for_all_processes(kit: StoreKit) -> None:
    limits = Limits(runs_max=4, runs_failed_max=6)
    first, second = await kit.make(limits), await kit.make(limits)
    for n in range(20):
        await commit(first, run_row("A", "failed", n), run_row("A", "done", n))
        await commit(second, run_row("B", "failed", n), run_row("B", "done", n))
    assert kept(first) == kept(second) == {"A failed": 3, "B failed": 3, "A done": 2, "B done": 2}
    await kit.close_all()
    third = await kit.make(limits)
    await commit(third, *(run_row("C", "failed", n) for n in range(9)))
    assert kept(third) == {"A failed": 2, "B failed": 2, "C failed": 2, "A done": 2, "B done": 2}
    assert third.held() == Held(runs=4, failed=6) and third.verify() == []


async def test_23_a_refused_txn_counts_no_record(kit: StoreKit) -> None:
    store = await kit.make(Limits(runs_failed_max=2))
    await commit(store, run_row("A", "failed", 1), run_row("A", "failed", 2))
    with pytest.raises(Conflict):
        await commit(store, run_row("B", "failed", 3), Mark("m", 1, expected=7))
    assert kept(store) == {"A failed": 2} and store.held() == Held(failed=2) and store.verify() == []


async def test_old_records_are_counted_no_more(kit: StoreKit) -> None:
    store = await work(kit, limits=Limits(runs_age_ms_max=64_000))
    await commit(store, *(run_row(step, "failed", n) for n in range(30) for step in ("A", "B")))
    kit.clock.advance(80_000)
    await until(lambda: store.records("run") == [], "they go")
    await until(lambda: store.held() == Held(), "and are counted no more")
    assert store.verify() == []
