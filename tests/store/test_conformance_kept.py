"""Kept HTTP answers take what their bound says; the oldest go, each with its unique key (contract 24)."""

from __future__ import annotations

import pytest
from store_kit import StoreKit, commit, until

from iii.errors import Conflict
from iii.model import Discard, Enqueue, LanePolicy, Put, Txn, Unique
from iii.store.contract import Limits, Store
from iii.store.kept import ROW_BYTES

DAY = 24 * 3600 * 1000
LANES = ("$http/Orders", "$http/Refunds")
POLICIES = [LanePolicy(topic, "", retention_ms=DAY) for topic in LANES]


def answer(key: int, size: int = 488, *, lane: int = 0, ttl_ms: int = DAY) -> Enqueue:
    """With ROW_BYTES one of 488 bytes counts 1,000."""
    unique = Unique(f"key-{key}", ttl_ms, exclusive=True)
    return Enqueue(LANES[lane], bytes(size), step="", unique=unique)


def kept(store: Store, keys: range, lane: int = 0) -> list[int]:
    return [key for key in keys if store.known(LANES[lane], "", f"key-{key}") is not None]


async def opened(kit: StoreKit, bytes_max: int) -> Store:
    store = await kit.make(Limits(kept_bytes_max=bytes_max))
    await store.open_session(POLICIES)
    return store


def figures(store: Store) -> tuple[int, int, int]:
    found = store.figures()
    return found.kept_bytes, found.kept_answers, found.kept_evicted


async def test_24_the_oldest_answers_go_and_what_is_left_is_counted_to_the_byte(kit: StoreKit) -> None:
    store = await opened(kit, 10_000)
    for key in range(25):
        await commit(store, answer(key, lane=key % 2))
        assert store.figures().kept_bytes <= 10_000
    assert kept(store, range(25)) == [16, 18, 20, 22, 24]
    assert kept(store, range(25), lane=1) == [15, 17, 19, 21, 23]
    assert figures(store) == (10_000, 10, 15)
    await commit(store, answer(100, 3_000))  # large ones lie elsewhere
    assert figures(store) == (6_000 + 3_000 + ROW_BYTES, 7, 19)


async def test_24_the_key_of_an_answer_that_went_may_be_used_again(kit: StoreKit) -> None:
    store = await opened(kit, 2_000)
    await commit(store, answer(1))
    with pytest.raises(Conflict):
        await commit(store, answer(1), Put("ns", "k", b"1"))
    await commit(store, answer(2))
    await commit(store, answer(3))
    assert kept(store, range(4)) == [2, 3]
    await commit(store, answer(1))
    with pytest.raises(Conflict):
        await commit(store, answer(1))
    assert kept(store, range(4)) == [1, 3]
    assert figures(store) == (2_000, 2, 2)


async def test_24_answers_that_expire_or_are_removed_count_no_more(kit: StoreKit) -> None:
    store = await opened(kit, 100_000)
    await commit(store, *(answer(key) for key in range(5)))
    (found,) = [each for each in store.waiting(LANES[0]) if each.id == 3]
    await commit(store, Discard(LANES[0], "", "ready", found.priority, found.id))
    assert figures(store) == (4_000, 4, 0)
    await commit(store, answer(2))  # the key of the one that was removed
    kit.clock.advance(DAY)
    await commit(store, answer(9))
    await until(lambda: figures(store) == (1_000, 1, 0), "the expired ones go")


async def test_24_a_refused_txn_counts_nothing(kit: StoreKit) -> None:
    store = await opened(kit, 100_000)
    await commit(store, answer(1))
    with pytest.raises(Conflict):
        await commit(store, answer(2), answer(1))
    assert figures(store) == (1_000, 1, 0)
    assert kept(store, range(3)) == [1]
    await commit(store, answer(3, 5_000))
    large = next(each for each in store.waiting(LANES[0]) if len(each.payload) == 5_000)
    with pytest.raises(Conflict):
        await commit(store, Discard(LANES[0], "", "ready", large.priority, large.id), answer(1))
    assert figures(store) == (1_000 + 5_000 + ROW_BYTES, 2, 0)
    assert kept(store, range(4)) == [1, 3]


async def test_24_the_bound_holds_over_all_stores_and_after_a_restart(kit: StoreKit) -> None:
    one, other = await opened(kit, 10_000), await opened(kit, 10_000)
    for key in range(0, 30, 2):
        await commit(one, answer(key))
        await commit(other, answer(key + 1))
    assert kept(one, range(30)) == list(range(20, 30))
    assert figures(one) == figures(other) == (10_000, 10, 20)
    for store in (one, other):
        await kit.kill(store)
    again = await opened(kit, 10_000)
    assert figures(again) == (10_000, 10, 20)
    await commit(again, answer(30))
    assert kept(again, range(31)) == list(range(21, 31))


async def test_24_many_answers_of_one_commit_and_a_large_one_after_many_small(kit: StoreKit) -> None:
    store = await opened(kit, 500_000)
    for start in range(0, 1_200, 400):
        futures = [store.submit(Txn((answer(key, 0, lane=key % 2),))) for key in range(start, start + 400)]
        for future in futures:
            await future
        assert store.figures().kept_bytes <= 500_000
    assert store.figures().kept_answers == 500_000 // ROW_BYTES
    await commit(store, answer(5_000, 400_000))
    found = store.figures()
    assert found.kept_bytes <= 500_000 < found.kept_bytes + ROW_BYTES
    assert kept(store, range(5_001))[-1] == 5_000


async def test_24_an_answer_larger_than_the_bound_leaves_nothing(kit: StoreKit) -> None:
    store = await opened(kit, 1_500)
    await commit(store, answer(1))
    await commit(store, answer(2, 5_000), Put("ns", "k", b"1"))
    assert figures(store) == (0, 0, 2)
    assert store.get("ns", "k") is not None


async def test_24_a_smaller_bound_is_reached_in_steps(kit: StoreKit) -> None:
    store = await opened(kit, 10_000_000)
    for start in range(0, 3_000, 500):
        await commit(store, *(answer(key, 0) for key in range(start, start + 500)))
    await kit.close(store)
    again = await opened(kit, 5 * ROW_BYTES)
    await commit(again, answer(9_999, 0))
    await until(lambda: figures(again) == (5 * ROW_BYTES, 5, 2_996), "the excess goes")
    assert kept(again, range(2_990, 3_000)) == [2_996, 2_997, 2_998, 2_999]
