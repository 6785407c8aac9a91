"""Topics without a step, whose names may come from strangers: how many a store knows. Guarantee 16."""

from __future__ import annotations

import pytest
from store_kit import JOBS, StoreKit, commit, enqueue, kill, until, work

from iii.errors import QueueFull
from iii.model import Discard, Enqueue, LanePolicy, Pause, Unique
from iii.store.contract import Limits, Store

LIMITS = Limits(topics_max=3)


def waiting(store: Store) -> list[str]:
    return [row.topic for row in store.stats() if not row.step]


async def test_16_a_topic_without_a_step_is_refused_beyond_the_bound_and_writes_nothing(
    kit: StoreKit,
) -> None:
    store = await work(kit, limits=LIMITS)
    for topic in ("a", "b", "c"):
        await enqueue(store, topic=topic)
    with pytest.raises(QueueFull, match="3 topics without a step"):
        await enqueue(store, topic="d")
    assert waiting(store) == ["a", "b", "c"]
    assert await enqueue(store, topic="c") == [4], "a topic that is known takes more"
    assert await enqueue(store) == [5], "and one that has a step"
    assert store.verify() == []


async def test_16_topics_in_which_nothing_lies_are_forgotten_for_others(kit: StoreKit) -> None:
    store = await work(kit, limits=LIMITS)
    for id, topic in enumerate(("a", "b", "c"), 1):
        await enqueue(store, topic=topic)
        await commit(store, Discard(topic, "", "ready", 128, id))
    await enqueue(store, topic="b")
    await enqueue(store, topic="d")
    await enqueue(store, topic="e")
    assert waiting(store) == ["b", "d", "e"]
    assert store.verify() == []


async def test_16_a_topic_that_the_same_txn_empties_is_forgotten_and_is_there_again_if_it_is_refused(
    kit: StoreKit,
) -> None:
    store = await work(kit, limits=LIMITS)
    for topic in ("a", "b", "c"):
        await enqueue(store, topic=topic)
    empties = Discard("a", "", "ready", 128, 1)
    with pytest.raises(QueueFull):
        await commit(store, empties, Enqueue("d", b"x"), Enqueue("e", b"x"))
    assert waiting(store) == ["a", "b", "c"]
    assert [each.id for each in store.waiting("a")] == [1]
    assert store.verify() == []
    await commit(store, empties, Enqueue("d", b"x"))
    assert waiting(store) == ["b", "c", "d"]
    assert store.verify() == []


async def test_16_a_key_that_expired_no_longer_holds_its_topic(kit: StoreKit) -> None:
    store = await work(kit, limits=LIMITS)
    for topic in ("a", "b"):
        await enqueue(store, topic=topic)
    await enqueue(store, topic="keyed", unique=Unique("once", 1_000))
    await commit(store, Discard("keyed", "", "ready", 128, 3))
    with pytest.raises(QueueFull):
        await enqueue(store, topic="d")
    kit.clock.advance(1_001)
    await enqueue(store, topic="d")
    assert waiting(store) == ["a", "b", "d"]


async def test_16_a_topic_with_rules_a_pause_or_a_known_key_is_not_forgotten(kit: StoreKit) -> None:
    store = await kit.make(LIMITS)
    await store.open_session([LanePolicy("ruled", "", retention_ms=5_000)])
    await commit(store, Pause("paused", "", True))
    await enqueue(store, topic="keyed", unique=Unique("once", 60_000))
    await commit(store, Discard("keyed", "", "ready", 128, 1))
    with pytest.raises(QueueFull):
        await enqueue(store, topic="d")
    assert waiting(store) == ["keyed", "paused", "ruled"]
    assert await enqueue(store, topic="keyed", unique=Unique("once", 60_000)) == [1]


async def test_16_what_one_process_forgot_no_other_remembers(kit: StoreKit) -> None:
    one, other = await work(kit, limits=LIMITS), await work(kit, limits=LIMITS)
    for topic in ("a", "b", "c"):
        await enqueue(other, topic=topic)
    await commit(other, Discard("a", "", "ready", 128, 1))
    await enqueue(one, topic="d")
    assert waiting(other) == ["b", "c", "d"]
    assert await enqueue(other, topic="b") == [5]
    with pytest.raises(QueueFull):
        await enqueue(other, topic="a")
    await kill(kit, one, other)
    await until(lambda: other.verify() == [], "whoever is left agrees with the file")
    assert other.unsettled([JOBS]) == 0


async def test_16_messages_of_one_txn_make_no_more_topics_than_there_may_be(kit: StoreKit) -> None:
    store = await work(kit, limits=LIMITS)
    with pytest.raises(QueueFull):
        await commit(store, *(Enqueue(f"t{number}", b"x") for number in range(4)))
    assert waiting(store) == []
    await commit(store, *(Enqueue(f"u{number}", b"x") for number in range(3)))
    assert waiting(store) == ["u0", "u1", "u2"]
    assert store.verify() == []
