"""What a process follows of its own commits comes from memory, and is what the log would tell."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iii.clock import FakeClock
from iii.errors import StoreClosed, StoreError
from iii.model import TAIL, Change, Delete, Enqueue, Mark, Merge, Op, Put, Txn
from iii.store.contract import Limits
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.apply import Applier
from iii.store.lmdb.recent import BYTES_MAX, CHANGE_BYTES, Recent


async def opened(folder: Path, **options: Any) -> LmdbStore:
    store = LmdbStore(folder / "data", clock=FakeClock(), map_bytes=64 << 20, **options)
    await store.open()
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = await opened(tmp_path)
    yield store
    await store.close()


async def put(store: LmdbStore, *values: str) -> None:
    """Each in a Txn of its own, all in one group."""
    await asyncio.gather(*(store.submit(Txn((Put("ns", "k", value.encode()),))) for value in values))


async def following(store: LmdbStore) -> None:
    """Somebody follows from here on."""
    task = asyncio.create_task(store.changes(store.version(), 1, None))
    await asyncio.sleep(0)
    task.cancel()


async def empty_the_log(store: LmdbStore) -> None:
    """Behind the store's back: whoever reads it finds nothing."""

    def apply(applier: Applier) -> None:
        for key, _ in list(applier.txn.cursor(applier.tables.change)):
            applier.delete(applier.tables.change, key)

    await store.call(apply)
    assert await store.changes(0, 100, 0) == []


async def told(store: LmdbStore, after: int, limit: int = 9) -> list[Change]:
    return await asyncio.wait_for(store.changes(after, limit, None), 20)


def news(changes: list[Change]) -> list[str]:
    return [(change.new or b"").decode() for change in changes]


async def test_who_follows_gets_the_changes_of_its_own_process_without_the_log(store: LmdbStore) -> None:
    await put(store, "0")
    await following(store)
    await put(store, "1", "2")
    await put(store, "3")
    await empty_the_log(store)
    assert news(await told(store, 1)) == ["1", "2", "3"]
    assert news(await told(store, 1, 2)) == ["1", "2"]
    assert news(await told(store, 2)) == ["2", "3"]


async def test_what_was_read_goes_and_nothing_is_kept_where_nobody_follows(store: LmdbStore) -> None:
    recent = store._writer.applier.state.recent
    await put(store, "1", "2")
    await store.changes(0, 9, 0)
    await put(store, "3")
    assert len(recent) == 0
    await following(store)
    await put(store, "4", "5")
    assert len(recent) == 2
    assert news(await told(store, 3)) == ["4", "5"]
    await following(store)
    await put(store, "6")
    assert len(recent) == 1
    for n in range(20):
        await put(store, f"{n:100000}")
    assert len(recent) == 0, "whoever followed has left"


async def test_a_change_of_another_process_in_between_is_not_missed(tmp_path: Path, store: LmdbStore) -> None:
    other = await opened(tmp_path)
    await following(store)
    for writer, value in ((store, "1"), (other, "2"), (store, "3"), (other, "4")):
        await put(writer, value)
        assert news(await told(store, 0)) == [str(n + 1) for n in range(int(value))]
    await following(store)
    await put(store, "5")
    await other.commit(Txn((Put("$own", "k", b"1"),)))  # a version without a change
    await put(store, "6")
    assert news(await told(store, 4)) == ["5", "6"]
    await other.close()


async def test_a_group_that_failed_leaves_nothing_to_who_follows(tmp_path: Path) -> None:
    """Another process gives its change the version that the failed one would have had."""
    fails = [False]

    def probe(stage: str, number: int) -> None:
        if stage == "applied" and fails[0]:
            raise RuntimeError("the disk is gone")

    store, other = await opened(tmp_path, probe=probe), await opened(tmp_path)
    await following(store)
    fails[0] = True
    with pytest.raises(StoreError):
        await put(store, "lost")
    fails[0] = False
    await put(other, "there")
    assert news(await told(store, 0)) == ["there"]
    for each in (store, other):
        await each.close()


class Name(StrEnum):
    SPACE = "ns"
    KEY = "k"


async def test_a_change_is_what_the_log_tells_whatever_becomes_of_the_txn(store: LmdbStore) -> None:
    await following(store)
    headers = {"traceparent": "t"}
    await store.commit(Txn((Put(Name.SPACE, Name.KEY, b"1"),), headers))
    headers["traceparent"] = "other"
    found, logged = await told(store, 0), await store.changes(0, 9, 0)
    assert found == logged == [Change(1, "ns", "k", None, b"1", {"traceparent": "t"})]
    assert [(type(each.namespace), type(each.key)) for each in found] == [(str, str)]


async def test_a_closed_store_tells_nothing_and_an_opened_one_starts_anew(store: LmdbStore) -> None:
    await following(store)
    await put(store, "1")
    await store.close()
    with pytest.raises(StoreClosed):
        await told(store, 0)
    await store.open()
    assert len(store._writer.applier.state.recent) == 0
    assert news(await told(store, 0)) == ["1"]


values = st.sampled_from([b"1", b"2", b'{"n":1}'])
ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(Put, st.sampled_from(["a", "b", "$own"]), st.sampled_from("kl"), values),
    st.builds(Put, st.just("a"), st.sampled_from("kl"), values, st.sampled_from([0, 1, 2])),
    st.builds(Delete, st.sampled_from(["a", "$own"]), st.sampled_from("kl")),
    st.builds(Merge, st.just("a"), st.just("k"), st.sampled_from([b'{"m":2}', b"[7]"])),
    st.builds(Enqueue, st.just("jobs"), st.just(b"")),
    st.builds(Mark, st.just(TAIL), st.integers(0, 20), st.sampled_from([None, 0, 5])),
)
group = st.lists(st.lists(ops, min_size=1, max_size=3), min_size=1, max_size=4)
acts = st.lists(
    st.one_of(
        st.tuples(st.just("own"), group),
        st.tuples(st.just("own"), group),
        st.tuples(st.just("other"), group),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("look"), st.integers(-6, 0)),
    ),
    max_size=12,
)


async def _follow(wanted: list[tuple[str, Any]], changes_max: int, folder: Path) -> None:
    limits = Limits(changes_max=changes_max)
    own, other = await opened(folder, limits=limits), await opened(folder, limits=limits)
    position = 0
    await following(own)
    for what, how in wanted:
        if what in ("own", "other"):
            store = own if what == "own" else other
            txns = [store.submit(Txn(ops, {"n": str(n)})) for n, ops in enumerate(how)]
            await asyncio.gather(*txns, return_exceptions=True)
            continue
        after, limit = (position, how) if what == "read" else (max(0, own.version() + how), 100)
        logged = await own.changes(after, limit, 0)
        if logged:  # else it would wait
            assert await told(own, after, limit) == logged
        if what == "read" and logged:
            position = logged[-1].version
    for store in (own, other):
        await store.close()


@settings(max_examples=60)
@given(wanted=acts, changes_max=st.sampled_from([2, 5, 10_000]))
def test_who_follows_is_told_what_the_log_holds(wanted: list[tuple[str, Any]], changes_max: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_follow(wanted, changes_max, Path(folder)))


# -- the run by itself


def change(version: int) -> Change:
    return Change(version, "ns", "k", None, b"1", {})


def kept(recent: Recent, *bounds: int) -> Recent:
    """Groups from each version to the next, a change for each version."""
    for begin, end in pairwise(bounds):
        recent.add(begin, end, [change(n) for n in range(begin + 1, end + 1)], 0)
    return recent


def asked(changes_max: int = 10_000, after: int = 0) -> Recent:
    recent = Recent(changes_max)
    recent.since(after, after, 1)
    return recent


def versions(found: list[Change] | None) -> list[int] | None:
    return None if found is None else [each.version for each in found]


@pytest.mark.parametrize(
    ("after", "version", "limit", "found"),
    [
        (4, 9, 99, None),
        (5, 9, 99, [6, 7, 8, 9]),
        (6, 9, 99, [7, 8, 9]),
        (7, 9, 99, [8, 9]),
        (5, 9, 3, [6, 7, 8]),
        (9, 9, 99, []),
        (12, 9, 99, []),
        (5, 10, 99, None),
        (9, 10, 99, None),
        (5, 8, 99, None),
    ],
)
def test_it_answers_only_where_it_holds_all_of_the_log(
    after: int, version: int, limit: int, found: list[int] | None
) -> None:
    assert versions(kept(asked(after=5), 5, 7, 9).since(after, version, limit)) == found


def test_above_the_stores_version_there_is_nothing_whatever_is_kept() -> None:
    assert asked().since(5, 5, 99) == []


def test_a_group_that_does_not_begin_at_the_end_begins_anew() -> None:
    recent = kept(asked(), 0, 2)
    kept(recent, 3, 5)
    assert versions(recent.since(0, 5, 99)) is None
    assert versions(recent.since(3, 5, 99)) == [4, 5]


def test_versions_without_changes_count() -> None:
    recent = asked()
    recent.add(0, 3, [change(2)], 0)
    recent.add(3, 4, [], 0)
    assert versions(recent.since(0, 4, 9)) == [2]
    assert versions(recent.since(2, 4, 9)) == []


def test_no_more_is_kept_than_the_log_keeps() -> None:
    recent = kept(asked(changes_max=4), 0, 2, 4, 6)
    assert versions(recent.since(0, 6, 99)) is None
    assert versions(recent.since(2, 6, 99)) == [3, 4, 5, 6]
    assert len(kept(asked(changes_max=4), 0, 5)) == 0


@pytest.mark.parametrize(
    "add",
    [
        lambda recent, n: recent.add(n, n + 1, [change(n + 1)], BYTES_MAX // 10),
        lambda recent, n: recent.add(n, n + 1, [change(n + 1)], 0),
        lambda recent, n: recent.add(n, n + 1, [], 0),
    ],
    ids=["large ones", "small ones", "none"],
)
def test_it_is_bounded_although_nobody_reads(add: Callable[[Recent, int], None]) -> None:
    recent, n = asked(), 0
    while recent.followed:
        add(recent, n)
        n += 1
        assert n * CHANGE_BYTES <= BYTES_MAX + CHANGE_BYTES
    assert len(recent) == 0 and recent.since(0, n, 99) is None
