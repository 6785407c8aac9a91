"""What becomes of a message, over every store. Numbers as in iii/store/contract.py."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import (
    ARCHIVED,
    FAILED,
    JOBS,
    MAIL,
    StoreKit,
    commit,
    counts,
    dead,
    enqueue,
    ids,
    leases,
    stats,
    take,
    take_one,
    work,
)
from worker import inbox

from iii.errors import Conflict, LeaseLost, QueueFull
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Discard,
    Enqueue,
    LanePolicy,
    Lease,
    Op,
    Pause,
    Put,
    Release,
    Retry,
    Txn,
    Unique,
)
from iii.store.contract import Store
from iii.store.search import enqueued_of


async def test_11_the_store_gives_up_on_no_message(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    for attempt in range(1, 31):
        message = await take_one(store)
        assert (message.attempt, message.error) == (attempt, f"error {attempt - 1}" if attempt > 1 else None)
        await commit(store, Retry(message.lease, 0, f"error {attempt}"))
    message = await take_one(store)
    await commit(store, Release(message.lease))
    assert (await take_one(store)).attempt == 31, "a release counts no attempt"
    assert stats(store).failed == 30 and stats(store).done == 0


async def test_12_a_dead_letter_lies_in_the_archive_with_its_story(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"body", headers={"a": "b"}, priority=200)
    enqueued_ms = kit.clock.wall_ms()
    kit.clock.advance(60_000)
    message = await take_one(store)
    assert await commit(store, *dead(message, priority=200, headers={"a": "b"})) == [[1]]
    [letter] = store.waiting("jobs.failed")
    assert (letter.id, letter.step, letter.state, letter.payload) == (1, ARCHIVE, "ready", b"body")
    assert (letter.error, letter.attempts, letter.priority, letter.headers) == (
        "it broke",
        1,
        200,
        {"a": "b"},
    )
    assert letter.dead == DeadLetter("jobs", "Work", "it broke", 1, 5, enqueued_ms)
    assert enqueued_of(letter) == enqueued_ms != letter.enqueued_ms
    assert (stats(store).failed, stats(store).done, stats(store).dead) == (1, 0, 1)
    assert counts(store, ARCHIVED) == (1, 0, 0, 0) and stats(store, ARCHIVED).dead == 0
    assert store.unsettled() == 0


async def test_12_redriving_a_dead_letter_keeps_its_id_and_starts_afresh(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"body")
    await commit(store, Retry((await take_one(store)).lease, 0, "first"))
    await commit(store, *dead(await take_one(store)))
    [letter] = store.waiting("jobs.failed")
    again = Enqueue("jobs", letter.payload, step="Work", id=letter.id)
    discard = Discard("jobs.failed", ARCHIVE, "ready", letter.priority, letter.id)
    assert await commit(store, discard, again) == [[1]]
    assert stats(store).dead == 0 and store.waiting("jobs.failed") == []
    message = await take_one(store)
    assert (message.lease.id, message.attempt, message.error, message.dead) == (1, 1, None, None)
    with pytest.raises(Conflict):
        await commit(store, discard, again)


async def test_12_a_subscriber_of_the_dead_letter_topic_gets_a_copy_that_tells_its_story(
    kit: StoreKit,
) -> None:
    store = await work(kit, JOBS, FAILED)
    await enqueue(store, b"body")
    assert await commit(store, *dead(await take_one(store))) == [[1, 2]]
    copy = await take_one(store, FAILED)
    assert (copy.lease.id, copy.payload, copy.attempt, copy.error) == (2, b"body", 1, None)
    assert copy.dead == DeadLetter("jobs", "Work", "it broke", 1, 5, kit.clock.wall_ms())
    assert stats(store).dead == 1, "the archive holds it once"
    await commit(store, Ack(copy.lease))
    assert stats(store).dead == 1 and stats(store, FAILED).done == 1


async def test_12_a_copy_that_dies_goes_to_the_same_archive_and_to_nobody_again(kit: StoreKit) -> None:
    store = await work(kit, JOBS, FAILED)
    await enqueue(store, b"body")
    await commit(store, *dead(await take_one(store)))
    assert await commit(store, *dead(await take_one(store, FAILED))) == [[2]]
    assert [letter.id for letter in store.waiting("jobs.failed")] == [1, 2]
    assert (stats(store).dead, stats(store, FAILED).dead, counts(store, FAILED)) == (1, 1, (0, 0, 0, 0))


async def test_12_a_dead_letter_is_never_refused_for_want_of_room(kit: StoreKit) -> None:
    store = await kit.make()
    await store.open_session([LanePolicy(*JOBS), LanePolicy(*FAILED, max_depth=1)])
    for _ in range(3):
        await enqueue(store)
    for message in await take(store, 3):
        await commit(store, *dead(message))
    assert counts(store, FAILED) == counts(store, ARCHIVED) == (3, 0, 0, 0)


async def test_13_a_lane_holds_at_most_max_depth_waiting_messages(kit: StoreKit) -> None:
    store = await work(kit, max_depth=3)
    await enqueue(store, group="g")
    await enqueue(store, group="g")
    await enqueue(store, delay_ms=10)
    with pytest.raises(QueueFull, match="3"):
        await commit(store, Put("ns", "k", b"1"), Enqueue("jobs", b"x"))
    assert store.get("ns", "k") is None and counts(store) == (1, 1, 1, 0)
    [head] = await take(store)
    await enqueue(store, b"a lease does not count")
    await commit(store, Retry(head.lease, 0, "a retry is never refused"))
    assert counts(store) == (2, 1, 1, 0)
    await commit(store, Discard("jobs", "Work", "ready", 128, 4))
    with pytest.raises(QueueFull):
        await enqueue(store)


async def test_13_max_depth_is_checked_op_by_op(kit: StoreKit) -> None:
    store = await work(kit, max_depth=1)
    with pytest.raises(QueueFull):
        await commit(store, Enqueue("jobs", b""), Enqueue("jobs", b""))
    await enqueue(store, b"1")
    await commit(store, Discard("jobs", "Work", "ready", 128, 1), Enqueue("jobs", b"2"))
    assert [message.payload for message in await take(store)] == [b"2"]


async def test_13_max_in_flight_caps_live_leases_over_all_sessions(kit: StoreKit) -> None:
    one, two = await work(kit, max_in_flight=3), await work(kit, max_in_flight=3)
    for _ in range(6):
        await enqueue(one)
    first = await take(one, 2)
    assert ids(first) == [1, 2] and ids(await take(two, 9)) == [3] and await take(one) == []
    await two.credit({JOBS: 5})
    assert not inbox(two)
    await commit(one, *(Ack(lease) for lease in leases(first)))
    assert ids(await inbox(two).all(2)) == [4, 5]
    assert stats(one).leased == 3


async def test_14_an_equal_unique_key_is_not_enqueued_again_while_it_is_known(kit: StoreKit) -> None:
    store = await work(kit)
    unique = Unique("once", 100)
    assert await enqueue(store, b"first", unique=unique) == [1]
    assert await commit(store, *(Enqueue("jobs", b"again", unique=unique) for _ in range(2))) == [[1], [1]]
    assert await enqueue(store, unique=Unique("other", 100)) == [2]
    await commit(store, Ack((await take_one(store)).lease))
    assert await enqueue(store, unique=unique) == [1], "known although it is done"
    kit.clock.advance(99)
    assert await enqueue(store, unique=unique) == [1], "asking does not prolong it"
    kit.clock.advance(1)
    assert await enqueue(store, b"later", unique=unique) == [3]
    assert await enqueue(store, unique=unique) == [3]


async def test_14_of_two_txns_in_one_commit_the_second_knows_the_key_of_the_first(kit: StoreKit) -> None:
    store = await work(kit)
    once = Txn([Enqueue("jobs", b"", unique=Unique("once", 1000))])
    first, second = store.submit(once), store.submit(once)
    assert (await first).ids == (await second).ids == [[1]]


async def test_14_an_exclusive_key_refuses_the_whole_txn(kit: StoreKit) -> None:
    store = await work(kit)
    op = Enqueue("jobs", b"answer", unique=Unique("request", 100, exclusive=True))
    await commit(store, op)
    with pytest.raises(Conflict, match="request"):
        await commit(store, Put("ns", "k", b"1"), op)
    with pytest.raises(Conflict):
        await commit(
            store,
            Enqueue("jobs", b"", unique=Unique("new", 9, True)),
            Enqueue("jobs", b"", unique=Unique("new", 9, True)),
        )
    assert store.get("ns", "k") is None and counts(store) == (1, 0, 0, 0)


async def test_14_each_lane_decides_for_itself(kit: StoreKit) -> None:
    store = await work(kit, JOBS, MAIL)
    assert await enqueue(store, step="Work", unique=Unique("once", 100)) == [1]
    assert await enqueue(store, unique=Unique("once", 100)) == [2, 1], "in order of the steps"
    assert counts(store, MAIL) == counts(store, JOBS) == (1, 0, 0, 0)


async def test_14_a_known_answer_can_be_read_back(kit: StoreKit) -> None:
    store = await kit.make()
    await enqueue(store, b"answer", "$idem", unique=Unique("key", 100))
    assert (known := store.known("$idem", "", "key")) is not None and known.payload == b"answer"
    assert store.known("$idem", "", "other") is None and store.known("none", "", "key") is None
    kit.clock.advance(100)
    assert store.known("$idem", "", "key") is None


async def test_15_a_paused_lane_grants_nothing_and_keeps_its_messages(kit: StoreKit) -> None:
    one, two = await work(kit), await work(kit)
    await commit(one, Enqueue("jobs", b"1"), Pause("jobs", "Work", True))
    await enqueue(one, delay_ms=5)
    kit.clock.advance(5)
    assert await take(one, 9) == await take(two, 9) == []
    await two.credit({JOBS: 9})
    await enqueue(one)
    await two.credit({})
    assert counts(one) == (3, 0, 0, 0) and stats(two).paused and not inbox(two)
    await commit(one, Pause("jobs", "Work", False))
    assert ids(await inbox(two).all(3)) == [1, 2, 3]


async def test_15_a_pause_outlives_every_process(kit: StoreKit) -> None:
    store = await work(kit)
    await commit(store, Pause("jobs", "Work", True))
    await enqueue(store)
    await kit.kill(store)
    store = await work(kit)
    assert await take(store) == [] and stats(store).paused


@pytest.mark.parametrize("state", ["ready", "later", "behind", "leased"])
async def test_a_discard_must_name_where_the_message_rests(kit: StoreKit, state: str) -> None:
    store = await work(kit)
    await enqueue(store, b"leased", group="g")
    await take_one(store)
    await enqueue(store, b"behind", group="g")
    await enqueue(store, b"later", delay_ms=50, priority=7)
    await enqueue(store, b"ready", priority=9)
    shown = {waiting.state: waiting for waiting in store.waiting("jobs")}
    assert list(shown) == ["ready", "later", "behind", "leased"]
    one = shown[state]  # type: ignore[index]
    fields: dict[str, Any] = {
        "state": state,
        "priority": one.priority,
        "id": one.id,
        "due_ms": one.due_ms or 0,
    }
    wrong: list[dict[str, Any]] = [
        {"id": 77},
        {"step": "Mail"},
        {"topic": "none"},
        *({"state": other} for other in shown if other != state),
        *([{"priority": 8}] if state == "ready" else []),
        *([{"due_ms": 1}] if state == "later" else []),
    ]
    for change in wrong:
        with pytest.raises(Conflict):
            await commit(store, Discard(**{"topic": "jobs", "step": "Work", **fields, **change}))
    before = counts(store)
    if state == "leased":
        with pytest.raises(Conflict):
            await commit(store, Discard("jobs", "Work", **fields))
        assert counts(store) == before
    else:
        await commit(store, Discard("jobs", "Work", **fields))
        assert sum(counts(store)) == sum(before) - 1 and stats(store).done == stats(store).failed == 0
        assert one.id not in [waiting.id for waiting in store.waiting("jobs")]


async def test_an_id_is_kept_only_by_the_txn_that_took_its_message_out(kit: StoreKit) -> None:
    """So an id is in one lane at a time, without a search. Dead letters and redrives keep theirs."""
    store = await work(kit)
    await enqueue(store, delay_ms=5)
    await enqueue(store, group="g")
    await enqueue(store, group="g")
    await take_one(store)
    await enqueue(store)
    for id in (1, 2, 3, 4, 5, 99):
        for step in ("Work", "Mail"):
            with pytest.raises(Conflict):
                await enqueue(store, step=step, id=id)
    discard = Discard("jobs", "Work", "ready", 128, 4)
    moved = Enqueue("jobs", b"", step="Mail", id=4)
    for ops in ((moved, discard), (discard, moved, moved)):
        with pytest.raises(Conflict):
            await commit(store, *ops)
    assert await commit(store, discard, moved) == [[4]]
    assert await enqueue(store) == [5]


async def test_waiting_shows_each_message_as_it_rests(kit: StoreKit) -> None:
    store = await work(kit, JOBS, MAIL)
    wall_ms = kit.clock.wall_ms()
    large = b"x" * 5000
    await enqueue(store, large, step="Work", priority=1, headers={"h": "1"})
    await enqueue(store, b"high", step="Work", priority=2)
    await enqueue(store, b"late", step="Work", delay_ms=10)
    await enqueue(store, b"mail", step="Mail")
    shown = store.waiting("jobs", step="Work")
    assert [(one.payload, one.state) for one in shown] == [
        (b"high", "ready"),
        (large, "ready"),
        (b"late", "later"),
    ]
    assert (shown[1].headers, shown[1].enqueued_ms, shown[1].priority) == ({"h": "1"}, wall_ms, 1)
    assert shown[2].due_ms == kit.clock.delay_ms() + 10 and shown[0].due_ms is None
    assert len(store.waiting("jobs")) == 4 and len(store.waiting("jobs", limit=2)) == 2
    assert [one.payload for one in store.waiting("jobs", states=["later"])] == [b"late"]
    assert store.waiting("none") == [] == store.waiting("jobs", step="None")
    message = await take_one(store)
    await commit(store, Retry(message.lease, 0, "broke"))
    [retried] = [one for one in store.waiting("jobs") if one.id == message.lease.id]
    assert (retried.attempts, retried.error, retried.crashes) == (1, "broke", 0)


async def test_payloads_of_any_size_arrive_as_they_were_sent(kit: StoreKit) -> None:
    store = await work(kit)
    bodies = [bytes([n % 251]) * size for n, size in enumerate((0, 1, 2000, 2048, 2049, 70_000, 1 << 20))]
    for body in bodies:
        await enqueue(store, body, group="g" if len(body) > 2000 else None)
    received = []
    while messages := await take(store, 9):
        received += [message.payload for message in messages]
        await commit(store, *(Ack(lease) for lease in leases(messages)))
    assert received == bodies


async def test_a_lease_of_another_session_or_message_is_lost(kit: StoreKit) -> None:
    store: Store = await work(kit)
    await enqueue(store)
    lease = (await take_one(store)).lease
    wrong = [
        lease._replace(token=lease.token + 1),
        lease._replace(id=9),
        lease._replace(session=lease.session + 1),
    ]
    for other in (*wrong, Lease(0, 0, 0)):
        with pytest.raises(LeaseLost):
            await commit(store, Ack(other))
    await commit(store, Ack(lease))


async def test_settling_many_in_one_txn_counts_each(kit: StoreKit) -> None:
    store = await work(kit)
    for _ in range(6):
        await enqueue(store)
    held = leases(await take(store, 6))
    settlements: list[Op] = [
        Ack(held[0]),
        Ack(held[1], failed=True),
        Retry(held[2], 0, ""),
        Retry(held[3], 9, ""),
    ]
    await commit(store, *settlements, Release(held[4]), Release(held[5], 9))
    assert counts(store) == (2, 2, 0, 0) and (stats(store).done, stats(store).failed) == (1, 3)


async def test_policies_follow_the_newest_session(kit: StoreKit) -> None:
    one = await work(kit, max_depth=1)
    await enqueue(one)
    with pytest.raises(QueueFull):
        await enqueue(one)
    two = await kit.make()
    await two.open_session([LanePolicy("jobs", "Work", max_depth=2)])
    await enqueue(one)
    with pytest.raises(QueueFull):
        await enqueue(two)
