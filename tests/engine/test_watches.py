"""What a change becomes: a message for each trigger that watches it, in the triggers' order."""

from __future__ import annotations

from typing import Any

from engine_kit import step

from iii import StateChange, state
from iii.model import Change
from iii.sources.watches import Watches
from iii.step import Step

NOW_MS = 5_000


def watcher(name: str, *triggers: Any) -> Step:
    async def handler(change: StateChange) -> None: ...

    return step(handler, *triggers, name=name)


def changed(namespace: str = "a", new: bytes | None = b'{"s":1}', old: bytes | None = None) -> Change:
    return Change(7, namespace, "k", old, new, {"traceparent": "t"})


def fired(watches: Watches, change: Change, mark: int = 0) -> list[tuple[str, str]]:
    """(step, index of its trigger) of each message."""
    copies = watches.copies(change, dict.fromkeys((watch.mark for watch in watches.all), mark), NOW_MS)
    return [(copy.message.step or "", copy.message.headers["iii-trigger"]) for copy in copies]


STEPS = [
    watcher("One", state(namespace="b"), state(namespace="a")),
    watcher("Every", state()),
    watcher("Two", state(namespace="a", filter={"s": 1}), state(namespace="a", filter={"s": 2})),
]


def test_a_change_goes_to_those_who_watch_its_namespace_in_their_order() -> None:
    watches = Watches(STEPS)
    assert fired(watches, changed("a")) == [("One", "1"), ("Every", "0"), ("Two", "0")]
    assert fired(watches, changed("b")) == [("One", "0"), ("Every", "0")]
    assert fired(watches, changed("c")) == [("Every", "0")]
    assert fired(watches, changed("a", None, b'{"s":1}')) == [("One", "1"), ("Every", "0")]


def test_a_trigger_whose_mark_has_reached_the_change_is_passed_over() -> None:
    watches = Watches(STEPS)
    assert fired(watches, changed(), 6) != [] and fired(watches, changed(), 7) == []


def test_a_value_that_is_no_json_misses_those_who_filter_alone() -> None:
    assert fired(Watches(STEPS), changed("a", b"{oops")) == [("One", "1"), ("Every", "0")]


def test_the_messages_of_a_key_are_one_group_and_of_no_other() -> None:
    watches = Watches(STEPS)
    marks = dict.fromkeys((watch.mark for watch in watches.all), 0)
    groups = {
        (namespace, key): {
            copy.message.group
            for copy in watches.copies(Change(1, namespace, key, None, b"1", {}), marks, NOW_MS)
        }
        for namespace, key in (("a", "k"), ("a", "kk"), ("ak", "k"))
    }  # fmt: skip
    assert all(len(each) == 1 for each in groups.values())
    assert len(set.union(*groups.values())) == 3
    assert groups["a", "k"] == {"120a3db9f3c6369ed1505b06f437b556"}, "messages of older versions wait in it"


def test_the_size_of_a_copy_covers_all_that_it_holds() -> None:
    marks = dict.fromkeys((watch.mark for watch in Watches(STEPS).all), 0)
    for copy in Watches(STEPS).copies(changed(), marks, NOW_MS):
        assert copy.size == len(copy.message.payload) + len("traceparenttiii-hops1:5000")
