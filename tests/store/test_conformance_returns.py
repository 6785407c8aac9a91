"""Return, over every store: what was granted and never started rests exactly as it was."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from store_kit import (
    JOBS,
    StoreKit,
    commit,
    counts,
    crash_with,
    enqueue,
    ids,
    kill,
    leases,
    stats,
    take,
    take_one,
    work,
)
from worker import inbox

from iii.errors import LeaseLost
from iii.model import Ack, Enqueue, Message, Put, Retry, Return


def but_for_its_token(message: Message) -> Message:
    return replace(message, lease=message.lease._replace(token=0))


async def test_a_returned_message_rests_exactly_as_it_was(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"x" * 5000, priority=7, group="g", headers={"h": "1"}, delay_ms=10)
    await enqueue(store, b"behind", group="g")
    kit.clock.advance(10)
    await commit(store, Retry((await take_one(store)).lease, 20, "broke"))
    kit.clock.advance(20)
    await commit(store, Put("ns", "k", b"1"))
    before, was = store.waiting("jobs"), stats(store)
    for _ in range(3):
        message = await take_one(store)
        kit.clock.advance(5)
        await commit(store, Return(message.lease))
        assert (store.waiting("jobs"), stats(store)) == (before, was)
    assert (message.attempt, message.error, message.group) == (2, "broke", "g")
    assert but_for_its_token(await take_one(store)) == but_for_its_token(message)


async def test_a_returned_head_keeps_its_place_before_its_group(kit: StoreKit) -> None:
    store = await work(kit)
    for n in range(3):
        await enqueue(store, b"%d" % n, group="g", priority=100 + n)
    head = await take_one(store)
    await commit(store, Return(head.lease))
    assert counts(store) == (1, 0, 2, 0)
    assert [message.payload for message in await take(store, 9)] == [b"0"]


async def test_06_what_is_returned_comes_before_what_came_after_it(kit: StoreKit) -> None:
    store = await work(kit)
    for priority in (5, 9, 5):
        await enqueue(store, priority=priority)
    await commit(store, *(Return(lease) for lease in leases(await take(store, 2))), Enqueue("jobs", b""))
    assert ids(await take(store, 9)) == [4, 2, 1, 3]


async def test_25_what_is_returned_is_granted_again_by_that_commit_where_there_is_credit(
    kit: StoreKit,
) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 1})
    await enqueue(store)
    for _ in range(3):
        [message] = await box.all(1)
        await commit(store, Return(message.lease))
        assert counts(store) == (0, 0, 0, 1)
    [again] = await box.all(1)
    assert again.lease.id == message.lease.id and again.lease.token > message.lease.token
    with pytest.raises(LeaseLost):
        await commit(store, Ack(message.lease))


async def test_25_what_a_session_returns_as_it_leaves_goes_to_its_peer(kit: StoreKit) -> None:
    """As a drain does it: levels 0, then everything that has not started."""
    one, two = await work(kit), await work(kit)
    box, unstarted = inbox(two), inbox(one)
    await one.credit({JOBS: 4})
    await commit(one, *(Enqueue("jobs", b"") for _ in range(4)))
    await two.credit({JOBS: 9})
    await one.credit({JOBS: 0})
    started, *others = unstarted.take()
    one.start(started.lease)
    await commit(one, *(Return(message.lease) for message in others))
    assert sorted(ids(await box.all(3))) == ids(others)
    assert stats(one).failed == 0


async def test_05_a_return_on_a_lost_lease_refuses_the_whole_txn(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    await enqueue(one)
    lost = await take_one(one)
    await commit(one, Return(lost.lease))
    with pytest.raises(LeaseLost):
        await commit(one, Put("ns", "k", b"1"), Return(lost.lease))
    again = await take_one(one)
    with pytest.raises(LeaseLost):
        await commit(one, Put("ns", "k", b"1"), Return(lost.lease))
    await kill(kit, one, two)
    with pytest.raises(LeaseLost):
        await commit(two, Put("ns", "k", b"1"), Return(again.lease))
    assert two.get("ns", "k") is None and counts(two) == (1, 0, 0, 0)


async def test_10_a_message_that_was_returned_is_no_blame(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    message = await take_one(store)
    store.start(message.lease)
    await commit(store, Return(message.lease))
    await take_one(store)
    store = await crash_with(kit, store, [])
    assert [one.crashes for one in store.waiting("jobs")] == [0]
