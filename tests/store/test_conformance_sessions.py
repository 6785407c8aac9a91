"""Sessions, subscriptions, counts and expiry, over every store. Numbers as in iii/store/contract.py."""

from __future__ import annotations

import os

import pytest
from store_kit import (
    JOBS,
    MAIL,
    NOBODY,
    StoreKit,
    commit,
    counts,
    crash_with,
    enqueue,
    ids,
    kill,
    stats,
    take,
    take_one,
    until,
    work,
)
from worker import inbox

from iii.errors import LeaseLost, StoreError
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Discard,
    Enqueue,
    Hold,
    Lane,
    LanePolicy,
    Put,
    Retry,
    Txn,
    Unique,
)
from iii.store.contract import DEAD_RETENTION_MS, RETENTION_MS, Store

OTHER = Lane("other", "Step")


async def test_10_a_dead_sessions_leases_return_to_ready_in_a_survivor(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for _ in range(3):
        await enqueue(one)
    lost = await take(one, 3)
    inbox(two)
    await two.credit({JOBS: 9})
    await kit.kill(one)
    again = await inbox(two).all(3)
    assert ids(again) == ids(lost) == [1, 2, 3]
    assert [(message.attempt, message.crashes) for message in again] == [(1, 0)] * 3
    with pytest.raises(LeaseLost):
        await commit(two, Put("ns", "k", b"1"), Ack(lost[0].lease))


async def test_10_the_next_session_recovers_the_dead_ones_it_finds(kit: StoreKit) -> None:
    for _ in range(2):
        store = await work(kit)
        await enqueue(store)
        await take(store)
        await kit.kill(store)
    store = await work(kit)
    assert ids(await take(store, 9)) == [1, 2]
    assert len(store.sessions()) == 1


async def test_10_a_session_that_closes_releases_its_leases_as_they_were(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    await enqueue(store, group="g")
    await enqueue(store, group="g")
    store = await crash_with(kit, store, await take(store, 1))
    held = await take(store, 2)
    store.start(held[0].lease)
    await store.close_session()
    await store.close_session()
    assert counts(store) == (2, 0, 1, 0) and store.sessions() == []
    assert {one.id: one.crashes for one in store.waiting("jobs")} == {1: 1, 2: 0, 3: 0}
    with pytest.raises(LeaseLost):
        await commit(store, Hold(held[0].lease))
    with pytest.raises(StoreError):
        await take(store)
    await store.open_session([LanePolicy(*JOBS)])
    assert ids(await take(store, 9)) == [1, 2]


async def test_10_a_dead_sessions_groups_go_on(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    for n in range(2):
        await enqueue(one, b"%d" % n, group="g")
    assert (await take_one(one)).payload == b"0"
    await kill(kit, one, two)
    message = await take_one(two)
    assert message.payload == b"0" and await take(two) == []
    await commit(two, Ack(message.lease))
    assert (await take_one(two)).payload == b"1"


async def test_16_each_subscriber_gets_its_own_copy_with_its_own_id(kit: StoreKit) -> None:
    one, two = await work(kit, JOBS), await work(kit, MAIL, OTHER)
    assert await enqueue(one, b"x", headers={"h": "1"}) == [1, 2]
    [mail], [work_] = await take(two, 9, MAIL), await take(one, 9, JOBS)
    assert (mail.lease.id, work_.lease.id) == (1, 2), "ids in order of the steps"
    assert mail.payload == work_.payload and mail.headers == work_.headers == {"h": "1"}
    await commit(two, Retry(mail.lease, 0, "only mine"))
    await commit(one, Ack(work_.lease))
    assert (counts(one, MAIL), counts(one, JOBS)) == ((1, 0, 0, 0), (0, 0, 0, 0))


async def test_16_subscribers_are_those_of_the_live_sessions_else_the_last_recorded(kit: StoreKit) -> None:
    one, two = await work(kit, JOBS), await work(kit, MAIL)
    await kit.close(one)
    assert [stats(two, lane).served for lane in (JOBS, MAIL)] == [False, True]
    assert await enqueue(two) == [1] and counts(two, MAIL) == (1, 0, 0, 0)
    await kit.close(two)
    tool = await kit.make()
    await enqueue(tool)
    assert counts(tool, MAIL) == (2, 0, 0, 0) and stats(tool, MAIL).served
    three = await work(kit, OTHER)
    await enqueue(tool)
    assert counts(three, NOBODY) == (1, 0, 0, 0), "a live session without the topic: nobody subscribes"
    assert counts(three, MAIL) == (2, 0, 0, 0) and not stats(three, MAIL).served, (
        "an orphan keeps its backlog"
    )
    assert three.unsettled() == 0


async def test_16_a_killed_instances_subscriptions_end_when_it_is_recovered(kit: StoreKit) -> None:
    one, two = await work(kit, JOBS), await work(kit, MAIL)
    await kill(kit, one, two)
    assert [stats(two, lane).served for lane in (JOBS, MAIL)] == [False, True]


async def test_16_a_step_named_outright_gets_it_whether_or_not_it_subscribes(kit: StoreKit) -> None:
    store = await work(kit, JOBS)
    await enqueue(store, step="Mail")
    assert counts(store, MAIL) == (1, 0, 0, 0) and counts(store, JOBS) == (0, 0, 0, 0)
    assert not stats(store, MAIL).served


async def test_16_the_first_subscriber_adopts_what_waited_whole(kit: StoreKit) -> None:
    tool = await kit.make()
    large = b"x" * 5000
    await enqueue(tool, large, priority=9)
    await enqueue(tool, b"late", delay_ms=10)
    await enqueue(tool, b"g1", group="g", unique=Unique("once", 1000))
    await enqueue(tool, b"g2", group="g")
    assert counts(tool, NOBODY) == (2, 1, 1, 0) and not stats(tool, NOBODY).served
    store = await work(kit, JOBS, MAIL)
    assert counts(store, NOBODY) == (0, 0, 0, 0) == counts(store, JOBS)
    assert counts(store, MAIL) == (2, 1, 1, 0), "the first step in order gets all of it"
    head, big = await take(store, 9, MAIL)
    assert (head.payload, big.payload, big.priority) == (b"g1", large, 9)
    await commit(store, Ack(head.lease))
    assert (await take_one(store, MAIL)).payload == b"g2"
    kit.clock.advance(10)
    await until(lambda: counts(store, MAIL)[0] == 1, "the delayed one is due")
    assert (await take_one(store, MAIL)).payload == b"late"
    assert await enqueue(store, step="Mail", unique=Unique("once", 1000)) == [3], "its unique keys came along"


async def test_16_unique_keys_are_adopted_even_where_their_messages_are_gone(kit: StoreKit) -> None:
    tool = await kit.make()
    await enqueue(tool, unique=Unique("once", 1000))
    await commit(tool, Discard(*NOBODY, "ready", 128, 1))
    store = await work(kit)
    assert await enqueue(store, unique=Unique("once", 1000)) == [1]


async def test_16_an_adopted_group_waits_behind_the_head_it_meets(kit: StoreKit) -> None:
    tool = await kit.make()
    await enqueue(tool, b"1", step="Work", group="g")
    await enqueue(tool, b"2", group="g")
    await enqueue(tool, b"3", step="Work", group="g")
    await enqueue(tool, b"4", group="g")
    store = await work(kit)
    for payload in (b"1", b"2", b"3", b"4"):
        [message] = await take(store, 9)
        assert message.payload == payload
        await commit(store, Ack(message.lease))


async def test_16_sessions_say_what_they_serve(kit: StoreKit) -> None:
    store = await kit.make()
    id = await store.open_session(
        [LanePolicy(*JOBS), LanePolicy(*MAIL), LanePolicy("quiet", "", retention_ms=5)]
    )
    [row] = store.sessions()
    assert (row.id, row.pid, row.opened_ms) == (id, os.getpid(), kit.clock.wall_ms())
    assert sorted(map(tuple, row.lanes)) == [("jobs", "Mail"), ("jobs", "Work")]
    with pytest.raises(StoreError):
        await store.open_session([])
    await store.close_session()
    assert await store.open_session([LanePolicy(*JOBS)]) != id, "a fresh id each time"


async def test_19_counts_are_exact_and_lanes_are_listed_in_order(kit: StoreKit) -> None:
    store = await work(kit, JOBS, OTHER)
    wall_ms = kit.clock.wall_ms()
    await enqueue(store)
    kit.clock.advance(5)
    await commit(store, Enqueue("jobs", b""), Enqueue("other", b"", delay_ms=5), Enqueue("nobody", b""))
    assert [(row.topic, row.step) for row in store.stats()] == [
        ("jobs", "Work"),
        ("nobody", ""),
        ("other", "Step"),
    ]
    row = stats(store)
    assert (row.ready, row.oldest_ms, row.served, row.paused) == (2, wall_ms, True, False)
    assert stats(store, OTHER).oldest_ms is None
    assert (
        store.unsettled() == 3
        and store.unsettled([OTHER]) == 1
        and store.unsettled([Lane("nobody", "")]) == 0
    )
    await take(store)
    assert stats(store).oldest_ms == wall_ms + 5 and store.unsettled() == 3


async def gone(kit: StoreKit, store: Store, lane: Lane) -> None:
    await until(lambda: counts(store, lane) == (0, 0, 0, 0), f"{lane} is empty")


async def test_20_what_nobody_subscribes_to_goes_after_its_retention(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, topic="quiet", group="g")
    await enqueue(store, topic="quiet", group="g")
    await enqueue(store, b"kept: somebody serves it")
    kit.clock.advance(1000)
    await enqueue(store, topic="quiet", delay_ms=RETENTION_MS - 1)
    quiet = Lane("quiet", "")
    kit.clock.advance(RETENTION_MS - 1001)
    await enqueue(store, topic="tick")
    assert counts(store, quiet) == (1, 1, 1, 0)
    kit.clock.advance(1)
    await until(lambda: counts(store, quiet) == (0, 1, 0, 0), "the head and the one behind it are gone")
    kit.clock.advance(999)
    await until(lambda: counts(store, quiet) == (1, 0, 0, 0), "the delayed one is ready")
    kit.clock.advance(1)
    await gone(kit, store, quiet)
    assert counts(store) == (1, 0, 0, 0)


async def test_20_a_topics_own_retention_wins(kit: StoreKit) -> None:
    store = await kit.make()
    await store.open_session([LanePolicy("quiet", "", retention_ms=50, max_depth=1)])
    await enqueue(store, topic="quiet")
    await enqueue(store, topic="unheard")
    kit.clock.advance(49)
    await enqueue(store, topic="tick")
    assert counts(store, Lane("quiet", "")) == (1, 0, 0, 0)
    kit.clock.advance(1)
    await gone(kit, store, Lane("quiet", ""))
    assert counts(store, Lane("unheard", "")) == (1, 0, 0, 0)


async def test_20_a_lane_that_lost_its_step_keeps_its_backlog(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    await kit.close(store)
    store = await work(kit, OTHER)
    kit.clock.advance(2 * RETENTION_MS)
    await enqueue(store, topic="tick")
    assert counts(store) == (1, 0, 0, 0)


async def test_20_dead_letters_go_after_thirty_days(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    letter = Enqueue("dlq", b"", step=ARCHIVE, id=1, dead=DeadLetter("jobs", "Work", "e", 1, 0))
    await commit(store, Ack((await take_one(store)).lease, failed=True), letter)
    kit.clock.advance(DEAD_RETENTION_MS - 1)
    await enqueue(store, topic="tick")
    assert counts(store, Lane("dlq", ARCHIVE)) == (1, 0, 0, 0) and stats(store).dead == 1
    kit.clock.advance(1)
    await gone(kit, store, Lane("dlq", ARCHIVE))
    assert stats(store).dead == 0


async def test_20_adopted_messages_no_longer_expire(kit: StoreKit) -> None:
    tool = await kit.make()
    await enqueue(tool)
    store = await work(kit)
    kit.clock.advance(2 * RETENTION_MS)
    await enqueue(store, topic="tick")
    assert counts(store) == (1, 0, 0, 0)


async def test_04_what_was_settled_just_before_a_session_closes_is_not_given_back(kit: StoreKit) -> None:
    store, tool = await work(kit), await kit.make()
    await commit(store, *(Enqueue("jobs", b"%d" % n) for n in range(3)))
    messages = await take(store, 3)
    settled = store.submit(Txn([Ack(message.lease) for message in messages[:2]]))
    await store.close_session()
    await settled
    assert counts(tool) == (1, 0, 0, 0)
