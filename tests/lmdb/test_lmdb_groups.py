"""A group of Txns lands as if each had been committed alone, in order: the memory store is the judge."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker import take_now

from iii.clock import FakeClock
from iii.errors import Conflict
from iii.model import (
    ARCHIVE,
    Ack,
    DeadLetter,
    Delete,
    Discard,
    Enqueue,
    Hold,
    Lane,
    LanePolicy,
    Mark,
    Merge,
    Message,
    Op,
    Pause,
    Put,
    Record,
    Release,
    Retry,
    Txn,
    Unique,
)
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore
from iii.store.memory import MemoryStore

A, B, SOLE = Lane("t", "A"), Lane("t", "B"), Lane("sole", "S")
POLICIES = [LanePolicy(*A, max_depth=6), LanePolicy(*B, max_in_flight=3), LanePolicy(*SOLE)]
STARTING: list[Op] = [Enqueue("t", bytes([n]), group="g" if n % 2 else None) for n in range(4)]


class Settle:
    """A settlement of the n-th message that was taken at the start."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at = kind, at

    def __repr__(self) -> str:
        return f"Settle({self.kind!r}, {self.at})"

    def ops(self, messages: Sequence[Message]) -> list[Op]:
        message = messages[self.at % len(messages)]
        lease = message.lease
        dead = DeadLetter(message.topic, message.step, "no", message.attempt, 0)
        letter = Enqueue("t.failed", message.payload, step=ARCHIVE, id=lease.id, dead=dead)
        ops: dict[str, list[Op]] = {
            "ack": [Ack(lease)],
            "bury": [Ack(lease, failed=True), letter],
            "retry": [Retry(lease, 0, "again")],
            "later": [Release(lease, 50)],
            "hold": [Hold(lease)],
        }
        return ops[self.kind]


values = st.sampled_from([b"1", b'{"n":1}', b"[1]"])
enqueues = st.builds(
    Enqueue,
    topic=st.sampled_from(["t", "sole", "quiet"]),
    payload=st.sampled_from([b"", b"x", b"large".ljust(3000)]),
    priority=st.sampled_from([0, 128, 255]),
    delay_ms=st.sampled_from([0, 0, 0, 50]),
    group=st.sampled_from([None, None, "g", "h"]),
    unique=st.sampled_from([None, None, Unique("u", 100), Unique("u", 100, exclusive=True)]),
    step=st.sampled_from([None, None, "A", "new"]),
)
ops = st.one_of(
    enqueues,
    enqueues,
    st.builds(Settle, st.sampled_from(["ack", "bury", "retry", "later", "hold"]), st.integers(0, 5)),
    st.builds(Put, st.just("ns"), st.sampled_from("ab"), values, st.sampled_from([None, None, 0, 1])),
    st.builds(Merge, st.just("ns"), st.sampled_from("ab"), st.just(b'{"m":2}')),
    st.builds(Delete, st.just("ns"), st.sampled_from("ab"), st.none()),
    st.builds(Mark, st.just("m"), st.integers(1, 3), st.sampled_from([None, 1, 2])),
    st.builds(Pause, st.just("t"), st.sampled_from("AB"), st.booleans()),
    st.builds(Record, st.sampled_from(["run", "audit"]), st.just(b"r")),
    st.builds(
        Discard,
        st.just("t"),
        st.sampled_from("AB"),
        st.sampled_from(["ready", "behind"]),
        st.just(128),
        st.integers(1, 12),
    ),
)
groups = st.lists(st.lists(ops, min_size=1, max_size=4), min_size=1, max_size=8)


async def _begin(store: Store) -> list[Message]:
    """A session that has taken something from both lanes, and leaves something behind."""
    await store.open()
    await store.open_session(POLICIES)
    await store.commit(Txn(STARTING))
    return await take_now(store, {A: 2, B: 2})


def _txns(wanted: list[list[Any]], messages: Sequence[Message]) -> list[Txn]:
    return [
        Txn([op for each in ops for op in (each.ops(messages) if isinstance(each, Settle) else [each])])
        for ops in wanted
    ]


def _outcome(answer: object) -> object:
    return type(answer).__name__ if isinstance(answer, Exception) else answer


def _everything(store: Store) -> list[object]:
    return [
        store.stats(),
        [store.waiting(topic) for topic in ("t", "sole", "quiet", "t.failed")],
        store.scan("ns"),
        store.namespaces(),
        store.version(),
        store.marks(""),
        store.records("run"),
        store.records("audit"),
        store.verify(),
    ]


async def _compare(wanted: list[list[Any]], folder: Path) -> None:
    model = MemoryStore(FakeClock())
    real = LmdbStore(folder, clock=FakeClock(), map_bytes=64 << 20)
    answers: list[list[object]] = []
    for store in (model, real):
        futures = [store.submit(txn) for txn in _txns(wanted, await _begin(store))]
        answers.append([_outcome(each) for each in await asyncio.gather(*futures, return_exceptions=True)])
    try:
        assert answers[1] == answers[0]
        assert _everything(real) == _everything(model)
        granted = [
            [m.payload for m in await take_now(store, {A: 9, B: 9, SOLE: 9})] for store in (model, real)
        ]
        assert granted[1] == granted[0]
        assert await real.changes(0, 100, 0) == await model.changes(0, 100, 0)
        assert real.verify() == []
    finally:
        await model.close()
        await real.close()


@settings(max_examples=60)
@given(wanted=groups)
def test_a_group_is_its_txns_one_after_the_other(wanted: list[list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_compare(wanted, Path(folder) / "data"))


async def test_a_refused_txn_does_not_touch_its_neighbours(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await _begin(store)
    first = store.submit(Txn([Put("ns", "a", b"1", if_version=0)]))
    second = store.submit(Txn([Enqueue("new-topic", b"x"), Put("ns", "a", b"2", if_version=0)]))
    third = store.submit(Txn([Put("ns", "a", b"3", if_version=1)]))
    await first
    with pytest.raises(Conflict):
        await second
    await third
    assert (entry := store.get("ns", "a")) is not None and (entry.value, entry.version) == (b"3", 2)
    assert "new-topic" not in {row.topic for row in store.stats()} and store.verify() == []
    await store.close()


async def test_a_key_deleted_earlier_in_the_group_is_absent_for_the_next_txn(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", clock=FakeClock())
    await _begin(store)
    txns = [Put("ns", "a", b"1"), Delete("ns", "a"), Put("ns", "a", b"2", if_version=0), Delete("ns", "a")]
    await asyncio.gather(*(store.submit(Txn([op])) for op in txns))
    assert store.get("ns", "a") is None and store.namespaces() == [] and store.verify() == []
    assert [change.new for change in await store.changes(0, 9, 0)] == [b"1", None, b"2", None]
    await store.close()
