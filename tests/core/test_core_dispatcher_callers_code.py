"""Dispatcher: what a caller's keys, messages and destructors may do while a method runs."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from iii_core import Dispatcher


class Key:
    """Equal by name; all collide, so that each look-up compares, and a comparison runs `hook`."""

    hook: Callable[[], object] | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if Key.hook:
            Key.hook()
        return isinstance(other, Key) and other.name == self.name


@pytest.fixture(autouse=True)
def _no_hook() -> Iterator[None]:
    yield
    Key.hook = None


@pytest.fixture
def lanes() -> Iterator[Dispatcher[Any, Any]]:
    dispatcher: Dispatcher[Any, Any] = Dispatcher()
    for name in "abc":
        dispatcher.add_lane(Key(name), 4)
        dispatcher.push(Key(name), name)
        dispatcher.push(Key(name), name, group="g")
        dispatcher.push(Key(name), name, group="g")
    yield dispatcher
    Key.hook = None
    dispatcher.check()


def test_a_key_that_raises_changes_nothing(lanes: Dispatcher[Any, Any]) -> None:
    lanes.take(3)
    calls: list[Callable[[Any], object]] = [
        lambda key: lanes.add_lane(key, 1),
        lanes.remove_lane,
        lanes.drain,
        lanes.pause,
        lanes.resume,
        lambda key: lanes.set_slots(key, 0),
        lambda key: lanes.push(key, "new", group="g"),
        lanes.done,
        lanes.running,
        lanes.queued,
    ]
    for call in calls:
        Key.hook = lambda: 1 // 0
        with pytest.raises(ZeroDivisionError):
            call(Key("c"))
        Key.hook = None
        lanes.check()
    assert (lanes.running_total, lanes.queued_total, len(lanes.demand())) == (3, 6, 3)


def test_a_key_that_raises_while_its_lane_is_removed_leaves_the_lane(lanes: Dispatcher[Any, Any]) -> None:
    """The look-up of remove_lane() passes two other lanes, its removal passes them again."""
    comparisons = iter([None, None, None, ZeroDivisionError()])

    def hook() -> None:
        if error := next(comparisons, None):
            raise error

    Key.hook = hook
    with pytest.raises(ZeroDivisionError):
        lanes.remove_lane(Key("c"))
    Key.hook = None
    lanes.check()
    assert lanes.queued(Key("c")) == 3
    assert len(lanes.take(9)) == 6


def test_nothing_is_pushed_into_a_lane_that_is_being_removed(lanes: Dispatcher[Any, Any]) -> None:
    key = Key("c")
    refused = 0

    def hook() -> None:
        nonlocal refused
        Key.hook = None
        try:
            lanes.push(key, "late")
        except KeyError:
            refused += 1
        Key.hook = hook

    Key.hook = hook
    drained = lanes.remove_lane(key)
    Key.hook = None
    assert refused > 0
    assert drained.count("c") == 3 and drained.count("late") == len(drained) - 3
    assert lanes.queued_total == 6


def test_a_key_may_change_the_dispatcher_while_it_is_compared(lanes: Dispatcher[Any, Any]) -> None:
    taken: list[Any] = []

    def hook() -> None:
        Key.hook = None
        taken.extend(lanes.take(1))
        lanes.push(Key("a"), "inner", group="g")
        if taken:
            lane, _, group = taken.pop()
            lanes.done(lane, group)
        Key.hook = hook

    for _ in range(10):
        Key.hook = hook
        lanes.push(Key("c"), "outer", group="g")
        lanes.drain(Key("b"))
        lanes.set_slots(Key("c"), 3)
        lanes.pause(Key("c"))
        lanes.resume(Key("c"))
        lanes.running(Key("a"))
        Key.hook = None
        lanes.check()


class Phoenix:
    """A garbage cycle; collecting it runs `rise`, and leaves the next one. So any allocation may run it."""

    def __init__(self, rise: Callable[[], object], lives: int) -> None:
        self.cycle = self
        self.rise = rise
        self.lives = lives

    def __del__(self) -> None:
        if self.lives:
            self.rise()
            Phoenix(self.rise, self.lives - 1)


@pytest.fixture
def _collecting_often() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*threshold)
    gc.collect()


@pytest.mark.usefixtures("_collecting_often")
def test_destructors_may_come_in_at_any_allocation() -> None:
    """They push to the very group that is being pushed to, take and settle, in the midst of such calls."""
    dispatcher: Dispatcher[str, int] = Dispatcher()
    dispatcher.add_lane("a", 5)
    dispatcher.add_lane("b", 5)
    counts = {"pushed": 0, "done": 0, "risen": 0, "group": 0}

    def push(lane: str, group: str | None) -> None:
        counts["pushed"] += 1
        dispatcher.push(lane, 1, 128, group)

    def settle(taken: list[tuple[str, int, Any]]) -> None:
        for lane, _, group in taken:
            dispatcher.done(lane, group)
            counts["done"] += 1

    def rise() -> None:
        counts["risen"] += 1
        push("a", f"g{counts['group']}")
        push("b", None)
        if counts["risen"] % 3 == 0:
            settle(dispatcher.take(1))

    for number in range(400):
        gc.set_threshold(1 + number % 8)  # so that in time each allocation is the one that collects
        counts["group"] = number
        Phoenix(rise, 3)
        push("a", f"g{number}")
        push("b", None)
        settle(dispatcher.take(3))
        dispatcher.check()
    assert counts["risen"] > 0
    gc.collect()
    while taken := dispatcher.take(10):
        settle(taken)
    dispatcher.check()
    assert counts["done"] == counts["pushed"]
    assert (dispatcher.running_total, dispatcher.queued_total) == (0, 0)


@pytest.mark.usefixtures("_collecting_often")
def test_a_destructor_may_remove_the_lane_that_is_being_pushed_to() -> None:
    """Then the push is refused; what was accepted is in what the removal returned."""
    for threshold in range(1, 40):
        dispatcher: Dispatcher[str, int] = Dispatcher()
        dispatcher.add_lane("lane", 5)
        drained: list[int] = []
        accepted: list[int] = []
        gc.set_threshold(threshold)
        Phoenix(lambda of=dispatcher, to=drained: to.extend(of.remove_lane("lane")), 1)
        with suppress(KeyError):
            for number in range(20):
                dispatcher.push("lane", number, group=str(number))
                accepted.append(number)
        gc.collect()
        assert drained == accepted
        dispatcher.check()


def test_messages_are_never_compared_or_hashed_and_may_come_back_when_dropped() -> None:
    dispatcher: Dispatcher[str, Any] = Dispatcher()
    dispatcher.add_lane("lane", 9)

    class Returning:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(self) -> int:
            raise AssertionError("hashed")

        def __del__(self) -> None:
            dispatcher.check()
            dispatcher.push("lane", "returned", group="g")

    for group in (None, "g", "g"):
        dispatcher.push("lane", Returning(), group=group)
    taken = dispatcher.take(2)
    assert len(dispatcher.drain("lane")) == 1
    assert dispatcher.queued("lane") == 1, "dropped, the one that was drained came back"
    taken.clear()
    assert dispatcher.queued("lane") == 3, "and so did the two that were taken"
    dispatcher.check()


def test_the_garbage_collector_sees_the_messages() -> None:
    class Node:
        dispatcher: Dispatcher[Any, Node]

    for groups in ((None,), ("g", "g", "g")):
        node = Node()
        node.dispatcher = Dispatcher()
        for key in (node, "other"):
            node.dispatcher.add_lane(key, 2)
            for group in groups:
                node.dispatcher.push(key, node, group=group)
        alive = weakref.ref(node)
        del node, key
        gc.collect()
        assert alive() is None


def test_no_reference_is_kept_or_dropped() -> None:
    item = object()
    key = ("a key", object())
    group = "a group that is " + str(id(item))
    dispatcher: Dispatcher[Any, object] = Dispatcher()
    references = [sys.getrefcount(held) for held in (item, key, group)]
    dispatcher.add_lane(key, 50)
    for _ in range(3):
        for number in range(200):
            dispatcher.push(key, item, number, group if number % 3 else None)
        for message in dispatcher.take(40):
            dispatcher.done(message[0], message[2])
        del message
        dispatcher.drain(key)
        with pytest.raises(ValueError, match="without"):
            dispatcher.done(key, group)
        dispatcher.check()
    dispatcher.push(key, item, 5, group)
    dispatcher.remove_lane(key)
    assert [sys.getrefcount(held) for held in (item, key, group)] == references
