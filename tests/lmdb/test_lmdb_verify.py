"""verify() finds what is broken: each row below breaks one invariant behind the store's back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from worker import take_now

from iii.clock import FakeClock
from iii.model import ARCHIVE, DeadLetter, Enqueue, Lane, LanePolicy, Mark, Put, Record, Txn, Unique
from iii.store.lmdb import LmdbStore, environment
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.keys import (
    BEHIND_HEAD,
    COUNTERS,
    COUNTERS_KEY,
    EPOCH,
    EPOCH_VALUE,
    EPOCHS_KEY,
    HELD,
    LANE_COUNTS,
    LEASE,
    LEASE_HEAD,
    READY,
    TABLES,
    held_key,
    lane_counts_key,
    placed_prefix,
    suspect_key,
    u32,
    u64,
)
from iii.store.lmdb.rows import ChangeRow, LaneRow, decode_row, decode_session, encode
from iii.store.quotas import ACT, RUN

JOBS = Lane("jobs", "Work")
Break = Callable[[Any, Any], object]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Environment]:
    """The environment that a store of this process on the same folder uses."""
    opened = environment.acquire(tmp_path / "data", "commit", 64 << 20)
    yield opened
    environment.release(opened)


async def _populated(folder: Path) -> LmdbStore:
    """A row in every table."""
    store = LmdbStore(folder, clock=FakeClock(), map_bytes=64 << 20)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    await store.commit(
        Txn(
            [
                Enqueue("jobs", b"leased"),
                Enqueue("jobs", b"head", group="g"),
                Enqueue("jobs", b"behind", group="g"),
                Enqueue("jobs", b"later", delay_ms=1000),
                Enqueue("jobs", b"large".ljust(5000)),
                Enqueue("jobs", b"unique", unique=Unique("key", 1000)),
                Enqueue("quiet", b"nobody's"),
                Enqueue("jobs.failed", b"", step=ARCHIVE, dead=DeadLetter("jobs", "Work", "no", 1, 0)),
                Put("ns", "a", b"1"),
                Put("ns", "b", b"1"),
                Mark("mark", 1, None),
                Record("run", b""),
                Record("audit", b""),
            ]
        )
    )
    assert len(await take_now(store, {JOBS: 1})) == 1
    assert store.verify() == []
    return store


def _first(txn: Any, table: Any) -> tuple[bytes, bytes]:
    cursor = txn.cursor(table)
    assert cursor.first()
    item: tuple[bytes, bytes] = cursor.item()
    return item


def _drop_first(table: str) -> Break:
    return lambda txn, tables: txn.delete(_first(txn, getattr(tables, table))[0], db=getattr(tables, table))


def _put(table: str, key: bytes, value: bytes = b"") -> Break:
    return lambda txn, tables: txn.put(key, value, db=getattr(tables, table))


def _copy_first(table: str, key: Callable[[bytes], bytes], value: Callable[[bytes], bytes]) -> Break:
    """The first row again, with another key and value (or, under the same key, changed)."""

    def copies(txn: Any, tables: Any) -> None:
        old_key, old_value = _first(txn, getattr(tables, table))
        txn.put(key(old_key), value(old_value), db=getattr(tables, table))

    return copies


def _same(content: bytes) -> bytes:
    return content


def _with_row(head: int, **changes: Any) -> Callable[[bytes], bytes]:
    """The value with its record changed; `head` bytes stand before that."""
    return lambda value: value[:head] + encode(replace(decode_row(value[head:]), **changes))


def _lease_what_is_ready(txn: Any, tables: Any) -> None:
    lease_key, value = _first(txn, tables.lease)
    _, _, id = READY.unpack(_first(txn, tables.ready)[0])
    txn.put(LEASE.pack(LEASE.unpack(lease_key)[0], id), value, db=tables.lease)


def _foreign_lease(txn: Any, tables: Any) -> None:
    key, value = _first(txn, tables.lease)
    txn.delete(key, db=tables.lease)
    txn.put(LEASE.pack(77, LEASE.unpack(key)[1]), value, db=tables.lease)


def _two_suspects(txn: Any, tables: Any) -> None:
    key, value = _first(txn, tables.lease)
    session, id = LEASE.unpack(key)
    for other in (id, id + 100):
        txn.put(LEASE.pack(session, other), _with_row(LEASE_HEAD.size, crashes=2)(value), db=tables.lease)


def _of_a_session_that(suspects: str, crashes: int) -> Break:
    def leased(txn: Any, tables: Any) -> None:
        key, value = _first(txn, tables.lease)
        txn.put(key, _with_row(LEASE_HEAD.size, crashes=crashes)(value), db=tables.lease)
        entry = decode_session(txn.get(key[:4], db=tables.session))
        txn.put(key[:4], encode(replace(entry, suspects=suspects)), db=tables.session)

    return leased


def _version_twice(txn: Any, tables: Any) -> None:
    cursor = txn.cursor(tables.state)
    cursor.first()
    value = cursor.value()
    cursor.next()
    txn.put(cursor.key(), value, db=tables.state)


def _numbers(**given: int) -> Break:
    names = ("commit", "catalog", "id", "version", "lane", "session", "run", "audit")

    def forgets(txn: Any, tables: Any) -> None:
        known = dict(zip(names, COUNTERS.unpack(txn.get(COUNTERS_KEY, db=tables.counter)), strict=True))
        txn.put(COUNTERS_KEY, COUNTERS.pack(*(known | given).values()), db=tables.counter)

    return forgets


def _count_wrong(at: int) -> Break:
    def counts(txn: Any, tables: Any) -> None:
        stored = list(LANE_COUNTS.unpack(txn.get(lane_counts_key(1), db=tables.counter)))
        stored[at] += 1
        txn.put(lane_counts_key(1), LANE_COUNTS.pack(*stored), db=tables.counter)

    return counts


def _change(namespace: str, old: bytes | None, new: bytes | None, version: int = 2) -> Break:
    """A row of the change log; version 1 and 2 are those of ns/a and ns/b."""
    return _put("change", u64.pack(version), encode(ChangeRow(namespace, "b", old, new, {})))


BREAKS: dict[str, tuple[Break, str]] = {
    "a ready row lost": (_drop_first("ready"), "ready, there are"),
    "a later row lost": (_drop_first("later"), "later, there are"),
    "a behind row lost": (_drop_first("behind"), "behind, there are"),
    "a lease lost": (_drop_first("lease"), "lease, there are"),
    "ready counted wrong": (_count_wrong(0), "ready, there are"),
    "later counted wrong": (_count_wrong(1), "later, there are"),
    "behind counted wrong": (_count_wrong(2), "behind, there are"),
    "leases counted wrong": (_count_wrong(3), "lease, there are"),
    "dead counted wrong": (_count_wrong(4), "dead, there are"),
    "counts of no lane": (_put("counter", lane_counts_key(77), bytes(LANE_COUNTS.size)), "counts of lane 77"),
    "a message in two tables": (_lease_what_is_ready, "is in ready and in lease"),
    "a message of no lane": (
        _copy_first("ready", lambda key: u32.pack(77) + key[4:], _same),
        "is of lane 77, which does not exist",
    ),
    "a message that does not expire": (
        _copy_first("ready", _same, _with_row(0, expires_ms=5)),
        "expires at 5",
    ),
    "a lease of nobody": (_foreign_lease, "session 77, which does not exist"),
    "a lease not granted yet": (
        _copy_first("lease", _same, lambda value: u64.pack(1 << 40) + value[8:]),
        "granted by a commit that has not happened",
    ),
    "two suspects": (_two_suspects, "has 2 suspects, it is granted one"),
    "a suspect beside other work": (_of_a_session_that("none", 2), "has 1 suspects, it is granted none"),
    "a quarantine's innocent": (_of_a_session_that("only", 0), "0 of suspects"),
    "a suspect listed nowhere": (_copy_first("ready", _same, _with_row(0, crashes=2)), "listed nowhere"),
    "a suspect that is not ready": (
        _put("counter", suspect_key(1, 127, 999), b""),
        "suspect 999 is listed, and not ready",
    ),
    "more alone than in all": (
        _copy_first("ready", _same, _with_row(0, alone=1)),
        "1 crashes alone",
    ),
    "a body lost": (_drop_first("body"), "has no body"),
    "a body left over": (_put("body", u32.pack(1) + u64.pack(999), b"x"), "belongs to no message"),
    "a body that needs none": (_copy_first("body", _same, lambda body: body[:9]), "has room for it"),
    "a payload that needs a body": (
        _copy_first("lease", _same, _with_row(LEASE_HEAD.size, payload=bytes(3000))),
        "keeps 3000 bytes of payload in its record",
    ),
    "a group without its head's row": (_drop_first("group"), "behind a group without a head"),
    "a group whose head is another": (_copy_first("group", _same, lambda _: u64.pack(1)), "has head 1, but"),
    "a group of nobody": (_put("group", u32.pack(1) + bytes(16), u64.pack(1)), "which is in no table"),
    "behind without a group": (
        _copy_first("behind", _same, _with_row(BEHIND_HEAD.size, group=None)),
        "is behind without a group",
    ),
    "behind another group": (
        _copy_first("behind", _same, _with_row(BEHIND_HEAD.size, group="other")),
        "behind another group than its own",
    ),
    "a lane lost": (_drop_first("lane"), "which does not exist"),
    "a lane twice": (_copy_first("lane", lambda _: u32.pack(2), _same), "is there twice"),
    "a lane not made yet": (_numbers(lane=0), "newer than the newest lane 0"),
    "a dead letter from nowhere": (
        _put("lane", u32.pack(1), encode(LaneRow("other", "Work", served=True))),
        "comes from a lane that does not exist",
    ),
    "a lane that nobody serves": (
        _put("lane", u32.pack(1), encode(LaneRow("jobs", "Work", served=False))),
        "says served=False",
    ),
    "an expiry lost": (_drop_first("expiry"), "never expires"),
    "a unique key lost": (_drop_first("unique"), "expires that is not there"),
    "a unique key of no lane": (
        _copy_first("unique", lambda key: u32.pack(77) + key[4:], _same),
        "is of a lane that does not exist",
    ),
    "a session lost": (_drop_first("session"), "does not exist"),
    "a session not opened yet": (_numbers(session=0), "newer than the newest session 0"),
    "a value lost": (_drop_first("state"), "namespaces count"),
    "a value changed": (
        _copy_first("state", _same, lambda value: value + b"0"),
        "did not leave what the state holds",
    ),
    "a value without a change": (_change("ns", None, b"other"), "did not leave what the state holds"),
    "a change that changes nothing": (_change("ns", b"1", b"1"), "changed nothing"),
    "a change of the engine's own": (_change("$ns", None, b"1"), "of a namespace that leaves no changes"),
    "a change that has not happened": (_change("ns", None, b"1", 99), "newer than the newest version 2"),
    "a version given twice": (_version_twice, "taken or has not happened"),
    "a key without a name": (_put("state", b"ns\0", bytes(16)), "no namespace or no key"),
    "ids forgotten": (_numbers(id=0), "newer than the newest id 0"),
    "versions forgotten": (_numbers(version=0), "newer than the newest version 0"),
    "runs forgotten": (_numbers(run=0), "run: record 1 is newer"),
    "audits forgotten": (_numbers(audit=0), "audit: record 1 is newer"),
    "a run counted nowhere": (
        lambda txn, tables: txn.delete(placed_prefix(RUN, "") + u64.pack(1), db=tables.counter),
        "run: record 1 is counted nowhere",
    ),
    "a run counted as a failure": (
        _copy_first("run", _same, lambda _: b'{"step":"Work","outcome":"failed"}'),
        "run: record 1 is counted as",
    ),
    "audits counted wrong": (
        _put("counter", held_key(ACT, ""), HELD.pack(2, 0)),
        "counts (2, 0), listed",
    ),
    "numbers cut off": (_put("counter", COUNTERS_KEY, b"x"), "have 1 bytes, 64 are needed"),
    "no format": (lambda txn, tables: txn.delete(b"format", db=tables.meta), "the format is"),
    "a newer format": (_put("meta", b"format", u64.pack(99)), "known are 1 to"),
    "a clock that is none": (_put("meta", b"clock", b"x"), "meta: the row"),
    "an epoch that is none": (_put("meta", EPOCH.pack(EPOCHS_KEY, 1, 1), b"x"), "meta: the row"),
    "an epoch ahead of the messages": (
        _put("meta", EPOCH.pack(EPOCHS_KEY, 999, 1), EPOCH_VALUE.pack(7, 9)),
        "an epoch begins at message 999 and change 1, which have not happened",
    ),
}


def _broken(store: LmdbStore, opened: Environment, breaks: Break) -> list[str]:
    with opened.env.begin(write=True) as txn:
        breaks(txn, opened.tables)
    return store.verify()


@pytest.mark.parametrize("name", BREAKS)
async def test_verify_finds(name: str, tmp_path: Path, opened: Environment) -> None:
    store = await _populated(tmp_path / "data")
    breaks, finding = BREAKS[name]
    found = _broken(store, opened, breaks)
    assert any(finding in sentence for sentence in found), found
    await store.crash()


@pytest.mark.parametrize("table", TABLES)
async def test_a_row_that_cannot_be_read_is_told_and_the_others_are_looked_at_all_the_same(
    table: str, tmp_path: Path, opened: Environment
) -> None:
    store = await _populated(tmp_path / "data")
    found = _broken(store, opened, _put(table, b"\xff", b"\xff"))
    assert [sentence for sentence in found if sentence.startswith(f"{table}: the row ff ")], found
    assert len(found) == 1, "nothing else is wrong"
    await store.crash()


async def test_a_table_that_nobody_knows_is_told(tmp_path: Path, opened: Environment) -> None:
    store = await _populated(tmp_path / "data")
    found = _broken(store, opened, lambda txn, tables: txn.put(b"theirs", b"", db=None))
    assert any("there is a table b'theirs'" in sentence for sentence in found), found
    await store.crash()


async def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, opened: Environment) -> None:
    store = await _populated(tmp_path / "data")
    _broken(store, opened, _drop_first("later"))
    found = _broken(store, opened, _change("ns", None, b"1", 99))
    assert any("later, there are" in each for each in found) and any("change 99" in each for each in found)
    await store.crash()
