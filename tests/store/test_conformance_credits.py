"""Levels, deliveries and what counts as in flight, over every store. Numbers as in iii/store/contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from store_kit import (
    ARCHIVED,
    JOBS,
    MAIL,
    NOBODY,
    StoreKit,
    commit,
    counts,
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
from worker import inbox

from iii.errors import Conflict, InputError, LeaseLost, StoreClosed, StoreError
from iii.model import Ack, Committed, Enqueue, Lane, LanePolicy, Lease, Message, Op, Put, Retry, Return, Txn
from iii.store.contract import Store

OTHER = Lane("other", "Step")


class Told:
    """What is told of one commit and its deliveries, in the order in which the loop hears it."""

    def __init__(self, store: Store) -> None:
        self.events: list[str] = []
        store.on_deliver(self.deliver)

    def done(self) -> bool:
        return False

    def set_result(self, committed: Committed) -> None:
        self.events.append("answered")

    def set_exception(self, error: Exception) -> None:
        self.events.append(type(error).__name__)

    def deliver(self, messages: list[Message]) -> None:
        self.events += ["delivered"] * len(messages)


# -- levels


async def test_25_a_session_is_granted_nothing_before_it_has_a_level(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await fill(store, 3)
    await store.credit({})
    assert counts(store) == (3, 0, 0, 0) and not box


async def test_25_a_level_is_not_used_up_and_counts_until_the_next_one(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    numbers = await fill(store, 6)
    for _ in range(3):
        held = await box.all(2)
        assert stats(store).leased == 2
        numbers = [number for number in numbers if number not in ids(held)]
        await commit(store, *(Ack(lease) for lease in leases(held)))
    assert numbers == [] and counts(store) == (0, 0, 0, 0)
    await fill(store, 3)
    assert len(await box.all(2)) == 2 and counts(store) == (1, 0, 0, 2)


async def test_25_the_last_level_of_a_lane_wins_and_other_lanes_keep_theirs(kit: StoreKit) -> None:
    store = await work(kit, JOBS, OTHER)
    inbox(store)
    await store.credit({JOBS: 5, OTHER: 1})
    await store.credit({JOBS: 2})
    await commit(store, *(Enqueue(topic, b"") for topic in ("jobs", "other") for _ in range(3)))
    assert counts(store) == (1, 0, 0, 2) and counts(store, OTHER) == (2, 0, 0, 1)
    await store.credit({OTHER: 3})
    assert counts(store) == (1, 0, 0, 2) and counts(store, OTHER) == (0, 0, 0, 3)


async def test_25_levels_set_one_after_the_other_without_waiting_end_with_the_last(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await fill(store, 9)
    first, last = store.credit({JOBS: 1}), store.credit({JOBS: 3})
    await asyncio.gather(_wait(first), _wait(last))
    assert counts(store) == (6, 0, 0, 3) and len(box) == 3


async def test_25_a_level_counts_although_nobody_waits_for_it(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    store.credit({JOBS: 1})
    await fill(store, 1)
    assert len(await box.all(1)) == 1


async def test_25_who_ceases_to_wait_for_a_level_changes_nothing(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await fill(store, 3)
    waiting = asyncio.create_task(_wait(store.credit({JOBS: 2})))
    await asyncio.sleep(0)
    waiting.cancel()
    assert len(await box.all(2)) == 2
    await store.credit({})
    assert counts(store) == (1, 0, 0, 2)


async def test_25_level_0_ends_the_grants_and_leaves_what_is_in_flight(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    await fill(store, 2)
    held = await box.all(2)
    await store.credit({JOBS: 0})
    await commit(store, Ack(held[0].lease), Enqueue("jobs", b""))
    await store.credit({})
    assert counts(store) == (1, 0, 0, 1) and not box
    await commit(store, Ack(held[1].lease))


async def test_25_below_a_lowered_level_nothing_is_granted_until_enough_is_settled(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 4})
    await fill(store, 6)
    held = await box.all(4)
    await store.credit({JOBS: 2})
    for settled, leased in ((1, 3), (2, 2), (3, 2)):
        await commit(store, Ack(held[settled - 1].lease))
        assert stats(store).leased == leased
    assert len(await box.all(1)) == 1


async def test_25_a_level_may_be_set_for_a_lane_that_nobody_has_heard_of(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({Lane("never", "Heard"): 1})
    await enqueue(store, topic="never", step="Heard")
    [message] = await box.all(1)
    assert (message.topic, message.step) == ("never", "Heard")


# -- waiting for a level


async def test_25_what_a_level_lets_come_is_delivered_when_it_is_awaited(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    numbers = await fill(store, 3)
    await store.credit({JOBS: 2})
    assert ids(box.take()) == numbers[:2]
    await store.credit({JOBS: 3})
    assert ids(box.take()) == numbers[2:]


async def test_25_once_a_lower_level_is_awaited_nothing_comes_above_it(kit: StoreKit) -> None:
    """Whatever was under way is there by then, or rests."""
    store = await work(kit)
    box = inbox(store)
    for _ in range(20):
        await store.credit({JOBS: 3})
        under_way = [store.submit(Txn((Enqueue("jobs", b"x"),))) for _ in range(3)]
        await store.credit({JOBS: 0})
        came = box.take()
        assert len(came) == stats(store).leased
        under_way.append(store.submit(Txn((Enqueue("jobs", b"above"),))))
        await asyncio.gather(*under_way)
        await store.credit({})
        assert not box
        came += await take(store, 9)
        assert len(came) == 4
        await commit(store, *(Ack(lease) for lease in leases(came)))


async def test_25_levels_and_txns_count_in_the_order_in_which_they_were_handed_over(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    for _ in range(20):
        store.credit({JOBS: 1})
        ended = store.credit({JOBS: 0})
        enqueued = store.submit(Txn((Enqueue("jobs", b"x"),)))
        await ended
        await enqueued
        assert stats(store).leased == 0 and not box
        await commit(store, Ack((await take_one(store)).lease))


async def test_25_what_a_commit_granted_is_delivered_after_its_answers(kit: StoreKit) -> None:
    store = await work(kit)
    told = Told(store)
    await store.credit({JOBS: 9})
    for _ in range(3):
        store.post(Txn((Enqueue("jobs", b"1"), Enqueue("jobs", b"2"))), told)
        await until(lambda: len(told.events) >= 3, "answered, and both delivered")
        assert told.events == ["answered", "delivered", "delivered"]
        told.events.clear()


# -- in flight


async def test_25_a_lease_is_in_flight_whether_or_not_its_handler_has_started(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    await fill(store, 4)
    held = await box.all(2)
    store.start(held[0].lease)
    await store.credit({JOBS: 2})
    await commit(store, Put("ns", "k", b"1"))
    assert counts(store) == (2, 0, 0, 2) and not box


async def test_25_a_lease_is_in_flight_until_the_commit_that_settles_it(kit: StoreKit) -> None:
    """Settled by the same commit that brings the next: never one more, never one less."""
    store = await work(kit)
    box = inbox(store)
    await fill(store, 20)
    await store.credit({JOBS: 2})
    for _ in range(9):
        held = await box.all(2)
        settled = [store.submit(Txn((Ack(message.lease),))) for message in held]
        level = store.credit({JOBS: 2})
        await asyncio.gather(*settled)
        await level
        assert stats(store).leased == 2


@pytest.mark.parametrize("settle", [Ack, Return, lambda lease: Retry(lease, 0, "no")])
async def test_25_a_message_whose_settlement_is_refused_stays_in_flight(
    kit: StoreKit, settle: Callable[[Lease], Op]
) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 1})
    await commit(store, Put("ns", "k", b"1"), *(Enqueue("jobs", b"") for _ in range(2)))
    [first] = await box.all(1)
    refused = Put("ns", "k", b"2", if_version=99)
    for ops in ((refused, settle(first.lease)), (settle(first.lease), refused)):
        with pytest.raises(Conflict):
            await commit(store, *ops)
        await store.credit({})
        assert counts(store) == (1, 0, 0, 1) and not box
    await commit(store, Ack(first.lease))
    [second] = await box.all(1)
    assert second.lease.id != first.lease.id


async def test_25_other_sessions_leases_are_not_in_flight_here(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    numbers = await fill(one, 3)
    await take(one, 2)
    inbox(two)
    await two.credit({JOBS: 1})
    assert ids(inbox(two).take()) == numbers[2:]


# -- sessions that end


async def test_25_the_session_that_follows_a_buried_one_keeps_its_levels(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit, OTHER)
    box = inbox(one)
    await one.credit({JOBS: 2})
    await fill(two, 3)
    lost, session = await box.all(2), one.session
    await kit.bury(one, two)
    with pytest.raises(LeaseLost):
        await commit(one, Ack(lost[0].lease))
    again = await box.all(2)
    assert ids(again) == ids(lost) and {message.lease.session for message in again} == {one.session}
    assert one.session != session and counts(two) == (1, 0, 0, 2)
    await commit(one, *(Ack(lease) for lease in leases(again)))
    assert len(await box.all(1)) == 1


async def test_25_no_message_of_a_buried_session_comes_once_another_follows(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit, OTHER)
    came: list[tuple[Lease, int]] = []  # and the session when they came
    one.on_deliver(lambda messages: came.extend((each.lease, one.session) for each in messages))
    await one.credit({JOBS: 1})
    for _ in range(10):
        enqueued = one.submit(Txn((Enqueue("jobs", b"x"),)))
        await kit.bury(one, two)
        await enqueued
        await commit(one, Put("ns", "k", b"1"))
        await until(lambda: came and came[-1][0].session == one.session, "granted to the new session")
        assert all(lease.session == session for lease, session in came)
        await commit(one, Ack(came[-1][0]))
        came.clear()


async def test_25_what_waited_for_a_step_comes_to_the_session_after_a_buried_one(
    kit: StoreKit,
) -> None:
    one, two = await work(kit), await work(kit, OTHER)
    box = inbox(one)
    await one.credit({JOBS: 1})
    await kit.bury(one, two)
    await enqueue(two)
    await enqueue(one, topic="elsewhere")
    [message] = await box.all(1)
    assert (message.topic, message.step, message.lease.session) == (*JOBS, one.session)


async def test_25_a_closed_session_has_no_levels_and_the_next_one_begins_without(kit: StoreKit) -> None:
    store = await work(kit)
    box = inbox(store)
    await store.credit({JOBS: 2})
    await store.close_session()
    await fill(store, 2)
    with pytest.raises(StoreError):
        store.credit({JOBS: 1})
    await store.open_session([LanePolicy(*JOBS)])
    await fill(store, 1)
    await store.credit({})
    assert counts(store) == (3, 0, 0, 0) and not box
    await store.credit({JOBS: 1})
    assert len(box) == 1


async def test_25_only_a_session_has_credit_and_only_for_lanes_of_steps(kit: StoreKit) -> None:
    store = await kit.make()
    with pytest.raises(StoreError):
        store.credit({JOBS: 1})
    await store.open_session([LanePolicy(*JOBS)])
    for lane in (NOBODY, ARCHIVED):
        with pytest.raises(InputError):
            store.credit({JOBS: 1, lane: 1})
    with pytest.raises(InputError):
        store.credit({MAIL: 1, JOBS: -1})
    await fill(store, 1)
    await store.credit({})
    assert counts(store) == (1, 0, 0, 0), "what is refused sets no level"
    await kit.close(store)
    with pytest.raises(StoreClosed):
        store.credit({JOBS: 1})


async def _wait(level: object) -> None:
    await level  # type: ignore[misc]
