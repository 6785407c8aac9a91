"""What a message is called outside: the same as long as it is there, read in full or by its number alone."""

from __future__ import annotations

import re

import pytest
from store_kit import StoreKit, commit, crash_with, dead, enqueue, take, take_one, work

from iii.model import ARCHIVE, Release, Retry
from iii.store import bulk
from iii.store.search import Wanted, places, search

SHAPE = re.compile(r"[0-9a-f]{12}-[1-9][0-9]*")
ANOTHER = "fedcba987654"


async def test_a_message_is_called_the_same_over_tries_releases_crashes_and_its_redrive(
    kit: StoreKit,
) -> None:
    store = await work(kit)
    (number,) = await enqueue(store)
    id = store.message_id(number)
    assert SHAPE.fullmatch(id) and id.endswith(f"-{number}")
    for settle in (Retry, Release):
        message = await take_one(store)
        assert store.message_id(message.lease.id) == id
        await commit(store, Retry(message.lease, 0, "no") if settle is Retry else Release(message.lease))
    store = await crash_with(kit, store, [await take_one(store)])
    message = await take_one(store)
    assert (message.crashes, store.message_id(message.lease.id)) == (1, id)
    await commit(store, *dead(message))
    (letter,) = store.waiting("jobs.failed", step=ARCHIVE)
    assert store.message_id(letter.id) == id
    assert await bulk.redrive(store, bulk.select(store, "jobs", dead=True)) == 1
    assert store.message_id((await take_one(store)).lease.id) == id


async def test_a_message_is_called_the_same_after_every_restart(kit: StoreKit) -> None:
    store = await kit.make()
    ids = []
    for _ in range(3):
        ids.append(store.message_id((await enqueue(store))[0]))
        await kit.close_all()
        store = await kit.make()
    assert [store.message_id(each.id) for each in store.waiting("jobs")] == ids
    await kit.kill_all()
    store = await work(kit)
    assert [store.message_id(message.lease.id) for message in await take(store, 9)] == ids


async def test_every_process_calls_it_the_same_whoever_came_first(kit: StoreKit) -> None:
    looker, writer = await kit.make(), await kit.make()
    ids = [writer.message_id(number) for number in await enqueue(writer)]
    late = await work(kit)
    ids += [late.message_id(number) for number in await enqueue(late)]
    ids += [looker.message_id(number) for number in await enqueue(looker)]
    for store in (looker, writer, late):
        assert [store.message_id(each.id) for each in store.waiting("jobs")] == ids
    assert len({id.split("-")[0] for id in ids}) == 1, "processes that overlap write in one epoch"


async def test_an_id_is_read_in_full_or_by_its_number_alone(kit: StoreKit) -> None:
    store = await kit.make()
    (number,) = await enqueue(store)
    id = store.message_id(number)
    assert store.number_of(id) == store.number_of(str(number)) == number
    assert store.number_of(f"{ANOTHER}-{number}") is None, "that message is another store's"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", " 1", "1 ", "01", "1.0", "1e3", "x", "abc-1", "http-0123456789abcdef", "١", "1" * 19]
    + ["-".join(("0" * 12, end)) for end in ("", "x", "01", "-1", "1-1", "1" * 19)],
)
async def test_what_looks_like_no_id_names_no_message(kit: StoreKit, text: str) -> None:
    assert (await kit.make()).number_of(text) is None


async def test_a_search_finds_a_message_by_its_id_in_either_form(kit: StoreKit) -> None:
    store = await kit.make()
    numbers = [(await enqueue(store, b"payload"))[0] for _ in range(12)]
    for q in (store.message_id(numbers[1]), str(numbers[1])):
        found = await search(store, places(store, "jobs"), Wanted(q=q))
        assert [message.id for message in found.messages] == [numbers[1]]
    found = await search(store, places(store, "jobs"), Wanted(q=f"{ANOTHER}-{numbers[1]}"))
    assert found.messages == []
