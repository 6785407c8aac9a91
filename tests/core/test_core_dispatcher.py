"""Dispatcher: turns between lanes, priority then age within one, groups in order, slots and limit kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iii_core import Dispatcher

LANES = st.sampled_from(["a", "b", ("c", 1), None])
GROUPS = st.sampled_from([None, None, "g", "h", b"g", 7])
PRIORITIES = st.sampled_from([0, 128, 128, 128, 255])


class NaiveLane:
    """Queued as (-priority, age, item, group), in the order of pushing; running as groups."""

    def __init__(self, slots: int, paused: bool) -> None:
        self.slots = slots
        self.paused = paused
        self.ahead = 0
        self.queued: list[tuple[int, int, int, Any]] = []
        self.running: list[Any] = []

    def candidates(self) -> list[tuple[int, int, int, Any]]:
        seen = {group for group in self.running if group is not None}
        found = []
        for message in self.queued:
            if message[3] is None or message[3] not in seen:
                found.append(message)
                seen.add(message[3])
        return found

    def may_run(self) -> bool:
        return not self.paused and len(self.running) < self.slots and bool(self.candidates())


class AgainstNaiveLanes(RuleBasedStateMachine):
    """The twin keeps the turn as a list of lane keys, and searches a lane's queue for each message."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher: Dispatcher[Any, int] = Dispatcher()
        self.lanes: dict[Any, NaiveLane] = {}
        self.turn: list[Any] = []
        self.limit: int | None = None
        self.age = 0

    @initialize(limit=st.none() | st.integers(0, 12))
    def start(self, limit: int | None) -> None:
        self.dispatcher = Dispatcher(limit)
        self.limit = limit

    def place(self, key: Any) -> None:
        may_run = key in self.lanes and self.lanes[key].may_run()
        if may_run and key not in self.turn:
            self.turn.append(key)
        elif key in self.turn and not may_run:
            self.turn.remove(key)

    def total(self) -> int:
        return sum(len(lane.running) for lane in self.lanes.values())

    @rule(key=LANES, slots=st.integers(0, 5), paused=st.booleans())
    def add_lane(self, key: Any, slots: int, paused: bool) -> None:
        if key in self.lanes:
            with pytest.raises(ValueError, match="already"):
                self.dispatcher.add_lane(key, slots)
        else:
            self.dispatcher.add_lane(key, slots, paused=paused)
            self.lanes[key] = NaiveLane(slots, paused)

    def drained(self, key: Any) -> list[int]:
        lane = self.lanes[key]
        items = [message[2] for message in sorted(lane.queued, key=lambda message: message[:2])]
        lane.queued = []
        self.place(key)
        return items

    @rule(key=LANES)
    def remove_lane(self, key: Any) -> None:
        if key not in self.lanes:
            with pytest.raises(KeyError, match="no lane"):
                self.dispatcher.remove_lane(key)
        elif self.lanes[key].running:
            with pytest.raises(ValueError, match=r"run: pause it, wait for done\(\)"):
                self.dispatcher.remove_lane(key)
        else:
            assert self.dispatcher.remove_lane(key) == self.drained(key)
            del self.lanes[key]

    @rule(key=LANES)
    def drain(self, key: Any) -> None:
        if key in self.lanes:
            assert self.dispatcher.drain(key) == self.drained(key)

    @rule(key=LANES, slots=st.integers(0, 5))
    def set_slots(self, key: Any, slots: int) -> None:
        if key in self.lanes:
            self.dispatcher.set_slots(key, slots)
            self.lanes[key].slots = slots
            self.place(key)

    @rule(key=LANES, ahead=st.integers(0, 5))
    def set_ahead(self, key: Any, ahead: int) -> None:
        if key in self.lanes:
            self.dispatcher.set_ahead(key, ahead)
            self.lanes[key].ahead = ahead

    @rule(key=LANES, paused=st.booleans())
    def pause_or_resume(self, key: Any, paused: bool) -> None:
        if key in self.lanes:
            (self.dispatcher.pause if paused else self.dispatcher.resume)(key)
            self.lanes[key].paused = paused
            self.place(key)

    @rule(key=LANES, pushes=st.lists(st.tuples(PRIORITIES, GROUPS), min_size=1, max_size=20))
    def push(self, key: Any, pushes: list[tuple[int, Any]]) -> None:
        for priority, group in pushes:
            if key not in self.lanes:
                with pytest.raises(KeyError, match="no lane"):
                    self.dispatcher.push(key, 0, priority, group)
                continue
            self.dispatcher.push(key, self.age, priority, group)
            self.lanes[key].queued.append((-priority, self.age, self.age, group))
            self.place(key)
            self.age += 1

    @rule(n=st.integers(0, 9))
    def take(self, n: int) -> None:
        expected = []
        while self.turn and len(expected) < n and (self.limit is None or self.total() < self.limit):
            key = self.turn.pop(0)
            lane = self.lanes[key]
            message = min(lane.candidates(), key=lambda message: message[:2])
            lane.queued.remove(message)
            lane.running.append(message[3])
            expected.append((key, message[2], message[3]))
            self.place(key)
        assert self.dispatcher.take(n) == expected

    @rule(key=LANES, choice=st.randoms(use_true_random=False))
    def done(self, key: Any, choice: Any) -> None:
        if key in self.lanes and self.lanes[key].running:
            group = choice.choice(self.lanes[key].running)
            self.dispatcher.done(key, group)
            self.lanes[key].running.remove(group)
            self.place(key)

    @rule(key=LANES, group=GROUPS)
    def done_without_running(self, key: Any, group: Any) -> None:
        if key not in self.lanes:
            with pytest.raises(KeyError, match="no lane"):
                self.dispatcher.done(key, group)
        elif group not in self.lanes[key].running:
            with pytest.raises(ValueError, match=r"done\(\) without a running message of"):
                self.dispatcher.done(key, group)

    @invariant()
    def holds(self) -> None:
        self.dispatcher.check()
        for key, lane in self.lanes.items():
            assert self.dispatcher.running(key) == len(lane.running)
            assert self.dispatcher.queued(key) == len(lane.queued)
        assert self.dispatcher.running_total == self.total()
        assert self.dispatcher.queued_total == sum(len(lane.queued) for lane in self.lanes.values())

    @invariant()
    def asks_for_no_more_than_could_run_and_what_may_wait(self) -> None:
        busy = sum(len(lane.running) + len(lane.queued) for lane in self.lanes.values())
        free_max = 10**9 if self.limit is None else self.limit - busy
        free = {
            key: min(lane.slots + lane.ahead - len(lane.running) - len(lane.queued), free_max)
            for key, lane in self.lanes.items()
            if not lane.paused
        }
        assert self.dispatcher.demand() == {key: count for key, count in free.items() if count > 0}


AgainstNaiveLanes.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
test_it_does_what_naive_lanes_do = AgainstNaiveLanes.TestCase


def dispatcher_of(*keys: str, slots: int = 1000, limit: int | None = None) -> Dispatcher[str, Any]:
    dispatcher: Dispatcher[str, Any] = Dispatcher(limit)
    for key in keys:
        dispatcher.add_lane(key, slots)
    return dispatcher


def test_a_long_lane_delays_another_by_one_message_a_turn() -> None:
    dispatcher = dispatcher_of("long", "short")
    for number in range(1000):
        dispatcher.push("long", number, 255)
    dispatcher.take(1)
    dispatcher.push("short", "a", 0)
    dispatcher.push("short", "b", 0)
    assert [lane for lane, _, _ in dispatcher.take(5)] == ["long", "short", "long", "short", "long"]


def test_the_turn_goes_on_where_the_last_call_ended() -> None:
    dispatcher = dispatcher_of("a", "b", "c")
    for key in "abc" * 3:
        dispatcher.push(key, None)
    assert [dispatcher.take(1)[0][0] for _ in range(7)] == list("abcabca")


def test_a_group_runs_one_at_a_time_in_the_order_of_pushing_whatever_the_priorities() -> None:
    dispatcher = dispatcher_of("lane")
    for number, priority in enumerate([0, 255, 128]):
        dispatcher.push("lane", number, priority, "g")
    order = []
    while taken := dispatcher.take(10):
        ((_, item, group),) = taken
        order.append(item)
        dispatcher.done("lane", group)
    assert order == [0, 1, 2]


def test_a_message_that_waited_for_its_group_keeps_its_age() -> None:
    dispatcher = dispatcher_of("lane", slots=1)
    dispatcher.push("lane", "first", group="g")
    dispatcher.push("lane", "second", group="g")
    dispatcher.push("lane", "younger")
    dispatcher.take(1)
    dispatcher.done("lane", "g")
    assert dispatcher.take(1) == [("lane", "second", "g")]


def test_one_group_in_two_lanes_is_two_groups() -> None:
    dispatcher = dispatcher_of("a", "b")
    dispatcher.push("a", 1, group="g")
    dispatcher.push("b", 2, group="g")
    assert dispatcher.take(9) == [("a", 1, "g"), ("b", 2, "g")]
    dispatcher.done("a", "g")
    with pytest.raises(ValueError, match="without a running message of group 'g' in lane 'a'"):
        dispatcher.done("a", "g")
    assert dispatcher.running("b") == 1


def test_a_group_of_many_is_in_order_and_costs_each_its_own_move() -> None:
    dispatcher = dispatcher_of("lane")
    for number in range(20_000):
        dispatcher.push("lane", number, group="g")
    for number in range(20_000):
        assert dispatcher.take(2) == [("lane", number, "g")]
        dispatcher.done("lane", "g")
    dispatcher.check()
    assert (dispatcher.running_total, dispatcher.queued_total) == (0, 0)


def test_what_was_done_is_not_done_again_by_the_wrong_name() -> None:
    """A done() that forgets the group, or names one where there is none, must not free another's slot."""
    dispatcher = dispatcher_of("lane")
    dispatcher.push("lane", 1, group="g")
    dispatcher.take(1)
    with pytest.raises(ValueError, match="lane 'lane' that has no group"):
        dispatcher.done("lane")
    with pytest.raises(ValueError, match="of group 'h' in lane 'lane'"):
        dispatcher.done("lane", "h")
    assert dispatcher.running("lane") == 1
    dispatcher.check()


def test_fewer_slots_let_what_runs_finish_and_take_no_more() -> None:
    dispatcher = dispatcher_of("lane", slots=3)
    for number in range(5):
        dispatcher.push("lane", number)
    assert len(dispatcher.take(9)) == 3
    dispatcher.set_slots("lane", 1)
    dispatcher.done("lane")
    dispatcher.done("lane")
    assert dispatcher.take(9) == []
    dispatcher.done("lane")
    assert [item for _, item, _ in dispatcher.take(9)] == [3]


def test_a_pause_neither_takes_nor_asks_and_what_runs_runs_on() -> None:
    dispatcher = dispatcher_of("lane", slots=3)
    dispatcher.push("lane", 1)
    dispatcher.take(1)
    dispatcher.push("lane", 2)
    dispatcher.pause("lane")
    dispatcher.pause("lane")
    assert (dispatcher.take(1), dispatcher.demand()) == ([], {})
    dispatcher.done("lane")
    dispatcher.resume("lane")
    assert dispatcher.demand() == {"lane": 2}
    assert dispatcher.take(1) == [("lane", 2, None)]


def test_the_limit_holds_over_all_lanes_and_bounds_the_demand() -> None:
    dispatcher = dispatcher_of("a", "b", slots=10, limit=3)
    assert dispatcher.demand() == {"a": 3, "b": 3}
    for number in range(4):
        dispatcher.push("a", number)
        dispatcher.push("b", number)
    assert dispatcher.demand() == {}
    assert [lane for lane, _, _ in dispatcher.take(100)] == ["a", "b", "a"]
    dispatcher.done("a")
    assert [lane for lane, _, _ in dispatcher.take(100)] == ["b"]


def test_an_unknown_lane_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no lane 'x'; known lanes: none"):
        Dispatcher().pause("x")
    dispatcher = dispatcher_of(*(f"lane {number}" for number in range(13)))
    with pytest.raises(KeyError, match=r"no lane 'x'; known lanes: 'lane 0', .*'lane 9', 3 more"):
        dispatcher.push("x", 1)


@pytest.mark.parametrize(
    "wrong", [True, 1.0, ("g",), bytearray(b"g"), type("Text", (str,), {})("g")], ids=repr
)
def test_a_group_that_could_run_a_callers_code_is_refused(wrong: Any) -> None:
    dispatcher = dispatcher_of("lane")
    with pytest.raises(TypeError, match="group must be a str, bytes, int or None, not"):
        dispatcher.push("lane", 1, group=wrong)
    with pytest.raises(TypeError, match="group must be a str, bytes, int or None, not"):
        dispatcher.done("lane", wrong)
    assert dispatcher.queued("lane") == 0


def test_a_wrong_number_is_refused_with_its_name_and_changes_nothing() -> None:
    dispatcher = dispatcher_of("lane")
    with pytest.raises(ValueError, match="priority must be 0 to 255"):
        dispatcher.push("lane", 1, 256)
    with pytest.raises(ValueError, match="slots must be 0 or more, not -1"):
        dispatcher.set_slots("lane", -1)
    with pytest.raises(ValueError, match="slots must be 0 or more, not -1"):
        dispatcher.add_lane("other", -1)
    with pytest.raises(ValueError, match="n must be 0 or more, not -1"):
        dispatcher.take(-1)
    with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
        Dispatcher(-1)
    wrong: Any = "5"
    with pytest.raises(TypeError, match="n must be an int, not str"):
        dispatcher.take(wrong)
    with pytest.raises(TypeError, match="unhashable"):
        dispatcher.add_lane(wrong and [], 1)
    with pytest.raises(KeyError, match="no lane 'other'; known lanes: 'lane'"):
        dispatcher.pause("other")
    assert (dispatcher.queued_total, dispatcher.demand()) == (0, {"lane": 1000})
    dispatcher.check()
