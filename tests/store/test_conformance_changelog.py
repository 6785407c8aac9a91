"""The change log is bounded by bytes: what gives way, what is kept for whom, and who is refused meanwhile."""

from __future__ import annotations

import pytest
from store_kit import StoreKit, commit, enqueue, take_one, work

from iii.errors import ChangesHeld
from iii.model import TAIL, Ack, Delete, Lane, Mark, Merge, Put, Txn
from iii.store.contract import Limits, Store
from iii.store.keeping import FORGOTTEN

MOST = 1 << 20
VALUE = 64 << 10
WATCH = Lane("$state/Audit", "Audit")
MARK = "trigger/Audit/0"
LIMITS = Limits(changes_bytes_max=MOST)


async def overwrite(
    store: Store, times: int, *, size: int = VALUE, key: str = "k", namespace: str = "ns"
) -> None:
    """Another value each time."""
    for _ in range(times):
        await commit(store, Put(namespace, key, b"%020d" % (store.version() + 1) + b"v" * size))


async def held_bytes(store: Store) -> int:
    changes = await store.changes(0, 1_000_000, 0)
    return sum(len(each.old or b"") + len(each.new or b"") for each in changes)


async def watched(kit: StoreKit) -> Store:
    """A store whose session serves the trigger, which has seen nothing yet."""
    store = await work(kit, WATCH, limits=LIMITS)
    await commit(store, Mark(MARK, 0, None), Mark(TAIL, 0, None))
    return store


async def settle_writing(store: Store, times: int) -> None:
    """Messages whose handlers overwrite the key."""
    for n in range(times):
        effect = Put("ns", "k", b"%d" % n + b"v" * VALUE)
        await commit(store, Ack((await take_one(store)).lease), effect)


async def fill(store: Store) -> ChangesHeld:
    """Overwrite until that is refused."""
    with pytest.raises(ChangesHeld) as refused:
        await overwrite(store, 200)
    return refused.value


@pytest.mark.parametrize(("size", "times"), [(VALUE, 200), (300 << 10, 20), (10, 3_000)])
async def test_22_the_log_holds_its_bound_and_the_newest_changes_stay(
    kit: StoreKit, size: int, times: int
) -> None:
    store = await kit.make(Limits(changes_bytes_max=MOST, changes_max=2_000))
    for n in range(times):
        await commit(store, Put("ns", f"k{n % 2}", b"%08d" % n + b"v" * size))
        if size > 10:
            assert await held_bytes(store) <= MOST
    changes = await store.changes(0, 100_000, 0)
    assert [each.version for each in changes] == list(range(changes[0].version, times + 1))
    assert len(changes) >= (2_000 if size == 10 else 1)


async def test_22_a_log_that_nobody_waits_for_never_refuses(kit: StoreKit) -> None:
    store = await kit.make(LIMITS)
    for namespace in ("a", "b", "c"):
        await overwrite(store, 60, namespace=namespace)
    assert await held_bytes(store) <= MOST
    await commit(store, Mark(TAIL, store.version() - 1, None))
    await overwrite(store, 200)
    assert await held_bytes(store) <= MOST


async def test_22_a_trigger_that_no_session_serves_is_forgotten_beyond_the_bound(kit: StoreKit) -> None:
    store = await kit.make(LIMITS)
    await commit(store, Mark(MARK, 0, None), Mark(TAIL, 0, None))
    await overwrite(store, 4)
    assert not store.marks(FORGOTTEN) and (await store.changes(0, 1, 0))[0].version == 1
    await overwrite(store, 100)
    assert await held_bytes(store) <= MOST
    assert list(store.marks(FORGOTTEN)) == ["forgotten/Audit/0"]
    assert (store.mark(TAIL) or 0) > 0 and store.mark(MARK) == 0


async def test_22_a_trigger_that_is_served_loses_nothing_and_is_named_where_writes_are_refused(
    kit: StoreKit,
) -> None:
    store = await watched(kit)
    refused = await fill(store)
    assert "step Audit" in str(refused) and "store.max_changes" in str(refused)
    kept = await store.changes(0, 1_000_000, 0)
    assert [each.version for each in kept] == list(range(1, store.version() + 1))
    assert 4 * MOST - 4 * VALUE <= await held_bytes(store) <= 4 * MOST + 4 * VALUE


async def test_22_what_deletes_or_settles_lands_while_the_log_is_held(kit: StoreKit) -> None:
    store = await watched(kit)
    other = await work(kit, limits=LIMITS)
    for _ in range(2):
        await enqueue(store)
    await fill(store)
    await commit(other, Ack((await take_one(other)).lease))
    await commit(other, Ack((await take_one(other)).lease), Put("ns", "effect", b"1"))
    await commit(store, Put("$own", "k", b"v" * VALUE))
    await commit(store, Delete("ns", "k"))
    assert store.get("ns", "k") is None and store.get("ns", "effect") is not None
    with pytest.raises(ChangesHeld):
        await overwrite(other, 1)


async def test_22_beyond_twice_as_much_effects_wait_too_but_not_those_of_state_triggers(
    kit: StoreKit,
) -> None:
    store = await watched(kit)
    other = await work(kit, limits=LIMITS)
    await enqueue(store, topic=WATCH.topic, step=WATCH.step)
    for _ in range(200):
        await enqueue(store)
    with pytest.raises(ChangesHeld):
        await settle_writing(other, 200)
    assert 8 * MOST - 4 * VALUE <= await held_bytes(store) <= 8 * MOST + 4 * VALUE
    message = await take_one(store, WATCH)
    await commit(store, Ack(message.lease), Put("ns", "seen", b"1"))


async def test_22_it_goes_on_by_itself_when_the_trigger_has_caught_up(kit: StoreKit) -> None:
    store = await watched(kit)
    await fill(store)
    await commit(store, Mark(MARK, store.version() - 2, 0))
    await overwrite(store, 20)
    await commit(store, Mark(MARK, store.version(), store.mark(MARK)))
    await overwrite(store, 1)
    assert await held_bytes(store) <= MOST


async def test_22_a_restart_forgets_nothing_of_a_trigger_that_lagged_behind(kit: StoreKit) -> None:
    """As long as not as much again comes while it is away."""
    store = await watched(kit)
    await overwrite(store, 20)
    assert await held_bytes(store) > MOST
    await kit.close(store)
    other = await kit.make(LIMITS)
    await overwrite(other, 4)
    again = await work(kit, WATCH, limits=LIMITS)
    await overwrite(other, 1)
    assert [each.version for each in await again.changes(0, 1_000, 0)] == list(range(1, 26))
    await kit.close(again)
    await overwrite(other, 100)
    assert other.marks(FORGOTTEN) and await held_bytes(other) <= MOST


@pytest.mark.parametrize("end", ["close", "kill"])
async def test_22_a_restart_while_writes_are_refused_forgets_nothing(kit: StoreKit, end: str) -> None:
    store = await watched(kit)
    await fill(store)
    newest = store.version()
    await (kit.close(store) if end == "close" else kit.kill_all())
    again = await work(kit, WATCH, limits=LIMITS)
    with pytest.raises(ChangesHeld):
        await overwrite(again, 5)
    kept = [each.version for each in await again.changes(0, 1_000, 0)]
    assert kept[:newest] == list(range(1, newest + 1)) and not any(again.marks(FORGOTTEN).values())


async def test_22_a_session_whose_process_died_unnoticed_holds_no_more_than_that(kit: StoreKit) -> None:
    await watched(kit)
    await kit.kill_all()
    store = await kit.make(LIMITS)
    await overwrite(store, 200)
    assert store.marks(FORGOTTEN) and await held_bytes(store) <= MOST


async def test_22_processes_that_come_and_go_without_a_session_serve_nothing(kit: StoreKit) -> None:
    store = await kit.make(LIMITS)
    await commit(store, Mark(MARK, 0, None), Mark(TAIL, 0, None))
    for _ in range(12):
        once = await kit.make(LIMITS)
        await overwrite(once, 1)
        await kit.close(once)
    assert store.marks(FORGOTTEN) and await held_bytes(store) <= MOST


async def test_22_many_stores_hold_one_bound(kit: StoreKit) -> None:
    stores = [await kit.make(LIMITS) for _ in range(3)]
    for n in range(90):
        await overwrite(stores[n % 3], 1, key=str(n % 5))
        assert await held_bytes(stores[0]) <= MOST


async def test_22_a_patch_of_a_few_bytes_counts_for_the_value_it_leaves(kit: StoreKit) -> None:
    store = await kit.make(Limits(changes_bytes_max=4 << 20))
    await commit(store, Put("ns", "big", b'{"n":0,"pad":"' + b"x" * (1 << 20) + b'"}'))
    patch = b'[{"type":"increment","path":"n"}]'
    futures = [store.submit(Txn((Merge("ns", "big", patch),))) for _ in range(60)]
    for future in futures:
        await future
    assert await held_bytes(store) <= 4 << 20
    assert (entry := store.get("ns", "big")) is not None and entry.value.startswith(b'{"n":60')


async def test_22_the_figures_name_the_trigger_that_holds_the_log_until_it_has_caught_up(
    kit: StoreKit,
) -> None:
    store = await watched(kit)
    assert store.figures().changes_held_by is None
    await fill(store)
    assert store.figures().changes_held_by == "Audit"
    assert store.figures().changes_bytes >= 4 * MOST
    await commit(store, Mark(MARK, store.version(), 0), Mark(TAIL, store.version(), 0))
    await commit(store, Put("ns", "k", b"v"))
    assert store.figures().changes_held_by is None
    assert store.figures().changes_bytes <= MOST
