"""Who gets a message and when, over every store. Numbers as in iii/store/contract.py."""

from __future__ import annotations

import asyncio

import pytest
from store_kit import (
    ARCHIVED,
    JOBS,
    MAIL,
    StoreKit,
    claim,
    claim_one,
    commit,
    counts,
    dead,
    enqueue,
    ids,
    stats,
    until,
    work,
)

from iii.errors import InputError, StoreError
from iii.model import Ack, Discard, Enqueue, Lane, Release, Retry, Txn


async def test_04_a_message_is_leased_once_over_all_sessions(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for _ in range(5):
        await enqueue(one)
    granted: list[int] = []
    for _ in range(3):
        for messages in await asyncio.gather(claim(one), claim(two)):
            granted += ids(messages)
    assert len(granted) == 5 == len(set(granted)) == stats(one).leased
    assert await claim(one) == await claim(two) == []


async def test_04_each_lease_has_a_token_of_its_own(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    tokens = []
    for _ in range(4):
        message = await claim_one(store)
        tokens.append(message.lease.token)
        await commit(store, Release(message.lease))
    assert sorted(set(tokens)) == tokens, "tokens only grow"


async def test_04_a_message_that_is_enqueued_while_a_claim_is_parked_is_leased_by_that_commit(
    kit: StoreKit,
) -> None:
    store = await work(kit)
    parked = asyncio.create_task(store.claim({JOBS: 2}, None))
    await asyncio.sleep(0.01)
    [[first], [second], [third]] = await commit(store, *(Enqueue("jobs", b"%d" % n) for n in range(3)))
    assert counts(store) == (1, 0, 0, 2)
    assert ids(await asyncio.wait_for(parked, 20)) == [first, second]
    assert ids(await claim(store)) == [third]


async def test_04_a_parked_claim_is_answered_by_the_commit_of_another_process(kit: StoreKit) -> None:
    worker, web = await work(kit), await kit.make()
    parked = asyncio.create_task(worker.claim({JOBS: 1}, None))
    await asyncio.sleep(0.01)
    [id] = await enqueue(web, b"hello")
    [message] = await asyncio.wait_for(parked, 20)
    assert (message.lease.id, message.payload, message.attempt) == (id, b"hello", 1)


async def test_04_a_new_claim_replaces_a_parked_one_which_returns_nothing(kit: StoreKit) -> None:
    store = await work(kit, JOBS, MAIL)
    first = asyncio.create_task(store.claim({JOBS: 1}, None))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(store.claim({MAIL: 1}, None))
    assert await asyncio.wait_for(first, 20) == []
    await enqueue(store)
    [message] = await asyncio.wait_for(second, 20)
    assert message.step == "Mail" and counts(store) == (1, 0, 0, 0)


async def test_04_a_cancelled_claim_loses_no_message(kit: StoreKit) -> None:
    store = await work(kit)
    for _ in range(20):
        parked = asyncio.create_task(store.claim({JOBS: 1}, None))
        await asyncio.sleep(0)
        enqueued = store.submit(Txn((Enqueue("jobs", b"x"),)))
        parked.cancel()
        [[id]] = (await enqueued).ids
        granted = (await asyncio.gather(parked, return_exceptions=True))[0]
        if isinstance(granted, BaseException):
            await until(lambda: counts(store) == (1, 0, 0, 0), "the message is ready again")
            granted = await claim(store)
        assert ids(granted) == [id]
        assert granted[0].attempt == 1
        await commit(store, Ack(granted[0].lease))


async def test_04_an_ask_that_demands_nothing_ends_what_stands(kit: StoreKit) -> None:
    store = await work(kit)
    asked = store.ask({JOBS: 3}, [JOBS])
    await enqueue(store)
    assert len(await asyncio.wait_for(asked, 20)) == 1
    nothing = store.ask({})
    await enqueue(store)
    assert await asyncio.wait_for(nothing, 20) == []
    assert (stats(store).ready, stats(store).leased) == (1, 1)


async def test_04_what_stands_grants_no_more_than_was_asked_for(kit: StoreKit) -> None:
    store = await work(kit)
    first = store.ask({JOBS: 3}, [JOBS])
    for _ in range(5):
        await enqueue(store)
    assert stats(store).leased <= 3
    got = ids(await asyncio.wait_for(first, 20))
    while len(got) < 3:
        got += ids(await asyncio.wait_for(store.ask({JOBS: 3 - len(got)}, [JOBS]), 20))
    await enqueue(store)
    assert (stats(store).ready, stats(store).leased) == (3, 3)
    assert got == sorted(got) and await claim(store, 9) != []


async def test_04_a_claim_waits_no_longer_than_it_was_told(kit: StoreKit) -> None:
    store = await work(kit)
    parked = asyncio.create_task(store.claim({JOBS: 1}, 50))
    following = asyncio.create_task(store.changes(0, 1, 50))

    def turned() -> bool:
        kit.clock.advance(10)
        return parked.done() and following.done()

    await until(turned, "both waits end")
    assert parked.result() == [] and following.result() == []


async def test_04_only_a_session_claims_and_only_from_a_steps_lane(kit: StoreKit) -> None:
    store = await kit.make()
    with pytest.raises(StoreError):
        await claim(store)
    await store.open_session([])
    for lane in (Lane("jobs", ""), ARCHIVED):
        with pytest.raises(InputError):
            await claim(store, 1, lane)
    assert await claim(store, 1, Lane("never", "Heard")) == []


async def test_06_claims_come_in_order_of_priority_then_age(kit: StoreKit) -> None:
    store = await work(kit)
    for priority in (64, 128, 255, 0, 128, 192, 128):
        await enqueue(store, priority=priority)
    assert ids(await claim(store, 2)) == [3, 6]
    assert ids(await claim(store, 9)) == [2, 5, 7, 1, 4]


async def test_06_rows_at_rest_and_rows_of_the_same_commit_keep_one_order(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, priority=10)
    held = await claim(store)
    await enqueue(store, priority=10)
    await enqueue(store, priority=200)
    await commit(store, Enqueue("jobs", b"", priority=100), Retry(held[0].lease, 0, "again"))
    assert ids(await claim(store, 9)) == [3, 4, 1, 2], "a retry keeps its id and priority, and so its place"


async def test_06_demand_is_met_lane_by_lane(kit: StoreKit) -> None:
    store = await work(kit, JOBS, Lane("other", "Step"))
    for topic in ("jobs", "other", "jobs", "other"):
        await enqueue(store, topic=topic)
    messages = await store.claim({Lane("other", "Step"): 1, JOBS: 9}, 0)
    assert [(message.topic, message.lease.id) for message in messages] == [
        ("other", 2),
        ("jobs", 1),
        ("jobs", 3),
    ]


async def test_07_nothing_is_claimed_before_it_is_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"late", delay_ms=100, priority=255)
    await enqueue(store, b"now")
    [now] = await claim(store, 9)
    assert now.payload == b"now" and counts(store) == (0, 1, 0, 1)
    await commit(store, Retry(now.lease, 50, "again"))
    assert counts(store) == (0, 2, 0, 0)
    for wait_ms, expected in ((49, []), (1, [b"now"]), (49, []), (1, [b"late"])):
        kit.clock.advance(wait_ms)
        assert [message.payload for message in await claim(store, 9)] == expected


async def test_07_a_parked_claim_gets_what_comes_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"late", delay_ms=100)
    parked = asyncio.create_task(store.claim({JOBS: 1}, None))
    await asyncio.sleep(0.01)
    kit.clock.advance(99)
    await asyncio.sleep(0.01)
    assert not parked.done()
    kit.clock.advance(1)
    assert [message.payload for message in await asyncio.wait_for(parked, 20)] == [b"late"]


async def test_07_turning_the_wall_clock_makes_nothing_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, delay_ms=1000)
    await enqueue(store, topic="unheard")
    kit.clock.set_wall(kit.clock.wall_ms() + 365 * 24 * 3600 * 1000)
    assert await claim(store) == []
    await enqueue(store, topic="elsewhere")
    assert counts(store, Lane("unheard", "")) == (1, 0, 0, 0)


async def test_08_a_group_runs_in_commit_order_one_at_a_time(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for n in range(3):
        await enqueue(one, b"%d" % n, group="g", priority=100 + n)
    await enqueue(two, b"other", group="h")
    first, other = await claim(one, 9)
    assert {first.payload, other.payload} == {b"0", b"other"} and await claim(two, 9) == []
    if first.payload == b"other":
        first = other
    assert first.group == "g" and counts(one) == (0, 0, 2, 2)
    await commit(one, Ack(first.lease))
    second = await claim_one(two)
    assert second.payload == b"1" and await claim(one, 9) == []
    await commit(two, Ack(second.lease))
    assert (await claim_one(one)).payload == b"2"


async def test_08_retry_delay_and_release_of_the_head_hold_its_group(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"head", group="g", delay_ms=10)
    await enqueue(store, b"next", group="g", priority=255)
    assert await claim(store, 9) == [] and counts(store) == (0, 1, 1, 0)
    kit.clock.advance(10)
    head = await claim_one(store)
    await commit(store, Retry(head.lease, 10, "once more"))
    assert await claim(store, 9) == []
    kit.clock.advance(10)
    head = await claim_one(store)
    await commit(store, Release(head.lease, 10))
    assert await claim(store, 9) == []
    kit.clock.advance(10)
    [head] = await claim(store, 9)
    assert head.payload == b"head"
    await commit(store, *dead(head))
    assert (await claim_one(store)).payload == b"next", "a dead letter lets the next go"


async def test_08_the_next_of_a_group_is_leased_by_the_commit_in_which_its_head_leaves(kit: StoreKit) -> None:
    store = await work(kit)
    await commit(store, Enqueue("jobs", b"0", group="g"), Enqueue("jobs", b"1", group="g"))
    head = await claim_one(store)
    parked = asyncio.create_task(store.claim({JOBS: 1}, None))
    await asyncio.sleep(0.01)
    await commit(store, Ack(head.lease))
    assert counts(store) == (0, 0, 0, 1)
    assert [message.payload for message in await asyncio.wait_for(parked, 20)] == [b"1"]


async def test_08_a_delayed_message_behind_its_head_still_waits_until_it_is_due(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"head", group="g")
    await enqueue(store, b"late", group="g", delay_ms=100)
    await enqueue(store, b"last", group="g")
    head = await claim_one(store)
    kit.clock.advance(40)
    await commit(store, Ack(head.lease))
    assert await claim(store, 9) == [] and counts(store) == (0, 1, 1, 0)
    kit.clock.advance(60)
    assert [message.payload for message in await claim(store, 9)] == [b"late"]


async def test_08_discarding_the_head_lets_the_next_go_and_one_behind_just_leaves(kit: StoreKit) -> None:
    store = await work(kit)
    for n in range(4):
        await enqueue(store, b"%d" % n, group="g")
    await commit(store, Discard("jobs", "Work", "behind", 128, 2))
    await commit(store, Discard("jobs", "Work", "ready", 128, 1))
    assert counts(store) == (1, 0, 1, 0)
    assert [message.payload for message in await claim(store, 9)] == [b"2"]


async def test_08_groups_are_per_lane_and_their_names_may_be_long(kit: StoreKit) -> None:
    store = await work(kit, JOBS, MAIL)
    for n in range(2):
        await enqueue(store, b"%d" % n, group="é" * 190)
    messages = await store.claim({JOBS: 9, MAIL: 9}, 0)
    assert [(message.step, message.payload) for message in messages] == [("Work", b"0"), ("Mail", b"0")]
