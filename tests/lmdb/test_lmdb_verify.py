"""verify() finds what is broken: each row below breaks one invariant behind the store's back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iii.clock import FakeClock
from iii.model import ARCHIVE, DeadLetter, Enqueue, Lane, LanePolicy, Put, Txn, Unique
from iii.store.lmdb import LmdbStore, environment
from iii.store.lmdb.environment import Environment
from iii.store.lmdb.keys import COUNTERS, COUNTERS_KEY, LEASE, READY, u32, u64

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
            ]
        )
    )
    assert len(await store.claim({JOBS: 1}, 0)) == 1
    assert store.verify() == []
    return store


def _first(txn: Any, table: Any) -> tuple[bytes, bytes]:
    cursor = txn.cursor(table)
    assert cursor.first()
    item: tuple[bytes, bytes] = cursor.item()
    return item


def _drop_first(table: str) -> Break:
    return lambda txn, tables: txn.delete(_first(txn, getattr(tables, table))[0], db=getattr(tables, table))


def _lease_what_is_ready(txn: Any, tables: Any) -> None:
    lease_key, value = _first(txn, tables.lease)
    _, _, id = READY.unpack(_first(txn, tables.ready)[0])
    txn.put(LEASE.pack(LEASE.unpack(lease_key)[0], id), value, db=tables.lease)


def _foreign_lease(txn: Any, tables: Any) -> None:
    key, value = _first(txn, tables.lease)
    txn.delete(key, db=tables.lease)
    txn.put(LEASE.pack(77, LEASE.unpack(key)[1]), value, db=tables.lease)


def _forget_numbers(txn: Any, tables: Any) -> None:
    txn.put(COUNTERS_KEY, COUNTERS.pack(*[0] * 8), db=tables.counter)


def _version_twice(txn: Any, tables: Any) -> None:
    cursor = txn.cursor(tables.state)
    cursor.first()
    value = cursor.value()
    cursor.next()
    txn.put(cursor.key(), value, db=tables.state)


BREAKS: dict[str, tuple[Break, str]] = {
    "a ready row lost": (_drop_first("ready"), "ready, there are"),
    "a later row lost": (_drop_first("later"), "later, there are"),
    "a behind row lost": (_drop_first("behind"), "behind, there are"),
    "a lease lost": (_drop_first("lease"), "lease, there are"),
    "a message in two tables": (_lease_what_is_ready, "is in ready and in lease"),
    "a lease of nobody": (_foreign_lease, "session 77, which does not exist"),
    "a body lost": (_drop_first("body"), "has no body"),
    "a body left over": (
        lambda txn, tables: txn.put(u32.pack(1) + u64.pack(999), b"x", db=tables.body),
        "belongs to no message",
    ),
    "a group without its head's row": (_drop_first("group"), "behind a group without a head"),
    "a group whose head is another": (
        lambda txn, tables: txn.put(_first(txn, tables.group)[0], u64.pack(1), db=tables.group),
        "has head 1, but",
    ),
    "a lane lost": (_drop_first("lane"), "which does not exist"),
    "an expiry lost": (_drop_first("expiry"), "never expires"),
    "a unique key lost": (_drop_first("unique"), "expires that is not there"),
    "a session lost": (_drop_first("session"), "does not exist"),
    "a value lost": (_drop_first("state"), "namespaces count"),
    "a version given twice": (_version_twice, "taken or has not happened"),
    "numbers forgotten": (_forget_numbers, "newer than the newest id 0"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_verify_finds(name: str, tmp_path: Path, opened: Environment) -> None:
    store = await _populated(tmp_path / "data")
    breaks, finding = BREAKS[name]
    with opened.env.begin(write=True) as txn:
        breaks(txn, opened.tables)
    assert any(finding in sentence for sentence in store.verify()), store.verify()
    await store.crash()
