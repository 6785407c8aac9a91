"""Deaths and suspects, over every store: what counts a crash, who is granted a suspect, who hears of one.
Numbers as in iii/store/contract.py."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import (
    JOBS,
    MAIL,
    StoreKit,
    commit,
    counts,
    crash_with,
    dead,
    enqueue,
    ids,
    stats,
    take,
    take_one,
    until,
    work,
)
from worker import inbox

from iii.errors import Conflict
from iii.model import (
    SUSPECT_CRASHES,
    Ack,
    Discard,
    Enqueue,
    Lane,
    Message,
    Pause,
    Put,
    Release,
    Retry,
    Return,
    Suspects,
)
from iii.store.contract import Store

OTHER = Lane("other", "Step")


async def with_suspects(kit: StoreKit, count: int, suspects: Suspects = "none", **options: Any) -> Store:
    """A store in whose JOBS so many suspects are ready, the oldest messages there; none runs any more."""
    store = await work(kit)
    for _ in range(count):
        await enqueue(store, **options)
    for _ in range(SUSPECT_CRASHES - 1):
        store = await crash_with(kit, store, await take(store, count))
    return await crash_with(kit, store, await take(store, count), suspects)


def crashes(store: Store) -> dict[int, tuple[int, int]]:
    return {one.id: (one.crashes, one.alone) for one in store.waiting("jobs")}


# ------------------------------------------------------------------------------------ 10: what a death counts


async def test_10_each_whose_handler_ran_counts_a_crash_and_the_others_stay_unmarked(kit: StoreKit) -> None:
    store = await work(kit)
    for _ in range(4):
        await enqueue(store)
    messages = await take(store, 4)
    store = await crash_with(kit, store, messages[:2])
    assert crashes(store) == {1: (1, 0), 2: (1, 0), 3: (0, 0), 4: (0, 0)}
    assert [one.attempts for one in store.waiting("jobs")] == [0] * 4, "a crash is no failed attempt"


async def test_10_after_a_first_death_all_run_again_at_once_and_together(kit: StoreKit) -> None:
    store = await work(kit, suspects="none")
    for _ in range(32):
        await enqueue(store)
    store = await crash_with(kit, store, await take(store, 32), "none")
    again = await take(store, 32)
    assert ids(again) == [*range(1, 33)]
    assert {(one.crashes, one.alone, one.attempt) for one in again} == {(1, 0, 1)}


async def test_10_a_suspect_that_ran_does_not_take_the_others_crash_upon_itself(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "one")
    await enqueue(store)
    messages = await take(store, 2)
    assert [(one.lease.id, one.crashes) for one in messages] == [(1, 2), (2, 0)]
    store = await crash_with(kit, store, messages)
    assert crashes(store) == {1: (3, 0), 2: (1, 0)}


async def test_10_the_death_of_a_quarantine_counts_as_alone_too(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    for alone in range(1, 4):
        store = await crash_with(kit, store, await take(store), "only")
        assert crashes(store) == {1: (SUSPECT_CRASHES + alone, alone)}
    message = await take_one(store)
    assert (message.crashes, message.alone, message.attempt) == (SUSPECT_CRASHES + 3, 3, 1)


async def test_10_a_message_that_a_quarantine_had_not_begun_counts_nothing(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    await take_one(store)
    store = await crash_with(kit, store, [], "only")
    assert crashes(store) == {1: (SUSPECT_CRASHES, 0)}


async def test_10_a_handler_that_has_ended_is_no_crash_whenever_it_is_settled(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    await enqueue(store)
    ended, runs = await take(store, 2)
    store.start(ended.lease)
    store.start(runs.lease)
    store.end(ended.lease)
    store = await crash_with(kit, store, [])
    assert crashes(store) == {1: (0, 0), 2: (1, 0)}


async def test_10_the_end_of_an_attempt_that_was_settled_says_nothing_of_the_next_one(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    first = await take_one(store)
    store.start(first.lease)
    store.end(first.lease)
    await commit(store, Release(first.lease))
    again = await take_one(store)
    store = await crash_with(kit, store, [again])
    assert crashes(store) == {1: (1, 0)}


async def test_10_a_settled_start_is_no_crash(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    message = await take_one(store)
    store.start(message.lease)
    await commit(store, Release(message.lease))
    again = await take_one(store)
    assert again.lease.id == message.lease.id
    store = await crash_with(kit, store, [])
    assert crashes(store) == {1: (0, 0)}


@pytest.mark.parametrize("settles", [Retry, Release])
async def test_10_any_settlement_clears_both_counts(kit: StoreKit, settles: type[Retry | Release]) -> None:
    store = await with_suspects(kit, 1, "only")
    store = await crash_with(kit, store, await take(store), "only")
    suspect = await take_one(store)
    assert (suspect.crashes, suspect.alone) == (SUSPECT_CRASHES + 1, 1)
    settled = Retry(suspect.lease, 0, "failed") if settles is Retry else Release(suspect.lease)
    await commit(store, settled)
    assert crashes(store) == {1: (0, 0)}
    assert await take(store, 9) == [], "it is no suspect any more"
    normal = await work(kit, suspects="none")
    assert ids(await take(normal, 9)) == [1]


async def test_10_a_return_clears_neither_count(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    store = await crash_with(kit, store, await take(store), "only")
    suspect = await take_one(store)
    await commit(store, Return(suspect.lease))
    again = await take_one(store)
    assert (again.crashes, again.alone) == (suspect.crashes, suspect.alone) == (SUSPECT_CRASHES + 1, 1)


async def test_10_a_session_that_closes_leaves_both_counts(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    store = await crash_with(kit, store, await take(store), "only")
    store.start((await take_one(store)).lease)
    await store.close_session()
    assert crashes(store) == {1: (SUSPECT_CRASHES + 1, 1)}


async def test_10_a_dead_letter_that_is_sent_again_is_no_suspect(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    await commit(store, *dead(await take_one(store)))
    [letter] = store.waiting("jobs.failed")
    assert letter.dead is not None
    again = Enqueue("jobs", letter.payload, step="Work", id=letter.id)
    await commit(store, Discard(letter.topic, letter.step, "ready", letter.priority, letter.id), again)
    assert crashes(store) == {1: (0, 0)}


# ------------------------------------------------------------------------------- 17: who is granted a suspect


async def test_17_a_message_with_one_crash_is_no_suspect(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    store = await crash_with(kit, store, await take(store), "only")
    assert await take(store, 9) == []
    assert ids(await take(await work(kit, suspects="none"), 9)) == [1]


async def test_17_a_session_that_asks_for_none_gets_what_waits_behind_suspects(kit: StoreKit) -> None:
    store = await with_suspects(kit, 3)
    await enqueue(store, priority=0)
    assert ids(await take(store, 9)) == [4]
    await store.credit({JOBS: 9})
    assert await enqueue(store) == [5]
    assert ids(await inbox(store).all(1)) == [5]
    assert counts(store) == (3, 0, 0, 2)


async def test_17_a_quarantine_is_granted_suspects_alone_and_one_at_a_time(kit: StoreKit) -> None:
    store = await with_suspects(kit, 3, "only")
    await enqueue(store)
    [first] = await take(store, 9)
    assert first.lease.id == 1
    await store.credit({JOBS: 9})
    assert await take(store, 9) == []
    await store.credit({JOBS: 9})
    await commit(store, Ack(first.lease))
    [second] = await inbox(store).all(1)
    assert second.lease.id == 2
    await commit(store, Retry(second.lease, 0, "failed"))
    [third] = await inbox(store).all(1)
    assert third.lease.id == 3
    await commit(store, Ack(third.lease), Put("ns", "k", b"1"))
    await store.credit({})
    assert len(inbox(store)) == 0, "what is left is not suspect"
    assert counts(store) == (2, 0, 0, 0)


async def test_17_a_quarantine_has_one_message_over_all_its_lanes(kit: StoreKit) -> None:
    lanes = (JOBS, OTHER)
    store = await work(kit, *lanes)
    await enqueue(store, topic="other")
    await enqueue(store)
    for suspects in ("one", "only"):
        messages: list[Message] = []
        for lane in lanes:
            messages += await take(store, 1, lane)
        for message in messages:
            store.start(message.lease)
        await kit.kill(store)
        store = await work(kit, *lanes, suspects=suspects)  # type: ignore[arg-type]
    box = inbox(store)
    await store.credit({JOBS: 5, OTHER: 5})
    [first] = box.take()
    assert first.lease.id == 1, "the oldest of all"
    await commit(store, Ack(first.lease))
    assert ids(await box.all(1)) == [2]


async def test_17_a_session_that_asks_for_one_runs_it_beside_other_work(kit: StoreKit) -> None:
    store = await with_suspects(kit, 2, "one")
    await enqueue(store)
    first = await take(store, 9)
    assert [(message.lease.id, message.crashes) for message in first] == [(1, 2), (3, 0)]
    assert await take(store, 9) == []
    await commit(store, Ack(first[1].lease))
    assert await take(store, 9) == []
    peer = await work(kit)
    assert ids(await take(peer, 9)) == [2], "one each"
    await commit(store, Ack(first[0].lease))
    assert await take(store, 9) == []


async def test_17_a_suspect_that_was_returned_lets_the_session_run_another(kit: StoreKit) -> None:
    store = await with_suspects(kit, 2, "only")
    [first] = await take(store, 9)
    peer = await work(kit, suspects="only")
    [second] = await take(peer, 9)
    await commit(store, Return(first.lease))
    assert await take(peer, 9) == [], "it runs one already"
    await commit(peer, Return(second.lease))
    assert ids(await take(peer, 9)) == ids([first])


async def test_17_a_suspect_keeps_its_place_at_the_head_of_its_group(kit: StoreKit) -> None:
    store = await work(kit)
    for _ in range(3):
        await enqueue(store, group="g")
    for suspects in ("one", "none"):
        store = await crash_with(kit, store, await take(store), suspects)  # type: ignore[arg-type]
    assert await take(store, 9) == [], "the group's head is a suspect"
    quarantine = await work(kit, suspects="only")
    [head] = await take(quarantine, 9)
    assert head.lease.id == 1
    await commit(quarantine, Ack(head.lease))
    assert ids(await take(store, 9)) == [2]


async def test_17_a_cap_counts_what_the_quarantine_runs(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1)
    await enqueue(store)
    await store.close_session()
    store = await work(kit, suspects="none", max_in_flight=1)
    quarantine = await work(kit, suspects="only")
    [suspect] = await take(quarantine)
    assert await take(store, 9) == []
    await commit(quarantine, Ack(suspect.lease))
    assert ids(await take(store, 9)) == [2]


async def test_17_a_lane_at_its_cap_leaves_a_place_to_the_quarantine(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1)
    for _ in range(6):
        await enqueue(store)
    await store.close_session()
    store = await work(kit, suspects="none", max_in_flight=2)
    box = inbox(store)
    await store.credit({JOBS: 9})
    first, second = await box.all(2)
    quarantine = await work(kit, suspects="only", max_in_flight=2)
    suspects = inbox(quarantine)
    await quarantine.credit({JOBS: 9})
    await commit(store, Ack(first.lease))
    [suspect] = await suspects.all(1)
    await commit(store, Ack(second.lease))
    [third] = await box.all(1)
    assert (suspect.crashes, third.crashes, stats(store).leased) == (SUSPECT_CRASHES, 0, 2)
    await commit(quarantine, Ack(suspect.lease))
    assert len(await box.all(1)) == 1 and stats(store).leased == 2


async def test_17_large_and_discarded_suspects_leave_nothing_behind(kit: StoreKit) -> None:
    store = await with_suspects(kit, 3, "only", payload=b"x" * 5000)
    await commit(store, Discard(*JOBS, "ready", 128, 1))
    [second] = await take(store, 9)
    assert (second.lease.id, second.payload) == (2, b"x" * 5000)
    await commit(store, Ack(second.lease))
    assert ids(await take(store, 9)) == [3]
    assert counts(store) == (0, 0, 0, 1)


async def test_17_a_refused_txn_leaves_suspects_as_they_were(kit: StoreKit) -> None:
    store = await with_suspects(kit, 2, "only")
    [suspect] = await take(store)
    with pytest.raises(Conflict):
        await commit(store, Return(suspect.lease), Put("ns", "k", b"1", if_version=7))
    with pytest.raises(Conflict):
        await commit(store, Discard(*JOBS, "ready", 128, 2), Put("ns", "k", b"1", if_version=7))
    assert store.verify() == []
    await commit(store, Ack(suspect.lease))
    assert ids(await take(store, 9)) == [2]


async def test_17_a_quarantine_that_was_taken_for_dead_goes_on_as_one(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1, "only")
    peer = await work(kit, suspects="none")
    suspect = await take_one(store)
    store.start(suspect.lease)
    await enqueue(store)
    session = store.session
    await kit.bury(store, peer)
    await commit(store, Put("ns", "k", b"1"))
    await until(lambda: store.session not in (0, session), "a new session")
    again = await take(store, 9)
    assert [(one.lease.id, one.crashes, one.alone) for one in again] == [(1, SUSPECT_CRASHES + 1, 1)]


# ----------------------------------------------------------------------------------------- 16: no subscriber


async def test_16_a_quarantine_subscribes_to_nothing_sets_nothing_and_adopts_nothing(kit: StoreKit) -> None:
    tool = await kit.make()
    await enqueue(tool)
    quarantine = await work(kit, JOBS, suspects="only", max_depth=1)
    assert counts(tool, Lane("jobs", "")) == (1, 0, 0, 0)
    store = await work(kit, MAIL, suspects="none")
    assert counts(tool, MAIL) == (1, 0, 0, 0)
    assert await enqueue(tool) == [2], "one copy"
    assert stats(tool, MAIL).served
    assert {row.id: row.suspects for row in tool.sessions()} == {
        quarantine.session: "only",
        store.session: "none",
    }
    await kit.close(store)
    assert stats(tool, MAIL).served, "the quarantine alone is nobody"


# ------------------------------------------------------------------------ who hears that a suspect is ready


class Heard:
    def __init__(self, store: Store) -> None:
        self.told: list[bool] = []
        store.on_suspects(self.told.append)

    @property
    def now(self) -> bool:
        return bool(self.told) and self.told[-1]


async def test_a_session_hears_when_suspects_are_ready_and_when_none_is_left(kit: StoreKit) -> None:
    store = await work(kit, suspects="none")
    heard = Heard(store)
    for _ in range(2):
        await enqueue(store)
    for _ in range(SUSPECT_CRASHES):
        dying = await work(kit, suspects="none")
        assert not heard.told
        for message in await take(dying, 2):
            dying.start(message.lease)
        await kit.kill(dying)
    await until(lambda: heard.now, "suspects are ready")
    quarantine = await work(kit, suspects="only")
    for _ in range(2):
        await commit(quarantine, Ack((await take_one(quarantine)).lease))
    await until(lambda: not heard.now, "none is left")
    assert heard.told == [True, False]


async def test_who_opens_a_store_with_suspects_hears_of_them(kit: StoreKit) -> None:
    await kit.close(await with_suspects(kit, 1))
    store = await kit.make()
    heard = Heard(store)
    await store.open_session([], "none")
    assert not heard.told, "nobody serves it"
    await store.close_session()
    await work(kit, suspects="none")
    store = await kit.make()
    heard = Heard(store)
    await store.open_session([], "none")
    await until(lambda: heard.told == [True], "a peer serves it")


async def test_a_suspect_in_a_paused_lane_is_none_that_a_quarantine_is_needed_for(kit: StoreKit) -> None:
    store = await with_suspects(kit, 1)
    heard = Heard(store)
    await commit(store, Pause(*JOBS, True))
    await until(lambda: not heard.now)
    await commit(store, Pause(*JOBS, False))
    await until(lambda: heard.now)
