"""Looking at messages a page at a time, over every store."""

from __future__ import annotations

import pytest
from store_kit import JOBS, MAIL, StoreKit, commit, dead, enqueue, stats, take, take_one, work

from iii.model import ARCHIVE, MessageState, Page, Retry, Waiting
from iii.store.contract import Store


def browse_all(store: Store, state: MessageState, *, step: str = "Work", limit: int = 2) -> list[Waiting]:
    """Every message, by pages of `limit` rows."""
    found: list[Waiting] = []
    after = b""
    while True:
        page = store.browse("jobs", step, state, after=after, limit=limit)
        assert page.looked_at <= limit
        found += [message for _, message in page.messages]
        if page.next is None:
            return found
        after = page.next


def find_all(store: Store, id: int) -> Waiting | None:
    """As Store.find, going on for as long as there is more to look at."""
    message, after = store.find(id, limit=2)
    while message is None and after is not None:
        message, after = store.find(id, after=after, limit=2)
    return message


@pytest.fixture
async def store(kit: StoreKit) -> Store:
    """Five ready in three priorities, three delayed, two groups of three, one leased; the same for Mail."""
    store = await work(kit, JOBS, MAIL)
    await enqueue(store, b"first", priority=255)
    await take_one(store)
    for priority in (128, 10, 200, 128, 10):
        await enqueue(store, b"ready %d" % priority, priority=priority)
    for delay_ms in (9_000, 3_000, 6_000):
        await enqueue(store, b"later", delay_ms=delay_ms)
    for number in range(3):
        await enqueue(store, b"a%d" % number, group="a", delay_ms=1_000)
        await enqueue(store, b"b%d" % number, group="b", delay_ms=1_000)
    return store


async def test_pages_hold_every_message_of_a_state_once(store: Store) -> None:
    states: tuple[MessageState, ...] = ("ready", "later", "behind", "leased")
    for state in states:
        waiting = store.waiting("jobs", step="Work", states=(state,))
        browsed = browse_all(store, state)
        assert sorted(browsed, key=lambda each: each.id) == sorted(waiting, key=lambda each: each.id)
    assert [each.priority for each in browse_all(store, "ready")] == [200, 128, 128, 10, 10]
    assert [each.due_ms for each in browse_all(store, "later")] == sorted(
        each.due_ms or 0 for each in store.waiting("jobs", step="Work", states=("later",))
    )


async def test_a_page_reads_no_more_rows_than_it_may(store: Store) -> None:
    page = store.browse("jobs", "Mail", "later", limit=3)
    assert page.looked_at == 3 and page.next is not None, "the rows of other lanes count too"
    assert store.browse("jobs", "Nobody", "ready") == Page([], 0, None)


async def test_a_cursor_goes_on_where_its_message_has_left(store: Store) -> None:
    [(first, _), (second, _)] = store.browse("jobs", "Work", "ready", limit=2).messages
    expected = [each.id for each in browse_all(store, "ready")][2:]
    await take(store, 2)
    for cursor in (first, second):
        rest = store.browse("jobs", "Work", "ready", after=cursor).messages
        assert [message.id for _, message in rest] == expected


async def test_a_leased_message_names_its_session(store: Store) -> None:
    [leased] = browse_all(store, "leased")
    assert leased.session == store.session != 0
    assert [each.session for each in store.waiting("jobs", step="Work", states=("leased",))] == [
        store.session
    ]
    assert {each.session for each in browse_all(store, "ready")} == {0}


async def test_a_message_is_found_by_its_id_wherever_it_lies(store: Store) -> None:
    everywhere = store.waiting("jobs", limit=1_000)
    assert {each.state for each in everywhere} == {"ready", "later", "behind", "leased"}
    for message in everywhere:
        assert find_all(store, message.id) == message
    assert find_all(store, 1_000_000) is None


async def test_a_dead_letter_is_found_by_its_id(kit: StoreKit) -> None:
    store = await work(kit)
    [id] = await enqueue(store, b"x" * 5_000)
    await commit(store, *dead(await take_one(store)))
    letter = find_all(store, id)
    assert letter is not None and (letter.step, letter.payload) == (ARCHIVE, b"x" * 5_000)


async def test_the_head_of_a_group_is_the_one_the_others_wait_behind(kit: StoreKit) -> None:
    store = await work(kit)
    [[first], [second]] = [await enqueue(store, group="g") for _ in range(2)]
    assert store.head("jobs", "Work", "g") == first
    message = await take_one(store)
    assert store.head("jobs", "Work", "g") == first, "while it runs too"
    await commit(store, Retry(message.lease, 60_000, "broke"))
    assert store.head("jobs", "Work", "g") == first, "and until its retry"
    assert store.head("jobs", "Work", "h") is None and store.head("jobs", "Nobody", "g") is None
    assert stats(store).behind == 1 and second > first
