"""What a commit promises, over every store. The number in a name is the promise in iii/store/contract.py."""

from __future__ import annotations

import asyncio

import pytest
from store_kit import JOBS, StoreKit, commit, counts, enqueue, stats, take, take_one, until, work

from iii.errors import BadMerge, Conflict, LeaseLost, StoreClosed, TooLarge
from iii.model import (
    TAIL,
    Ack,
    Committed,
    Delete,
    Discard,
    Enqueue,
    Hold,
    LanePolicy,
    Lease,
    Mark,
    Merge,
    Op,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Return,
    Txn,
    Unique,
)
from iii.store.contract import Limits, Store


async def everything(store: Store) -> tuple[object, ...]:
    """All a reader can see of a store."""
    return (
        store.version(),
        store.namespaces(),
        {namespace: store.scan(namespace) for namespace, _ in store.namespaces()},
        store.stats(),
        {row.topic: store.waiting(row.topic) for row in store.stats()},
        store.marks(""),
        store.records("run"),
        store.records("audit"),
        await store.changes(0, 1000, 0),
    )


REFUSED: dict[str, tuple[Op, type[Exception]]] = {
    "version": (Put("ns", "old", b"2", if_version=99), Conflict),
    "exists": (Put("ns", "old", b"2", if_version=0), Conflict),
    "gone": (Delete("ns", "none", if_version=1), Conflict),
    "merge": (Merge("ns", "old", b'[{"type":"append","path":"","value":1}]'), BadMerge),
    "mark": (Mark("cursor", 5, expected=4), Conflict),
    "lease": (Ack(Lease(1, 1, 99)), LeaseLost),
    "unique": (Enqueue("jobs", b"", unique=Unique("once", 1000, exclusive=True)), Conflict),
    "id": (Enqueue("jobs", b"", step="Mail", id=2), Conflict),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_01_a_refused_txn_wrote_nothing(kit: StoreKit, reason: str) -> None:
    store = await work(kit)
    await commit(store, Put("ns", "old", b"1"), Put("ns", "there", b"1"), Enqueue("jobs", b"a"))
    await enqueue(store, b"b", unique=Unique("once", 1000))
    [message] = await take(store)
    before = await everything(store)
    op, refusal = REFUSED[reason]
    others: tuple[Op, ...] = (
        Put("ns", "new", b"1"),
        Delete("ns", "there"),
        Enqueue("jobs", b"c", group="g", delay_ms=5, unique=Unique("other", 1000)),
        Enqueue("unheard", b"d"),
        Retry(message.lease, 0, "no"),
        Mark("new", 1, expected=None),
        Record("run", b"r"),
        Pause("jobs", "Work", True),
    )
    with pytest.raises(refusal):
        await store.commit(Txn((*others, op)))
    assert await everything(store) == before
    assert await commit(store, Hold(message.lease), Enqueue("jobs", b"e")) == [[3]], "no id was used up"


async def test_01_all_of_a_txn_lands_at_once(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store, b"first")
    message = await take_one(store)
    committed = await store.commit(
        Txn(
            [
                Put("a", "k", b"1"),
                Delete("a", "none"),
                Enqueue("jobs", b"next"),
                Ack(message.lease),
                Record("run", b"r"),
            ]
        )
    )
    assert committed.ids == [[2]] and committed.version == 1 == store.version()
    assert (row := store.get("a", "k")) is not None and (row.value, row.version) == (b"1", 1)
    assert counts(store) == (1, 0, 0, 0) and stats(store).done == 1
    assert store.records("run") == [(1, b"r")]


async def test_01_an_empty_txn_commits_nothing(kit: StoreKit) -> None:
    store = await kit.make()
    assert await store.commit(Txn(())) == (0, [])


async def test_01_what_is_over_a_limit_is_refused_before_it_is_submitted(kit: StoreKit) -> None:
    store = await kit.make(Limits(value_bytes_max=100))
    with pytest.raises(TooLarge, match="101 bytes, at most 100"):
        store.submit(Txn((Put("ns", "k", b"x" * 101),)))
    await commit(store, Put("ns", "k", b'{"a":"%s"}' % (b"x" * 92)))
    before = store.get("ns", "k")
    with pytest.raises(TooLarge, match="at most 100"):
        await commit(store, Put("ns", "other", b"1"), Merge("ns", "k", b'{"b":1}'))
    assert store.get("ns", "k") == before and store.get("ns", "other") is None


async def test_01_a_waiter_that_is_cancelled_does_not_cancel_its_txn(kit: StoreKit) -> None:
    store = await kit.make()
    waiter = asyncio.ensure_future(store.commit(Txn((Put("ns", "k", b"1"),))))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await until(lambda: store.get("ns", "k"), "the Txn landed")


async def test_02_versions_strictly_increase_one_per_change(kit: StoreKit) -> None:
    one, two = await kit.make(), await kit.make()
    await asyncio.gather(*(commit(store, Put("ns", f"{n}", b"1")) for n in range(20) for store in (one, two)))
    await asyncio.gather(*(commit(store, Put("ns", f"{n}", b"2")) for n in range(20) for store in (one, two)))
    changes = await two.changes(0, 1000, 0)
    assert [change.version for change in changes] == list(range(1, 41)) and two.version() == 40
    assert sorted(entry.version for entry in one.scan("ns")) == list(range(21, 41))


async def test_02_keys_of_one_txn_get_their_versions_in_order_of_first_touch(kit: StoreKit) -> None:
    store = await kit.make()
    await commit(store, Put("ns", "b", b"1"), Put("ns", "a", b"1"), Put("ns", "b", b"2"))
    assert [(c.version, c.key, c.old, c.new) for c in await store.changes(0, 9, 0)] == [
        (1, "b", None, b"2"),
        (2, "a", None, b"1"),
    ]


async def test_03_every_reader_sees_a_commit_once_it_returned(kit: StoreKit) -> None:
    one, two = await kit.make(), await kit.make()
    for value in (b"1", b"2", b"3"):
        await commit(one, Put("ns", "k", value), Enqueue("jobs", value))
        assert (entry := two.get("ns", "k")) is not None and entry.value == value
        assert two.waiting("jobs")[-1].payload == value
        assert two.stats() == one.stats()


async def test_03_a_commit_outlives_every_process(kit: StoreKit) -> None:
    stores = [await work(kit), await kit.make()]
    await commit(stores[1], Put("ns", "k", b"1"), Enqueue("jobs", b"x"), Mark("m", 7, expected=None))
    [lost] = await take(stores[0])
    for store in stores:
        await kit.kill(store)
    store = await work(kit)
    assert (entry := store.get("ns", "k")) is not None and entry.value == b"1"
    assert store.mark("m") == 7
    assert (await take_one(store)).lease.id == lost.lease.id


async def test_03_a_waiting_reader_of_changes_wakes_with_the_commit_of_another(kit: StoreKit) -> None:
    one, two = await kit.make(), await kit.make()
    reader = asyncio.create_task(two.changes(0, 10, None))
    await asyncio.sleep(0)
    await commit(one, Put("ns", "k", b"1"))
    assert [change.key for change in await asyncio.wait_for(reader, 20)] == ["k"]


async def test_05_a_lost_lease_refuses_the_whole_txn(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    message = await take_one(store)
    await commit(store, Retry(message.lease, 0, "again"))
    again = await take_one(store)
    settlements = (
        Ack(message.lease),
        Retry(message.lease, 0, ""),
        Release(message.lease),
        Return(message.lease),
        Hold(message.lease),
    )
    for op in settlements:
        with pytest.raises(LeaseLost):
            await commit(store, Put("ns", "k", b"1"), op)
    assert store.get("ns", "k") is None
    await commit(store, Hold(again.lease), Put("ns", "k", b"1"))
    await commit(store, Ack(again.lease))
    assert counts(store) == (0, 0, 0, 0)


async def test_05_a_lease_is_settled_once_even_within_one_txn(kit: StoreKit) -> None:
    store = await work(kit)
    await enqueue(store)
    message = await take_one(store)
    with pytest.raises(LeaseLost):
        await commit(store, Ack(message.lease), Hold(message.lease))
    with pytest.raises(LeaseLost):
        await commit(store, Retry(message.lease, 0, ""), Ack(message.lease))
    with pytest.raises(LeaseLost):
        await commit(store, Return(message.lease), Ack(message.lease))
    await commit(store, Hold(message.lease), Ack(message.lease))


async def test_09_a_mark_is_compare_and_set(kit: StoreKit) -> None:
    store = await kit.make()
    with pytest.raises(Conflict):
        await commit(store, Mark("cursor", 5, expected=0))
    await commit(store, Mark("cursor", 5, expected=None), Mark("cursor", 6, expected=5))
    with pytest.raises(Conflict):
        await commit(store, Mark("cursor", 9, expected=5))
    with pytest.raises(Conflict):
        await commit(store, Mark("cursor", 9, expected=None))
    await commit(store, Mark("cron/b", 1, expected=None), Mark("cron/a", 0, expected=None))
    assert store.mark("cursor") == 6 and store.mark("none") is None
    assert store.marks("cron/") == {"cron/a": 0, "cron/b": 1}


async def test_18_equal_bytes_are_no_change_but_the_version_is_still_compared(kit: StoreKit) -> None:
    store = await kit.make()
    await commit(store, Put("ns", "k", b"1"))
    before = store.get("ns", "k")
    kit.clock.advance(5)
    committed = await store.commit(
        Txn(
            (Put("ns", "k", b"1", if_version=1), Merge("ns", "k", b'[{"type":"increment","path":"","by":0}]'))
        )
    )
    assert committed.version == 1 and store.get("ns", "k") == before
    with pytest.raises(Conflict):
        await commit(store, Put("ns", "k", b"1", if_version=7))


async def test_18_a_txn_makes_one_change_per_key_from_what_was_to_what_is(kit: StoreKit) -> None:
    store = await kit.make()
    await commit(store, Put("ns", "k", b"1"), Put("ns", "gone", b"1"))
    await store.commit(
        Txn(
            (
                Put("ns", "k", b"2"),
                Merge("ns", "k", b'[{"type":"increment","path":""}]'),
                Delete("ns", "gone"),
                Put("ns", "short", b"1"),
                Delete("ns", "short"),
                Delete("ns", "never"),
            ),
            {"traceparent": "t"},
        )
    )
    assert [(c.version, c.key, c.old, c.new, c.headers) for c in await store.changes(2, 9, 0)] == [
        (3, "k", b"1", b"3", {"traceparent": "t"}),
        (4, "gone", b"1", None, {"traceparent": "t"}),
    ]
    await commit(store, Delete("ns", "k"), Put("ns", "k", b"3"))
    assert store.version() == 4, "deleted and written back is no change"


async def test_18_if_version_means_the_version_before_the_txn(kit: StoreKit) -> None:
    store = await kit.make()
    await commit(store, Put("ns", "k", b"1", if_version=0), Put("ns", "k", b"2", if_version=0))
    await commit(store, Delete("ns", "k", if_version=1), Put("ns", "k", b"3", if_version=1))
    assert (entry := store.get("ns", "k")) is not None and (entry.value, entry.version) == (b"3", 2)
    with pytest.raises(Conflict):
        await commit(store, Delete("ns", "k"), Put("ns", "k", b"4", if_version=0))


async def test_18_the_engines_own_namespaces_leave_no_changes_yet_have_versions(kit: StoreKit) -> None:
    store = await kit.make()
    await commit(store, Put("$idem", "k", b"1"), Put("ns", "k", b"1"))
    assert (entry := store.get("$idem", "k")) is not None and entry.version == 1
    assert [change.version for change in await store.changes(0, 9, 0)] == [2]
    assert store.namespaces() == [("ns", 1)]
    with pytest.raises(Conflict):
        await commit(store, Put("$idem", "k", b"2", if_version=0))


async def test_18_a_merge_never_conflicts(kit: StoreKit) -> None:
    one, two = await kit.make(), await kit.make()
    patch = b'[{"type":"increment","path":"n"}]'
    await asyncio.gather(*(commit(store, Merge("ns", "k", patch)) for _ in range(25) for store in (one, two)))
    assert (entry := one.get("ns", "k")) is not None and entry.value == b'{"n":50}'


async def test_18_changes_stay_until_they_are_read_and_go_some_time_after(kit: StoreKit) -> None:
    store = await kit.make(Limits(changes_max=5))
    await commit(store, Mark(TAIL, 0, expected=None))
    for n in range(30):
        await commit(store, Put("ns", "k", b"%d" % n))
    assert [change.version for change in await store.changes(0, 100, 0)] == list(range(1, 31))
    assert [change.version for change in await store.changes(3, 2, 0)] == [4, 5]
    await commit(store, Mark(TAIL, 30, expected=0))
    for n in range(30, 50):
        await commit(store, Put("ns", "k", b"%d" % n))
    kept = [change.version for change in await store.changes(0, 100, 0)]
    assert kept == list(range(kept[0], 51)) and 25 < kept[0] <= 31, "nothing unread went, what was read goes"


async def test_reads_are_in_byte_order_and_bounded(kit: StoreKit) -> None:
    store = await kit.make()
    keys = ["a", "a/1", "a/10", "a/2", "a0", "é", "z", "\U0001f600", "\uffff", "a\0b"]
    await commit(store, *(Put("ns", key, b"1") for key in keys), Put("ns2", "a", b"1"), Put("n", "a", b"1"))
    in_order = sorted(keys, key=str.encode)
    assert [entry.key for entry in store.scan("ns")] == in_order
    assert [entry.key for entry in store.scan("ns", prefix="a/")] == ["a/1", "a/10", "a/2"]
    assert [entry.key for entry in store.scan("ns", prefix="a/", after="a/1", limit=1)] == ["a/10"]
    assert [entry.key for entry in store.scan("ns", after="z")] == in_order[in_order.index("z") + 1 :]
    assert [entry.key for entry in store.scan("ns", prefix="b", after="a")] == []
    assert store.scan("none") == [] and store.get("ns", "none") is None
    assert store.namespaces() == [("n", 1), ("ns", len(keys)), ("ns2", 1)]
    await commit(store, Delete("n", "a"))
    assert store.namespaces() == [("ns", len(keys)), ("ns2", 1)]


async def test_history_is_newest_first_and_bounded(kit: StoreKit) -> None:
    store = await kit.make(Limits(runs_max=3, audits_max=2))
    for n in range(6):
        await commit(store, Record("run", b"%d" % n), Record("audit", b"%d" % n))
    assert store.records("run") == [(6, b"5"), (5, b"4"), (4, b"3")]
    assert store.records("audit", limit=1) == [(6, b"5")]
    assert store.records("run", before=5) == [(4, b"3")]


async def test_a_closed_store_refuses_and_answers_who_waits(kit: StoreKit) -> None:
    store = await work(kit)
    waiting = asyncio.create_task(store.changes(0, 1, None))
    await asyncio.sleep(0)
    await kit.close(store)
    assert await asyncio.wait_for(waiting, 20) == []
    await store.close()
    with pytest.raises(StoreClosed):
        await store.commit(Txn((Put("ns", "k", b"1"),)))
    with pytest.raises(StoreClosed):
        store.credit({JOBS: 1})
    with pytest.raises(StoreClosed):
        await store.open_session([LanePolicy(*JOBS)])


async def test_01_a_txn_refused_beside_others_takes_nothing_of_theirs_with_it(kit: StoreKit) -> None:
    """The Discard looks at rows the neighbours have just made; the last op refuses what came before it."""
    store = await work(kit)
    nothing_there = Discard(*JOBS, "ready", 128, 999)
    answers = await asyncio.gather(
        store.submit(Txn([Enqueue("jobs", b"first")])),
        store.submit(Txn([Enqueue("jobs", b"urgent", priority=200), nothing_there])),
        store.submit(Txn([Enqueue("jobs", b"last")])),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Committed, Conflict, Committed]
    assert [message.payload for message in store.waiting("jobs")] == [b"first", b"last"]
