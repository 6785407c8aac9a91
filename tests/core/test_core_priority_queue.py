"""PriorityQueue: the highest priority first, the oldest first among equals, removal by handle."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from iii_core import PriorityQueue

PRIORITIES = st.one_of(st.sampled_from([0, 127, 128, 255]), st.integers(0, 255))


class AgainstASortedList(RuleBasedStateMachine):
    """The twin: a list of (priority, age, handle, item), searched and sorted."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: PriorityQueue[int] = PriorityQueue()
        self.twin: list[tuple[int, int, int | None, int]] = []
        self.gone: list[int] = []
        self.age = 0

    def remember(self, priority: int, handle: int | None) -> None:
        self.twin.append((-priority, self.age, handle, self.age))
        self.twin.sort(key=lambda element: element[:2])
        self.age += 1

    def forget(self, position: int) -> int:
        _, _, handle, item = self.twin.pop(position)
        if handle is not None:
            self.gone.append(handle)
        return item

    @rule(priority=PRIORITIES)
    def push(self, priority: int) -> None:
        handle = self.queue.push(self.age, priority)
        assert handle not in self.gone
        self.remember(priority, handle)

    @rule(priority=PRIORITIES, count=st.integers(0, 40))
    def push_many(self, priority: int, count: int) -> None:
        self.queue.push_many(range(self.age, self.age + count), priority)
        for _ in range(count):
            self.remember(priority, None)

    @precondition(lambda self: self.twin)
    @rule()
    def pop(self) -> None:
        assert self.queue.peek() == self.twin[0][3]
        assert self.queue.pop() == self.forget(0)

    @precondition(lambda self: not self.twin)
    @rule()
    def pop_nothing(self) -> None:
        with pytest.raises(IndexError, match="pop from an empty PriorityQueue"):
            self.queue.pop()
        with pytest.raises(IndexError, match="peek into an empty PriorityQueue"):
            self.queue.peek()

    @rule(n=st.integers(0, 30))
    def pop_many(self, n: int) -> None:
        assert self.queue.pop_many(n) == [self.forget(0) for _ in range(min(n, len(self.twin)))]

    @rule(choice=st.randoms(use_true_random=False))
    def remove(self, choice: Any) -> None:
        known = [position for position, element in enumerate(self.twin) if element[2] is not None]
        if known:
            position = choice.choice(known)
            handle = self.twin[position][2]
            assert handle is not None
            assert self.queue.remove(handle) == self.forget(position)

    @rule()
    def remove_what_is_gone(self) -> None:
        for handle in self.gone[-20:]:
            with pytest.raises(KeyError, match="popped, removed, cleared or never pushed"):
                self.queue.remove(handle)

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        while self.twin:
            self.forget(0)

    @invariant()
    def holds(self) -> None:
        self.queue.check()
        assert len(self.queue) == len(self.twin)
        assert bool(self.queue) is bool(self.twin)


AgainstASortedList.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
test_it_does_what_a_sorted_list_does = AgainstASortedList.TestCase


@pytest.mark.parametrize("priority", [-1, 256, 2**31, 2**63, -(2**70), 1 << 99999], ids=int.bit_length)
def test_a_priority_outside_0_to_255_is_refused_with_its_range(priority: int) -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    for push in (queue.push, queue.push_many):
        with pytest.raises(ValueError, match=r"priority must be 0 to 255 \(higher comes first\), not"):
            push("x", priority)
    assert len(queue) == 0


@pytest.mark.parametrize("wrong", ["5", 5.0, None, [5]], ids=repr)
def test_a_number_of_another_type_is_refused_with_its_name(wrong: Any) -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    with pytest.raises(TypeError, match="priority must be an int, not"):
        queue.push("x", wrong)
    with pytest.raises(TypeError, match="n must be an int, not"):
        queue.pop_many(wrong)
    with pytest.raises(TypeError, match="handle must be an int, not"):
        queue.remove(wrong)
    with pytest.raises(ValueError, match="n must be 0 or more, not -1"):
        queue.pop_many(-1)
    assert queue.pop_many(10**5000) == []


@pytest.mark.parametrize(
    "handle", [-1, 0, 1, 2**32 + 1, 2**33, 2**64 - 1, 2**64, 1 << 9999], ids=int.bit_length
)
def test_a_handle_that_was_never_given_removes_nothing(handle: int) -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.push("kept")
    with pytest.raises(KeyError):
        queue.remove(handle)
    queue.pop()
    with pytest.raises(KeyError):
        queue.remove(handle)
    queue.push("kept")
    queue.check()


def test_a_handle_of_a_free_slot_that_was_never_given_removes_nothing() -> None:
    """The slot's next generation can be guessed; but as long as it is free, nothing is there."""
    queue: PriorityQueue[int] = PriorityQueue()
    handles = [queue.push(number) for number in range(8)]
    for handle in handles[:4]:
        queue.remove(handle)
    for handle in handles[:4]:
        with pytest.raises(KeyError):
            queue.remove(handle + 2**32)
    queue.check()
    assert queue.pop_many(9) == [4, 5, 6, 7]


def test_a_handle_outlives_neither_its_slots_reuse_nor_clear() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    old = queue.push("a")
    queue.pop()
    cleared = queue.push("b")
    queue.clear()
    handle = queue.push("c")
    for gone in (old, cleared):
        with pytest.raises(KeyError):
            queue.remove(gone)
    assert queue.remove(handle) == "c"


def test_push_many_adds_all_or_none() -> None:
    queue: PriorityQueue[int] = PriorityQueue()
    with pytest.raises(ZeroDivisionError):
        queue.push_many(1 // (3 - number) for number in range(5))
    assert len(queue) == 0


def test_elements_are_never_compared_or_hashed() -> None:
    class Untouchable:
        def refuse(self, *_: object) -> Any:
            raise AssertionError("touched")

        __eq__ = __lt__ = __gt__ = refuse
        __hash__ = __bool__ = refuse

    queue: PriorityQueue[Untouchable] = PriorityQueue()
    handle = queue.push(Untouchable(), 3)
    queue.push_many([Untouchable(), Untouchable()], 3)
    queue.remove(handle)
    queue.pop_many(2)
    queue.check()


def test_a_destructor_may_come_back_into_the_queue() -> None:
    queue: PriorityQueue[Any] = PriorityQueue()

    class Returning:
        def __del__(self) -> None:
            queue.check()
            queue.push("returned", 255)

    handle = queue.push(Returning())
    queue.push_many([Returning() for _ in range(40)])
    queue.remove(handle)
    assert queue.pop() == "returned"
    queue.pop_many(20)
    queue.clear()
    queue.check()
    assert queue.pop_many(99) == ["returned"] * len(range(20))


def test_an_index_may_come_back_into_the_queue() -> None:
    queue: PriorityQueue[str] = PriorityQueue()

    class Priority:
        def __index__(self) -> int:
            queue.clear()
            queue.push("inner")
            return 7

    queue.push("cleared")
    queue.push("outer", Priority())
    queue.check()
    assert queue.pop_many(3) == ["inner", "outer"]


def test_the_garbage_collector_sees_the_elements() -> None:
    class Node:
        queue: PriorityQueue[Node]

    node = Node()
    node.queue = PriorityQueue()
    node.queue.push(node)
    alive = weakref.ref(node)
    del node
    gc.collect()
    assert alive() is None


def test_no_reference_is_kept_or_dropped() -> None:
    item = object()
    queue: PriorityQueue[object] = PriorityQueue()
    before = sys.getrefcount(item)
    for _ in range(3):
        handles = [queue.push(item, priority) for priority in range(100)]
        queue.push_many([item] * 100)
        queue.peek()
        for handle in handles[::2]:
            queue.remove(handle)
        for _ in range(10):
            queue.pop()
        queue.pop_many(50)
        queue.clear()
        with pytest.raises(ValueError, match="priority"):
            queue.push(item, 256)
    queue.push(item)
    assert sys.getrefcount(item) == before + 1
    del queue
    assert sys.getrefcount(item) == before


def test_threads_may_share_a_queue() -> None:
    queue: PriorityQueue[int] = PriorityQueue()
    taken: list[int] = []

    def push_and_pop(first: int) -> None:
        for number in range(first, first + 2000):
            queue.push(number, number & 255)
            taken.extend(queue.pop_many(2))

    threads = [threading.Thread(target=push_and_pop, args=(first,)) for first in (0, 2000, 4000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.check()
    assert sorted(taken + queue.pop_many(6000)) == list(range(6000))


def test_a_queue_is_not_copied_or_pickled() -> None:
    with pytest.raises(TypeError):
        copy.copy(PriorityQueue())
    with pytest.raises(TypeError):
        pickle.dumps(PriorityQueue())
