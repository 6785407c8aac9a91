"""Run records are bounded by number, age and size; messages say when they could run."""

from __future__ import annotations

from typing import Literal

import pytest
from store_kit import StoreKit, claim, commit, enqueue, until, work

from iii.model import Record, Retry
from iii.store.contract import Limits


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
    (now,) = await claim(store, 5)
    await commit(store, Retry(now.lease, 7_000, "no"))
    due = kit.clock.wall_ms() + 5_000, kit.clock.wall_ms() + 7_000
    kit.clock.advance(8_000)
    assert now.due_ms == 0
    assert {each.payload: each.due_ms for each in await claim(store, 5)} == {b"later": due[0], b"now": due[1]}
