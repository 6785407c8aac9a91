"""Credits in the LMDB store: which groups they need, whom a commit wakes, what a failed group leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from deadline import DEADLINE_S
from worker import inbox, next_message, take_now

from iii.clock import FakeClock
from iii.errors import LeaseLost, StoreError
from iii.model import Ack, Enqueue, Lane, LanePolicy, Op, Pause, Put, Retry, Return, Txn
from iii.store.lmdb import LmdbStore, sessions, suspects
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.writer import FAILURE_PAUSE_MS

A, B = Lane("t", "A"), Lane("t", "B")


class Groups:
    """A probe that counts the write transactions of its store, and fails them with `errors` one by one."""

    def __init__(self, fails: str = "applied") -> None:
        self.begun, self._fails = 0, fails
        self.errors: list[Exception] = []

    def __call__(self, stage: str, number: int) -> None:
        self.begun += stage == "before"
        if stage == self._fails and self.errors:
            raise self.errors.pop(0)


class Listening(LmdbStore):
    """Counts how often another store's commit woke it."""

    rings = 0

    def rung(self) -> None:
        self.rings += 1
        super().rung()


async def _work(
    folder: Path, *lanes: Lane, probe: Groups | None = None, clock: FakeClock | None = None, **policy: int
) -> Listening:
    store = Listening(folder / "data", clock=clock or FakeClock(), probe=probe)
    await store.open()
    await store.open_session([LanePolicy(*lane, **policy) for lane in lanes])
    return store


async def _commit(store: LmdbStore, *ops: Op) -> None:
    await store.commit(Txn(ops))


async def _heard(store: Listening, count: int) -> None:
    """Until it was rung so often, and its writer has looked what there is."""
    async with asyncio.timeout(DEADLINE_S):
        while store.rings < count:
            await asyncio.sleep(0)
    await store.credit({})


def _leased(store: LmdbStore) -> int:
    return sum(row.leased for row in store.stats())


async def test_levels_need_no_write_transaction_where_there_is_nothing_to_grant(tmp_path: Path) -> None:
    groups = Groups()
    store = await _work(tmp_path, A, B, probe=groups)
    await _commit(store, Enqueue("t", b"x", step="A"), Pause("t", "A", True))
    begun = groups.begun
    await store.credit({A: 5, B: 5})
    await store.credit({A: 1, B: 0})
    await store.credit({B: 7})
    assert groups.begun == begun
    await _commit(store, Pause("t", "A", False))
    assert len(inbox(store)) == 0 and _leased(store) == 1, "granted before anybody listened"
    await store.close()


@pytest.mark.parametrize("reason", ["paused", "capped", "level reached", "no credit"])
async def test_a_backlog_of_which_nothing_may_be_granted_takes_no_write_transaction(
    tmp_path: Path, reason: str
) -> None:
    clock, groups = FakeClock(), Groups()
    cap = {"max_in_flight": 1} if reason == "capped" else {}
    here = await _work(tmp_path, A, B, probe=groups, clock=clock, **cap)
    there = await _work(tmp_path, B, clock=clock)
    await here.credit({A: 0 if reason == "no credit" else 1 if reason == "level reached" else 3, B: 3})
    if reason == "paused":
        await _commit(here, Pause("t", "A", True))
    await _commit(here, *[Enqueue("t", b"x", step="A")] * 2_000)
    rings, begun = here.rings, groups.begun
    for n in range(1, 11):
        await _commit(there, Enqueue("t", b"x", step="A"))
        await _heard(here, rings + n)
    assert groups.begun == begun
    await here.close()
    await there.close()


async def test_a_commit_wakes_other_instances_only_where_it_leaves_them_something(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = await _work(tmp_path, A, clock=clock), await _work(tmp_path, B, clock=clock)
    waiting = asyncio.ensure_future(next_message(there, B))
    await _commit(there, Put("$ns", "k", b"1"))
    own = asyncio.ensure_future(next_message(here, A))
    await asyncio.sleep(0)
    await here.credit({})
    rings = there.rings
    await _commit(here, Enqueue("t", b"x", step="A"))
    await _commit(here, Ack((await own).lease))
    await _commit(there, Put("$ns", "k", b"2"))  # by now a ring would have been heard
    assert there.rings == rings
    await _commit(here, Put("ns", "k", b"1"))
    await _commit(there, Put("$ns", "k", b"3"))
    assert there.rings == rings + 1
    await _commit(here, Enqueue("t", b"y", step="B"))
    assert (await waiting).payload == b"y"
    await here.close()
    await there.close()


async def test_each_group_grants_what_it_enqueues_beside_a_peer_too(tmp_path: Path) -> None:
    clock = FakeClock()
    store, peer = await _work(tmp_path, A, clock=clock), await _work(tmp_path, B, clock=clock)
    box = inbox(store)
    await store.credit({A: 3})
    groups = store.meter.groups
    for n in range(5):
        await _commit(store, Enqueue("t", b"%d" % n, step="A"))
    assert [message.payload for message in box.take()] == [b"0", b"1", b"2"]
    assert store.meter.groups == groups + 5
    await store.close()
    await peer.close()


async def test_what_a_failed_group_granted_is_granted_again(tmp_path: Path) -> None:
    groups = Groups()
    store = await _work(tmp_path, A, probe=groups)
    box = inbox(store)
    await store.credit({A: 3})
    await _commit(store, Enqueue("t", b"first", step="A"))
    groups.errors.append(RuntimeError("broken"))
    with pytest.raises(StoreError):
        await _commit(store, Enqueue("t", b"lost", step="A"))
    for payload in (b"second", b"third", b"fourth"):
        await _commit(store, Enqueue("t", payload, step="A"))
    assert [message.payload for message in box.take()] == [b"first", b"second", b"third"]
    assert _leased(store) == 3 and store.verify() == []
    await store.close()


@pytest.mark.parametrize("fails", ["before", "applied"])
async def test_a_level_in_a_group_that_fails_is_set_all_the_same(tmp_path: Path, fails: str) -> None:
    groups = Groups(fails)
    store = await _work(tmp_path, A, probe=groups)
    box = inbox(store)
    groups.errors.append(RuntimeError("broken"))
    refused = store.submit(Txn([Enqueue("t", b"lost", step="A")]))
    await store.credit({A: 1})
    assert isinstance(refused.exception(), StoreError)
    await _commit(store, Enqueue("t", b"x", step="A"))
    assert [message.payload for message in box.take()] == [b"x"]
    await store.close()


async def test_a_session_that_buries_itself_settles_nothing_more_in_that_group(tmp_path: Path) -> None:
    clock = FakeClock()
    store, peer = await _work(tmp_path, A, clock=clock), await _work(tmp_path, A, clock=clock)
    box, session = inbox(store), store.session
    await store.credit({A: 1})
    await _commit(store, Enqueue("t", b"x", step="A"))
    [message] = box.take()
    buried = asyncio.ensure_future(store.call(lambda applier: sessions.recover(applier, session, [])))
    await asyncio.sleep(0)
    settled = store.submit(Txn([Ack(message.lease), Put("ns", "k", b"1")]))
    await asyncio.wait([buried, settled])
    assert isinstance(settled.exception(), LeaseLost) and store.get("ns", "k") is None
    assert store.verify() == []
    [again] = await box.all(1)
    assert again.payload == b"x" and again.lease.session == store.session != session
    await store.close()
    await peer.close()


def _in_each_group(store: LmdbStore) -> tuple[list[tuple[int, int]], Callable[[str, int], None]]:
    """(ready, leased) of lane A after each commit."""
    seen: list[tuple[int, int]] = []

    def probe(stage: str, number: int) -> None:
        if stage == "after":
            lane = store._writer.applier.catalog.lanes[A]
            seen.append((lane.ready, lane.leased))

    return seen, probe


async def test_without_room_settlements_come_first_then_what_is_granted_and_the_rest_grants_nothing(
    tmp_path: Path,
) -> None:
    clock, groups = FakeClock(), Groups()
    store = await _work(tmp_path, A, probe=groups, clock=clock)
    box = inbox(store)
    await store.credit({A: 2})
    await _commit(store, *(Enqueue("t", b"%d" % n, step="A") for n in range(4)))
    first, second = box.take()
    seen, probe = _in_each_group(store)
    store._writer._probe = lambda stage, number: (groups(stage, number), probe(stage, number))  # type: ignore[assignment]
    groups.errors.append(lmdb.MapFullError("full"))
    with_effects = Txn([Retry(second.lease, 0, "again"), Put("ns", "k", b"1")])
    txns = [Txn([Enqueue("t", b"new", step="A")]), with_effects, Txn([Ack(first.lease)])]
    await asyncio.gather(*map(store.commit, txns))
    await store.credit({})
    assert seen == [(2, 1), (1, 2), (2, 1), (3, 1)]
    assert [message.payload for message in box.take()] == [b"2"]
    clock.advance(FAILURE_PAUSE_MS)
    await _commit(store)
    await asyncio.wait_for(box.all(1), DEADLINE_S)
    assert _leased(store) == 2 and store.verify() == []
    await store.close()


async def test_what_was_delivered_to_a_buried_session_is_not_delivered_to_the_next(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = await _work(tmp_path, A, clock=clock), await _work(tmp_path, A, clock=clock)
    box, session = inbox(here), here.session
    await here.credit({A: 2})
    await _commit(here, *(Enqueue("t", b"%d" % n, step="A") for n in range(3)))
    assert len(box.take()) == 2
    await there.call(lambda applier: sessions.recover(applier, session, []))
    taken = await take_now(there, {A: 9})
    assert [message.payload for message in taken] == [b"0", b"1", b"2"]
    await _commit(here, Put("n", "k", b"1"))
    async with asyncio.timeout(DEADLINE_S):
        while here.session in (0, session):
            await asyncio.sleep(0)
    await _commit(there, Return(taken[2].lease))
    [again] = await box.all(1)
    assert (again.payload, again.lease.session) == (b"2", here.session)
    await here.close()
    await there.close()


async def test_a_closed_store_answers_whoever_waits_for_a_level(tmp_path: Path) -> None:
    store = await _work(tmp_path, A)
    waiting = store.credit({A: 1})
    await asyncio.gather(store.close(), waiting)
    with pytest.raises(StoreError):
        store.credit({A: 0})


async def test_a_suspect_that_an_earlier_version_took_is_listed_no_more_once_it_is_looked_for(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    store = await _work(tmp_path, A, clock=clock)
    await _commit(store, Enqueue("t", b"x", step="A"))
    [message] = await take_now(store, {A: 1})
    await _commit(store, Ack(message.lease))

    def list_one(applier: Applier) -> None:
        lane = applier.catalog.lanes[A]
        applier.touch(lane)
        suspects.list_suspect(applier, lane, 255 - message.priority, message.lease.id)

    await store.call(list_one)
    assert store.verify() == ["suspect 1 is listed, and not ready"]
    quarantine = LmdbStore(tmp_path / "data", clock=clock)
    await quarantine.open()
    await quarantine.open_session([LanePolicy(*A)], "only")
    await quarantine.credit({A: 1})
    assert quarantine.verify() == [], "although nothing at all is ready"
    await quarantine.close()
    await store.close()


async def test_the_number_of_a_lane_that_a_failed_group_made_may_be_another_lanes(tmp_path: Path) -> None:
    clock, groups = FakeClock(), Groups()
    here, there = await _work(tmp_path, A, probe=groups, clock=clock), await _work(tmp_path, A, clock=clock)
    groups.errors.append(RuntimeError("broken"))
    with pytest.raises(StoreError):
        await _commit(here, Enqueue("ours", b"lost"))
    await _commit(there, Enqueue("theirs", b"1"))
    await _commit(here, Enqueue("ours", b"2"))
    await _commit(here, Enqueue("theirs", b"3"))
    lying = {topic: [one.payload for one in there.waiting(topic)] for topic in ("ours", "theirs")}
    assert lying == {"ours": [b"2"], "theirs": [b"1", b"3"]} and there.verify() == []
    await here.close()
    await there.close()
