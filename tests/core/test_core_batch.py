"""Batch: nothing lost, nothing twice, each producer's order kept, and one wake-up a batch."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from iii_core import Batch, BatchFull

LIMIT = 50


class AgainstAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.batch: Batch[int] = Batch(LIMIT)
        self.twin: list[int] = []
        self.size = 0
        self.age = 0

    def add(self, items: list[int], size: int, added: bool) -> None:
        assert added is (not self.twin and bool(items))
        self.twin += items
        self.age += len(items)
        self.size += size

    @rule(size=st.integers(0, LIMIT))
    def append(self, size: int) -> None:
        if self.size + size > LIMIT:
            with pytest.raises(BatchFull, match=f"{self.size} of {LIMIT} are taken, no room for {size}"):
                self.batch.append(self.age, size)
        else:
            self.add([self.age], size, self.batch.append(self.age, size))

    @rule()
    def append_one_that_names_no_size(self) -> None:
        if self.size < LIMIT:
            self.add([self.age], 1, self.batch.append(self.age))

    @rule(count=st.integers(0, 5), size=st.none() | st.integers(0, LIMIT))
    def extend(self, count: int, size: int | None) -> None:
        items = list(range(self.age, self.age + count))
        total = count if size is None else size if count else 0
        if self.size + total > LIMIT:
            with pytest.raises(BatchFull):
                self.batch.extend(items, size)
        else:
            self.add(items, total, self.batch.extend(iter(items), size))

    @rule(size=st.integers(LIMIT + 1, 10**30))
    def append_what_never_fits(self, size: int) -> None:
        with pytest.raises(ValueError, match=f"can never fit: the limit of this batch is {LIMIT}"):
            self.batch.append(0, size)

    @rule()
    def swap(self) -> None:
        assert self.batch.swap() == self.twin
        self.twin = []
        self.size = 0

    @invariant()
    def holds(self) -> None:
        self.batch.check()
        assert len(self.batch) == len(self.twin)
        assert bool(self.batch) is bool(self.twin)
        assert self.batch.size == self.size


AgainstAList.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
test_it_does_what_a_list_does = AgainstAList.TestCase


@pytest.fixture
def _switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_switching_often")
def test_many_threads_lose_nothing_and_wake_the_consumer_once_a_batch() -> None:
    """The consumer sleeps until woken: a wake-up too few would leave it asleep, so the test would not end."""
    batch: Batch[tuple[int, int]] = Batch()
    producers, items_each = 6, 4000
    woken = threading.Semaphore(0)
    wakes = [0] * producers

    def produce(producer: int) -> None:
        for number in range(0, items_each, 4):
            first = batch.append((producer, number), 3)
            if first:
                wakes[producer] += 1
                woken.release()
            if batch.extend(((producer, number + step) for step in (1, 2, 3)), 9):
                wakes[producer] += 1
                woken.release()

    threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(producers)]
    for thread in threads:
        thread.start()
    taken: list[tuple[int, int]] = []
    swaps = 0
    while len(taken) < producers * items_each:
        assert woken.acquire(timeout=30), "items are there and nobody woke the consumer"
        items = batch.swap()
        assert items, "woken for nothing"
        taken += items
        swaps += 1
    for thread in threads:
        thread.join()
    assert sum(wakes) == swaps
    for producer in range(producers):
        assert [number for who, number in taken if who == producer] == list(range(items_each))
    assert (len(batch), batch.size) == (0, 0)
    batch.check()


@pytest.mark.usefixtures("_switching_often")
def test_the_limit_holds_under_many_threads() -> None:
    batch: Batch[int] = Batch(limit=100)
    refused = [0] * 4

    def produce(producer: int) -> None:
        for number in range(500):
            try:
                batch.append(number, 3)
            except BatchFull:
                refused[producer] += 1

    threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(batch), batch.size) == (33, 99)
    assert sum(refused) == 2000 - 33
    batch.check()


@pytest.mark.parametrize("wrong", ["1", 1.0, [1]], ids=repr)
def test_a_number_of_another_type_is_refused_with_its_name(wrong: Any) -> None:
    batch: Batch[int] = Batch()
    with pytest.raises(TypeError, match="size must be an int, not"):
        batch.append(1, wrong)
    with pytest.raises(TypeError, match="size must be an int, not"):
        batch.extend([1], wrong)
    with pytest.raises(TypeError, match="limit must be an int, not"):
        Batch(wrong)
    assert len(batch) == 0


def test_a_negative_number_is_refused() -> None:
    batch: Batch[int] = Batch()
    with pytest.raises(ValueError, match="size must be 0 or more, not -1"):
        batch.append(1, -1)
    with pytest.raises(ValueError, match="size must be 0 or more, not -5"):
        batch.extend([1], -5)
    with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
        Batch(-1)
    assert len(batch) == 0


def test_without_a_limit_the_sum_still_cannot_overflow() -> None:
    batch: Batch[int] = Batch()
    batch.append(1, 2**62)
    with pytest.raises(BatchFull):
        batch.append(2, 1)
    assert batch.size == 2**62
    batch.check()


def test_extend_adds_all_or_none() -> None:
    batch: Batch[int] = Batch()
    with pytest.raises(ZeroDivisionError):
        batch.extend(1 // (3 - number) for number in range(5))
    assert batch.swap() == []


def test_an_iterator_may_swap_the_batch_it_is_added_to() -> None:
    batch: Batch[str] = Batch()
    batch.append("old")

    def items() -> Iterator[str]:
        assert batch.swap() == ["old"]
        yield "new"

    assert batch.extend(items()) is True, "it is the first of its batch, whatever there was at the call"
    assert batch.swap() == ["new"]


def test_the_list_a_swap_gave_is_the_consumers_own() -> None:
    batch: Batch[int] = Batch()
    batch.append(1)
    taken = batch.swap()
    batch.append(2)
    taken.append(3)
    assert (taken, batch.swap()) == ([1, 3], [2])


def test_items_are_never_compared_or_hashed_and_may_come_back_when_dropped() -> None:
    batch: Batch[Any] = Batch()

    class Returning:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(self) -> int:
            raise AssertionError("hashed")

        def __del__(self) -> None:
            batch.check()
            batch.append("returned")

    batch.extend([Returning(), Returning()])
    batch.swap()
    assert batch.swap() == ["returned", "returned"]


def test_the_garbage_collector_sees_the_items() -> None:
    class Node:
        batch: Batch[Node]

    node = Node()
    node.batch = Batch()
    node.batch.append(node)
    alive = weakref.ref(node)
    del node
    gc.collect()
    assert alive() is None


def test_no_reference_is_kept_or_dropped() -> None:
    item = object()
    batch: Batch[object] = Batch(10)
    before = sys.getrefcount(item)
    for _ in range(3):
        batch.append(item)
        batch.extend([item] * 9)
        with pytest.raises(BatchFull):
            batch.append(item)
        with pytest.raises(BatchFull):
            batch.extend([item])
        batch.swap()
    batch.append(item)
    assert sys.getrefcount(item) == before + 1
    del batch
    assert sys.getrefcount(item) == before
