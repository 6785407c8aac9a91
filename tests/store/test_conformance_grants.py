"""Who gets a message and when, over every store. Numbers as in iii/store/contract.py."""

from __future__ import annotations

import asyncio

import pytest
from store_kit import (
    JOBS,
    MAIL,
    NOBODY,
    StoreKit,
    commit,
    counts,
    dead,
    enqueue,
    fill,
    ids,
    leases,
    stats,
    take,
    take_one,
    until,
    work,
)
from worker import inbox, take_now

from iii.model import Ack, Discard, Enqueue, Lane, Put, Release, Retry

OTHER = Lane("other", "Step")


async def test_04_a_message_is_leased_once_over_all_sessions(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for _ in range(5):
        await enqueue(one)
    granted: list[int] = []
    for _ in range(3):
        for messages in await asyncio.gather(take(one), take(two)):
            granted += ids(messages)
    assert len(granted) == 5 == len(set(granted)) == stats(one).leased
    assert await take(one) == await take(two) == []


async def test_04_each_lease_has_a_token_of_its_own(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    tokens = []
    for _ in range(4):
        message = await take_one(store)
        tokens.append(message.lease.token)
        await commit(store, Release(message.lease))
    assert sorted(set(tokens)) == tokens, "tokens only grow"


async def test_06_messages_come_in_order_of_priority_then_age(kit: StoreKit) -> None:
    store = await work(kit)
    for priority in (64, 128, 255, 0, 128, 192, 128):
        await enqueue(store, priority=priority)
    assert ids(await take(store, 2)) == [3, 6]
    assert ids(await take(store, 9)) == [2, 5, 7, 1, 4]


async def test_06_rows_at_rest_and_rows_of_the_same_commit_keep_one_order(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, priority=10)
    held = await take(store)
    await enqueue(store, priority=10)
    await enqueue(store, priority=200)
    await commit(store, Enqueue("jobs", b"", priority=100), Retry(held[0].lease, 0, "again"))
    assert ids(await take(store, 9)) == [3, 4, 1, 2], "a retry keeps its id and priority, and so its place"


async def test_06_each_lane_keeps_its_order_also_where_leases_come_one_by_one(
    kit: StoreKit,
) -> None:
    store = await work(kit, JOBS, OTHER)
    for priority in (7, 9, 8):
        await commit(store, *(Enqueue(topic, b"", priority=priority) for topic in ("jobs", "other")))
    inbox(store)
    for level in (1, 2, 3):
        await store.credit({JOBS: level, OTHER: 3})
    assert ids(inbox(store).take(JOBS)) == [3, 5, 1]
    assert ids(inbox(store).take(OTHER)) == [4, 6, 2]


async def test_07_nothing_is_granted_before_it_is_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"late", delay_ms=100, priority=255)
    await enqueue(store, b"now")
    [now] = await take(store, 9)
    assert now.payload == b"now" and counts(store) == (0, 1, 0, 1)
    await commit(store, Retry(now.lease, 50, "again"))
    assert counts(store) == (0, 2, 0, 0)
    for wait_ms, expected in ((49, []), (1, [b"now"]), (49, []), (1, [b"late"])):
        kit.clock.advance(wait_ms)
        assert [message.payload for message in await take(store, 9)] == expected


async def test_07_what_falls_due_is_granted_then_where_there_is_credit(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 1})
    await enqueue(store, b"late", delay_ms=100)
    kit.clock.advance(99)
    await store.credit({})
    assert not box
    kit.clock.advance(1)
    assert [message.payload for message in await box.all(1)] == [b"late"]


async def test_07_turning_the_wall_clock_makes_nothing_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, delay_ms=1000)
    await enqueue(store, topic="unheard")
    kit.clock.set_wall(kit.clock.wall_ms() + 365 * 24 * 3600 * 1000)
    assert await take(store) == []
    await enqueue(store, topic="elsewhere")
    assert counts(store, Lane("unheard", "")) == (1, 0, 0, 0)


async def test_08_a_group_runs_in_commit_order_one_at_a_time(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for n in range(3):
        await enqueue(one, b"%d" % n, group="g", priority=100 + n)
    await enqueue(two, b"other", group="h")
    first, other = await take(one, 9)
    assert {first.payload, other.payload} == {b"0", b"other"} and await take(two, 9) == []
    if first.payload == b"other":
        first = other
    assert first.group == "g" and counts(one) == (0, 0, 2, 2)
    await commit(one, Ack(first.lease))
    second = await take_one(two)
    assert second.payload == b"1" and await take(one, 9) == []
    await commit(two, Ack(second.lease))
    assert (await take_one(one)).payload == b"2"


async def test_08_retry_delay_and_release_of_the_head_hold_its_group(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"head", group="g", delay_ms=10)
    await enqueue(store, b"next", group="g", priority=255)
    assert await take(store, 9) == [] and counts(store) == (0, 1, 1, 0)
    kit.clock.advance(10)
    head = await take_one(store)
    await commit(store, Retry(head.lease, 10, "once more"))
    assert await take(store, 9) == []
    kit.clock.advance(10)
    head = await take_one(store)
    await commit(store, Release(head.lease, 10))
    assert await take(store, 9) == []
    kit.clock.advance(10)
    [head] = await take(store, 9)
    assert head.payload == b"head"
    await commit(store, *dead(head))
    assert (await take_one(store)).payload == b"next", "a dead letter lets the next go"


async def test_08_the_next_of_a_group_is_leased_by_the_commit_in_which_its_head_leaves(kit: StoreKit) -> None:
    store = await work(kit)
    await commit(store, Enqueue("jobs", b"0", group="g"), Enqueue("jobs", b"1", group="g"))
    head = await take_one(store)
    await store.credit({JOBS: 2})
    assert counts(store) == (0, 0, 1, 1)
    await commit(store, Ack(head.lease))
    assert counts(store) == (0, 0, 0, 1)
    assert [message.payload for message in await inbox(store).all(1)] == [b"1"]


async def test_08_a_delayed_message_behind_its_head_still_waits_until_it_is_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"head", group="g")
    await enqueue(store, b"late", group="g", delay_ms=100)
    await enqueue(store, b"last", group="g")
    head = await take_one(store)
    kit.clock.advance(40)
    await commit(store, Ack(head.lease))
    assert await take(store, 9) == [] and counts(store) == (0, 1, 1, 0)
    kit.clock.advance(60)
    assert [message.payload for message in await take(store, 9)] == [b"late"]


async def test_08_discarding_the_head_lets_the_next_go_and_one_behind_just_leaves(kit: StoreKit) -> None:
    store = await work(kit)
    for n in range(4):
        await enqueue(store, b"%d" % n, group="g")
    await commit(store, Discard("jobs", "Work", "behind", 128, 2))
    await commit(store, Discard("jobs", "Work", "ready", 128, 1))
    assert counts(store) == (1, 0, 1, 0)
    assert [message.payload for message in await take(store, 9)] == [b"2"]


async def test_08_groups_are_per_lane_and_their_names_may_be_long(kit: StoreKit) -> None:
    store = await work(kit, JOBS, MAIL)
    for n in range(2):
        await enqueue(store, b"%d" % n, group="é" * 190)
    messages = await take_now(store, {JOBS: 9, MAIL: 9})
    assert [(message.step, message.payload) for message in messages] == [("Work", b"0"), ("Mail", b"0")]


# -- at once, where there is credit


async def test_25_what_is_enqueued_is_leased_by_that_commit(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    numbers = await fill(store, 3)
    assert counts(store) == (1, 0, 0, 2)
    assert ids(await box.all(2)) == numbers[:2]
    assert ids(await take(store)) == numbers[2:]


async def test_25_what_a_peer_enqueues_is_granted_to_who_has_credit(kit: StoreKit) -> None:
    worker, web = await work(kit), await kit.make()
    box = inbox(worker)
    await worker.credit({JOBS: 1})
    [number] = await enqueue(web, b"hello")
    [message] = await box.all(1)
    assert (message.lease.id, message.payload, message.attempt) == (number, b"hello", 1)


@pytest.mark.parametrize("settle", [Retry, Release])
async def test_25_what_comes_back_without_a_delay_is_leased_again_by_that_commit(
    kit: StoreKit, settle: type[Retry | Release]
) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 1})
    await enqueue(store)
    for _ in range(3):
        [message] = await box.all(1)
        await commit(store, Retry(message.lease, 0, "no") if settle is Retry else Release(message.lease))
        assert counts(store) == (0, 0, 0, 1)
    [again] = await box.all(1)
    assert again.lease.token > message.lease.token
    assert again.attempt == (4 if settle is Retry else 1)


async def test_25_what_a_settlement_makes_room_for_is_leased_by_that_commit(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    await fill(store, 5)
    held = await box.all(2)
    await commit(store, Ack(held[0].lease), Retry(held[1].lease, 50, "later"))
    assert counts(store) == (1, 1, 0, 2) and len(await box.all(2)) == 2


async def test_25_what_is_due_by_now_is_leased_by_the_next_commit(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await enqueue(store, b"late", delay_ms=50)
    await store.credit({JOBS: 1})
    kit.clock.advance(50)
    await commit(store, Put("ns", "k", b"1"))
    assert counts(store) == (0, 0, 0, 1) and len(await box.all(1)) == 1


async def test_25_what_a_step_adopts_is_granted_at_once(kit: StoreKit) -> None:
    one = await work(kit, OTHER)
    box = inbox(one)
    await one.credit({JOBS: 2})
    await enqueue(one, b"waits for its first step")
    assert counts(one, NOBODY) == (1, 0, 0, 0) and not box
    await work(kit, JOBS)
    [message] = await box.all(1)
    assert (message.topic, message.step) == JOBS


async def test_25_two_sessions_with_credit_get_each_message_once(kit: StoreKit) -> None:
    stores = [await work(kit), await work(kit), await kit.make()]
    boxes = [inbox(store) for store in stores[:2]]
    for store in stores[:2]:
        await store.credit({JOBS: 3})
    numbers = await fill(stores[2], 20)
    granted: list[int] = []
    while len(granted) < 20:
        await until(lambda: any(boxes), "a session is granted some")
        for store, box in zip(stores, boxes, strict=False):
            if held := box.take():
                assert len(held) <= 3
                granted += ids(held)
                await commit(store, *(Ack(lease) for lease in leases(held)))
    assert sorted(granted) == numbers and counts(stores[2]) == (0, 0, 0, 0)


async def test_25_what_one_session_has_no_room_for_goes_to_the_other(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    inbox(one)
    box = inbox(two)
    await one.credit({JOBS: 1})
    await two.credit({JOBS: 1})
    await fill(one, 2)
    assert len(await box.all(1)) == 1 and counts(one) == (0, 0, 0, 2)


async def test_25_what_a_session_lets_go_is_granted_to_its_peer(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    box = inbox(two)
    numbers = await fill(one, 2)
    await take(one, 2)
    await two.credit({JOBS: 2})
    await one.close_session()
    assert ids(await box.all(2)) == numbers


async def test_13_credit_of_all_sessions_stays_within_max_in_flight(kit: StoreKit) -> None:
    one, two = await work(kit, max_in_flight=3), await work(kit, max_in_flight=3)
    boxes = inbox(one), inbox(two)
    for store in (one, two):
        await store.credit({JOBS: 3})
    numbers, granted = await fill(one, 9), list[int]()
    for rest in range(9, 0, -1):
        await until(lambda rest=rest: stats(one).leased == min(3, rest), "as many as the cap allows")
        assert counts(one) == (max(0, rest - 3), 0, 0, min(3, rest))
        await until(lambda: any(boxes), "one is delivered")
        store, box = (one, boxes[0]) if boxes[0] else (two, boxes[1])
        message = await box.next(JOBS)
        granted.append(message.lease.id)
        await commit(store, Ack(message.lease))
    assert sorted(granted) == numbers
