"""What an operator may do to a store: look, redrive, purge, pause; beside engines that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from worker import next_message, take_now

from iii.clock import FakeClock
from iii.errors import InputError, QueueFull
from iii.model import ARCHIVE, Ack, DeadLetter, Enqueue, Lane, LanePolicy, Message, Op, Retry, Txn
from iii.store import bulk
from iii.store.bulk import set_paused
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore
from iii.store.memory import MemoryStore
from iii.store.operations import MessageRow, QueueRow, iso, peek, queue_rows

WORK = LanePolicy("mail", "SendMail")
LANE = Lane("mail", "SendMail")


@pytest.fixture(params=["memory", "lmdb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    clock = FakeClock()
    store: Store = MemoryStore(clock) if request.param == "memory" else LmdbStore(tmp_path, clock=clock)
    await store.open()
    await store.open_session([WORK])
    yield store
    assert store.verify() == []
    await store.close()


async def commit(store: Store, *ops: Op) -> list[int]:
    return [id for ids in (await store.commit(Txn(ops))).ids for id in ids]


async def take(store: Store, lane: Lane = LANE) -> Message:
    return await next_message(store, lane)


async def die(store: Store, message: Message, dead_letter_queue: str = "mail.failed") -> None:
    await commit(
        store,
        Ack(message.lease, failed=True),
        Enqueue(
            dead_letter_queue,
            message.payload,
            priority=message.priority,
            group=message.group,
            headers=message.headers,
            step=ARCHIVE,
            id=message.lease.id,
            dead=DeadLetter(message.topic, message.step, "no such host", 4, store.clock.wall_ms()),
        ),
    )


async def redrive(store: Store, topic: str) -> int:
    return await bulk.redrive(store, bulk.select(store, topic, dead=True))


async def purge(store: Store, topic: str) -> int:
    return await bulk.discard(store, bulk.select(store, topic))


def row(store: Store, topic: str, step: str = "") -> QueueRow:
    (found,) = [each for each in queue_rows(store) if (each.topic, each.step) == (topic, step)]
    return found


async def test_a_dead_letter_shows_in_both_rows_and_says_where_it_died(store: Store) -> None:
    (id,) = await commit(store, Enqueue("mail", b'{"to":"ann"}', headers={"a": "b"}))
    await die(store, await take(store))
    assert (row(store, "mail", "SendMail").dead, row(store, "mail", "SendMail").ready) == (1, 0)
    archive = row(store, "mail.failed")
    assert (archive.dead, archive.ready, archive.oldest_ms) == (1, 0, None)
    (letter,) = peek(store, "mail.failed")
    assert (letter.id, letter.step, letter.state, letter.attempts) == (
        store.message_id(id),
        "",
        "dead",
        4,
    )
    assert (letter.error, letter.payload) == ("no such host", {"to": "ann"})
    assert letter.origin and (letter.origin.topic, letter.origin.step) == ("mail", "SendMail")
    assert peek(store, "mail") == []


async def test_an_archive_and_messages_nobody_takes_yet_are_one_row(store: Store) -> None:
    await commit(store, Enqueue("mail", b"1"), Enqueue("mail.failed", b"2"))
    await die(store, await take(store))
    clock = store.clock
    assert isinstance(clock, FakeClock)
    clock.advance(1500)
    merged = row(store, "mail.failed")
    assert (merged.ready, merged.dead, merged.oldest_ms) == (1, 1, 1500)


@pytest.mark.parametrize("named", ["mail.failed", "mail"])
async def test_redrive_runs_it_again_where_it_died_with_the_same_id(store: Store, named: str) -> None:
    (id,) = await commit(store, Enqueue("mail", b'"hi"', priority=200, group="g", headers={"a": "b"}))
    await die(store, await take(store))
    assert await redrive(store, named) == 1
    again = await take(store)
    assert (again.lease.id, again.payload, again.priority, again.group) == (id, b'"hi"', 200, "g")
    assert (again.attempt, again.headers) == (1, {"a": "b"})
    assert row(store, "mail.failed").dead == 0
    await commit(store, Ack(again.lease))


async def test_redrive_of_an_origin_takes_its_own_letters_from_every_archive(store: Store) -> None:
    await store.close_session()
    await store.open_session([WORK, LanePolicy("sms", "SendSms")])
    for topic, dead_letter_queue in (("mail", "graves"), ("sms", "graves"), ("mail", "mail.failed")):
        await commit(store, Enqueue(topic, b"1"))
        lane = Lane(topic, {"mail": "SendMail", "sms": "SendSms"}[topic])
        await die(store, await take(store, lane), dead_letter_queue)
    assert await redrive(store, "mail") == 2
    assert (row(store, "graves").dead, row(store, "mail.failed").dead) == (1, 0)
    assert (row(store, "mail", "SendMail").ready, row(store, "sms", "SendSms").ready) == (2, 0)


async def test_redrive_sends_every_letter_of_a_group_in_its_order(store: Store) -> None:
    ids = await commit(store, *[Enqueue("mail", b"%d" % n, group="ann") for n in range(3)])
    for _ in ids:
        await die(store, await take(store))
    assert row(store, "mail.failed").dead == 3
    assert await redrive(store, "mail") == 3
    again = []
    for _ in ids:
        message = await take(store)
        again.append(message.lease.id)
        await commit(store, Ack(message.lease))
    assert again == ids


async def test_redrive_of_an_origin_takes_its_letters_from_behind_anothers(store: Store) -> None:
    await store.close_session()
    await store.open_session([WORK, LanePolicy("sms", "SendSms")])
    for topic, step in (("sms", "SendSms"), ("mail", "SendMail"), ("mail", "SendMail")):
        await commit(store, Enqueue(topic, b"1", group="ann"))
        await die(store, await take(store, Lane(topic, step)), "graves")
    assert await redrive(store, "mail") == 2
    assert [letter.dead and letter.dead.topic for letter in store.waiting("graves")] == ["sms"]


async def test_a_redrive_ends_although_each_letter_fails_again_at_once(store: Store) -> None:
    await commit(store, Enqueue("mail", b"1"), Enqueue("mail", b"2", group="ann"))
    for message in await take_now(store, {LANE: 2}):
        await die(store, message)

    async def fail_again() -> None:
        while True:
            await die(store, await take(store))

    worker = asyncio.create_task(fail_again())
    assert await asyncio.wait_for(redrive(store, "mail.failed"), 20) == 2
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_redrive_of_many_and_of_none(store: Store) -> None:
    count = 600  # more than one chunk
    ids = await commit(store, *[Enqueue("mail", b"%d" % n) for n in range(count)])
    for message in await take_now(store, {LANE: count}):
        await die(store, message)
    assert await redrive(store, "mail.failed") == count
    assert await redrive(store, "mail.failed") == 0
    assert await redrive(store, "unknown") == 0
    waiting = store.waiting("mail", limit=count)
    assert sorted(message.id for message in waiting) == sorted(ids)


async def test_redrive_ends_at_the_lanes_depth_and_loses_nothing(store: Store) -> None:
    await commit(store, *[Enqueue("mail", b"1") for _ in range(3)])
    for message in await take_now(store, {LANE: 3}):
        await die(store, message)
    await store.close_session()
    await store.open_session([LanePolicy("mail", "SendMail", max_depth=2)])
    with pytest.raises(QueueFull):
        await redrive(store, "mail.failed")
    assert (row(store, "mail", "SendMail").ready, row(store, "mail.failed").dead) == (2, 1)


async def test_purge_takes_all_that_waits_and_leaves_what_runs(store: Store) -> None:
    await commit(store, Enqueue("mail", b"0"))
    running = await take(store)
    await commit(
        store,
        Enqueue("mail", b"1", group="g"),
        Enqueue("mail", b"2", group="g"),
        Enqueue("mail", b"3", group="g"),
        Enqueue("mail", b"4", delay_ms=60_000),
        Enqueue("mail", b"5", group="delayed", delay_ms=60_000),
        Enqueue("mail", b"6", group="delayed"),
        Enqueue("other", b"7"),
    )
    assert await purge(store, "mail") == 6
    left = row(store, "mail", "SendMail")
    assert (left.ready, left.delayed, left.behind, left.leased) == (0, 0, 0, 1)
    assert row(store, "other").ready == 1
    await commit(store, Ack(running.lease))


async def test_purge_of_a_dead_letter_topic_empties_its_archive(store: Store) -> None:
    await commit(store, Enqueue("mail", b"0"))
    await die(store, await take(store))
    assert await purge(store, "mail.failed") == 1
    assert row(store, "mail", "SendMail").dead == 0
    assert await redrive(store, "mail") == 0


async def test_a_paused_topic_grants_nothing_until_it_is_resumed(store: Store) -> None:
    assert await set_paused(store, "mail", True) == ["SendMail"]
    await commit(store, Enqueue("mail", b"0"))
    assert await take_now(store, {LANE: 1}) == []
    assert row(store, "mail", "SendMail").paused
    await set_paused(store, "mail", False)
    await commit(store, Ack((await take(store)).lease))


async def test_an_unknown_topic_cannot_be_paused(store: Store) -> None:
    with pytest.raises(InputError, match=r'no topic "mial".*did you mean "mail"'):
        await set_paused(store, "mial", True)


async def test_peek_shows_when_a_message_is_due_and_why_it_failed(store: Store) -> None:
    await commit(store, Enqueue("mail", b"not json \xff"))
    message = await take(store)
    await commit(store, Retry(message.lease, 5000, "no such host"))
    (seen,) = peek(store, "mail")
    assert (seen.state, seen.attempts, seen.error) == ("delayed", 1, "no such host")
    assert (seen.enqueued_at, seen.due_at) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z")
    assert seen.payload == "not json \N{REPLACEMENT CHARACTER}"
    assert isinstance(seen, MessageRow)


async def test_lanes_of_http_are_not_shown(store: Store) -> None:
    await commit(store, Enqueue("$http/keys", b"0"), Enqueue("$cron/Cleanup", b"1"))
    assert [each.topic for each in queue_rows(store)] == ["$cron/Cleanup", "mail"]


def test_dates_are_utc_with_milliseconds() -> None:
    assert iso(1_767_225_600_007) == "2026-01-01T00:00:00.007Z"
