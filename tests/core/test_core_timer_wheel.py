"""TimerWheel: what is due comes out in order, once, and never late; time moves only when told to."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iii_core import TimerWheel

MS_MAX = 2**64 - 1
DAY_MS = 24 * 3600 * 1000
AROUND_SLOTS = st.builds(
    lambda level, digit, off: min(max(0, digit * 64**level + off), MS_MAX),
    level=st.integers(0, 10),
    digit=st.integers(0, 63),
    off=st.integers(-2, 2),
)
DISTANCES = st.one_of(st.integers(0, 200), AROUND_SLOTS, st.integers(0, 60 * DAY_MS), st.integers(0, MS_MAX))


class AgainstASortedList(RuleBasedStateMachine):
    """The twin: a list of (due, age, handle), sorted at every advance."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel: TimerWheel[int] = TimerWheel()
        self.twin: list[tuple[int, int, int]] = []
        self.gone: list[int] = []
        self.now = 0
        self.age = 0
        self.cancelled = False

    @initialize(now=DISTANCES)
    def start(self, now: int) -> None:
        self.wheel = TimerWheel(now)
        self.now = now

    def schedule(self, due_ms: int) -> None:
        handle = self.wheel.schedule(due_ms, self.age)
        assert handle not in self.gone
        self.twin.append((due_ms, self.age, handle))
        self.age += 1

    @rule(distance=DISTANCES)
    def schedule_ahead(self, distance: int) -> None:
        self.schedule(min(self.now + distance, MS_MAX))

    @rule(distance=DISTANCES)
    def schedule_late(self, distance: int) -> None:
        self.schedule(max(self.now - distance, 0))

    @rule(choice=st.randoms(use_true_random=False))
    def schedule_at_the_same_time_as_another(self, choice: Any) -> None:
        if self.twin:
            self.schedule(choice.choice(self.twin)[0])

    @rule(choice=st.randoms(use_true_random=False))
    def cancel(self, choice: Any) -> None:
        if self.twin:
            handle = self.twin.pop(choice.randrange(len(self.twin)))[2]
            assert self.wheel.cancel(handle) is True
            self.gone.append(handle)
            self.cancelled = True

    @rule()
    def cancel_what_is_gone(self) -> None:
        for handle in self.gone[-20:]:
            assert self.wheel.cancel(handle) is False

    def advance(self, now_ms: int) -> list[int]:
        self.now = max(self.now, now_ms)
        due = sorted(timer for timer in self.twin if timer[0] <= self.now)
        self.twin = [timer for timer in self.twin if timer[0] > self.now]
        self.gone += [handle for _, _, handle in due]
        fired = self.wheel.advance(now_ms)
        assert fired == [age for _, age, _ in due]
        return fired

    @rule(distance=DISTANCES)
    def advance_by(self, distance: int) -> None:
        self.advance(min(self.now + distance, MS_MAX))

    @rule(distance=DISTANCES)
    def advance_back(self, distance: int) -> None:
        self.advance(max(self.now - distance, 0))

    @rule()
    def come_back_when_told(self) -> None:
        next_ms = self.wheel.next_ms()
        if next_ms is not None and not self.advance(next_ms):
            assert self.wheel.next_ms() == min(self.twin)[0], "what found nothing made it exact"

    @invariant()
    def holds(self) -> None:
        self.wheel.check()
        assert len(self.wheel) == len(self.twin)
        assert bool(self.wheel) is bool(self.twin)
        assert self.wheel.now_ms == self.now

    @invariant()
    def next_ms_is_never_late(self) -> None:
        next_ms = self.wheel.next_ms()
        if not self.twin:
            assert next_ms is None
        elif self.cancelled:
            assert next_ms is not None and next_ms <= min(self.twin)[0]
        else:
            assert next_ms == min(self.twin)[0], "exact, since nothing was cancelled"


AgainstASortedList.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
test_it_does_what_a_sorted_list_does = AgainstASortedList.TestCase


@given(now=DISTANCES, dues=st.lists(DISTANCES, max_size=60))
@settings(max_examples=60)
def test_following_next_ms_fires_each_timer_exactly_when_due(now: int, dues: list[int]) -> None:
    wheel: TimerWheel[int] = TimerWheel(now)
    for due in dues:
        wheel.schedule(due, due)
    fired = []
    while (next_ms := wheel.next_ms()) is not None:
        at = max(next_ms, wheel.now_ms)
        items = wheel.advance(next_ms)
        assert items and all(max(item, now) == at for item in items)
        fired += items
        wheel.check()
    assert fired == sorted(dues)


def test_a_jump_costs_the_timers_it_crosses_not_the_time() -> None:
    """One that stepped through the ms, or the slots, would not come back from the last of these."""
    for jump_ms in (30 * DAY_MS, 3650 * DAY_MS, MS_MAX):
        wheel: TimerWheel[int] = TimerWheel()
        dues = [jump_ms // 5000 * number for number in range(5000)]
        for due in reversed(dues):
            wheel.schedule(due, due)
        assert wheel.advance(jump_ms) == dues
        assert wheel.next_ms() is None
        assert wheel.now_ms == jump_ms


def test_a_clock_that_was_set_back_fires_nothing_twice_and_nothing_too_soon() -> None:
    wheel: TimerWheel[str] = TimerWheel(1000)
    wheel.schedule(1500, "first")
    assert wheel.advance(1500) == ["first"]
    wheel.schedule(1600, "second")
    assert wheel.advance(0) == []
    assert wheel.now_ms == 1500
    wheel.schedule(1400, "late")
    assert wheel.advance(0) == ["late"]
    assert wheel.advance(1600) == ["second"]


def test_late_timers_come_first_by_due_time_then_as_scheduled() -> None:
    wheel: TimerWheel[str] = TimerWheel(100)
    for due, item in [(101, "f"), (100, "e"), (50, "c"), (30, "a"), (50, "d"), (30, "b")]:
        wheel.schedule(due, item)
    assert wheel.next_ms() == 30
    assert wheel.advance(100) == ["a", "b", "c", "d", "e"]
    assert wheel.next_ms() == 101


@pytest.mark.parametrize("wrong", [-1, 2**64, 10**5000], ids=["negative", "65 bits", "huge"])
def test_a_time_that_is_no_unsigned_64_bit_number_is_refused(wrong: int) -> None:
    wheel: TimerWheel[str] = TimerWheel()
    with pytest.raises(ValueError, match="now_ms must be 0 to"):
        TimerWheel(wrong)
    with pytest.raises(ValueError, match="due_ms must be 0 to"):
        wheel.schedule(wrong, "x")
    with pytest.raises(ValueError, match="now_ms must be 0 to"):
        wheel.advance(wrong)
    assert wheel.cancel(wrong) is False
    assert len(wheel) == 0


@pytest.mark.parametrize("wrong", [1.5, "1", None], ids=repr)
def test_a_number_of_another_type_is_refused_with_its_name(wrong: Any) -> None:
    wheel: TimerWheel[str] = TimerWheel()
    with pytest.raises(TypeError, match="now_ms must be an int, not"):
        TimerWheel(wrong)
    with pytest.raises(TypeError, match="due_ms must be an int, not"):
        wheel.schedule(wrong, "x")
    with pytest.raises(TypeError, match="now_ms must be an int, not"):
        wheel.advance(wrong)
    with pytest.raises(TypeError, match="handle must be an int, not"):
        wheel.cancel(wrong)


def test_a_handle_is_not_mistaken_for_a_later_one() -> None:
    wheel: TimerWheel[str] = TimerWheel()
    fired = wheel.schedule(1, "fired")
    wheel.advance(1)
    cancelled = wheel.schedule(2, "cancelled")
    assert wheel.cancel(cancelled)
    assert not wheel.cancel(cancelled + 2**32), "the next generation of a place that is free"
    wheel.schedule(3, "kept")
    assert not wheel.cancel(fired)
    assert not wheel.cancel(cancelled)
    assert not wheel.cancel(0)
    assert wheel.advance(3) == ["kept"]


def test_items_are_never_compared_or_hashed_and_may_come_back_when_dropped() -> None:
    wheel: TimerWheel[Any] = TimerWheel()

    class Returning:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(self) -> int:
            raise AssertionError("hashed")

        def __del__(self) -> None:
            wheel.check()
            wheel.schedule(0, "returned")

    handles = [wheel.schedule(due, Returning()) for due in (0, 5, 5, 100, DAY_MS)]
    assert wheel.cancel(handles[1])
    assert wheel.cancel(handles[4])
    assert len(wheel.advance(50)) == 4, "two late ones that came back, and two that were due"
    assert wheel.advance(50) == ["returned", "returned"]
    wheel.check()


def test_the_garbage_collector_sees_the_items() -> None:
    class Node:
        wheel: TimerWheel[Node]

    node = Node()
    node.wheel = TimerWheel()
    node.wheel.schedule(7, node)
    alive = weakref.ref(node)
    del node
    gc.collect()
    assert alive() is None


def test_no_reference_is_kept_or_dropped() -> None:
    item = object()
    wheel: TimerWheel[object] = TimerWheel(1000)
    before = sys.getrefcount(item)
    for _ in range(3):
        handles = [wheel.schedule(due, item) for due in range(0, 100_000, 500)]
        for handle in handles[::3]:
            wheel.cancel(handle)
        wheel.advance(wheel.now_ms + 10_000)
        wheel.advance(wheel.now_ms + 100_000)
        with pytest.raises(ValueError, match="due_ms"):
            wheel.schedule(-1, item)
    wheel.schedule(MS_MAX, item)
    assert sys.getrefcount(item) == before + 1
    del wheel
    assert sys.getrefcount(item) == before
