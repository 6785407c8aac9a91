"""State filters: JSON equality, nesting, and when a change starts a step."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from iii.formats.filters import Values, doubts, firing, matcher, plain, problem

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@pytest.mark.parametrize(
    ("filter", "value", "matched"),
    [
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, True),
        ({"a": {"b": 1}}, {"a": 1}, False),
        ({"a": {}}, {"a": {"b": 1}}, True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, False),
        ({"a": [{"b": None}]}, {"a": [{"c": None}]}, False),
        ({"a": [{"b": [1]}]}, {"a": [{"b": [1.0]}]}, True),
        ({"a": [0]}, {"a": [False]}, False),
        ({"a": []}, {"a": {}}, False),
        ({"a": {}}, {"a": []}, False),
        ({"a": {"b": None}}, {"a": {}}, False),
        ({"a": ""}, {"a": None}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, False),
        ({"a": 1}, [{"a": 1}], False),
        ({"a": 1}, None, False),
        ({}, 5, False),
    ],
)
def test_matching(filter: dict[str, Any], value: object, matched: bool) -> None:
    assert matcher(filter)(value) is matched


@given(objects)
def test_every_object_matches_itself_and_any_part_of_itself(value: dict[str, Any]) -> None:
    assert matcher(value)(value)
    for key in value:
        assert matcher({key: value[key]})(value)


@given(objects, st.text(max_size=3), json_values)
def test_one_more_wanted_key_no_longer_matches(value: dict[str, Any], key: str, wanted: object) -> None:
    if key not in value:
        assert not matcher({**value, key: wanted})(value)


def canonical(value: object) -> object:
    """Equal for two values exactly when JSON calls them equal, to Python too."""
    if isinstance(value, dict):
        return "object", frozenset((key, canonical(part)) for key, part in value.items())
    if isinstance(value, list):
        return "array", tuple(map(canonical, value))
    return "boolean" if isinstance(value, bool) else "other", value


few = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 0.0, 1.0, "", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(few, few)
def test_a_key_matches_an_equal_value_and_only_that(wanted: object, found: object) -> None:
    """Within a list a mapping is equal as a whole, as everything else is."""
    assert matcher({"k": [wanted]})({"k": [found]}) is (canonical(wanted) == canonical(found))


DONE, OPEN = {"status": "done"}, {"status": "open"}


@pytest.mark.parametrize(
    ("fire", "old", "new", "fired"),
    [
        ("enter", None, DONE, True),
        ("enter", OPEN, DONE, True),
        ("enter", DONE, {**DONE, "n": 1}, False),
        ("enter", DONE, OPEN, False),
        ("enter", DONE, None, False),
        ("every", DONE, {**DONE, "n": 1}, True),
        ("every", DONE, OPEN, False),
    ],
)
def test_firing_with_a_filter(fire: str, old: object, new: object, fired: bool) -> None:
    assert firing(DONE, fire)(SimpleNamespace(old=old, new=new)) is fired


@pytest.mark.parametrize(("fire", "new"), [("every", DONE), ("enter", OPEN), ("enter", None)])
def test_the_old_value_is_asked_for_only_where_it_matters(fire: str, new: object) -> None:
    """It may be large, and costs its decoding."""
    firing(DONE, fire)(cast(Values, SimpleNamespace(new=new)))


def contains_itself(container: Any) -> Any:
    if isinstance(container, list):
        container.append(container)
    else:
        container["self"] = container
    return container


def test_a_filter_keeps_nothing_of_what_it_was_made_of() -> None:
    wanted = MappingProxyType({"a": MappingProxyType({"b": [MappingProxyType({"c": 1})]})})
    assert problem(wanted) is None
    made = plain(wanted)
    assert made == {"a": {"b": [{"c": 1}]}} and type(made["a"]["b"][0]) is dict


@pytest.mark.parametrize(
    ("filter", "where", "message"),
    [
        ("done", "", "expected a mapping like"),
        ([1], "", "got list"),
        ({1: 2}, "", "its keys must be strings"),
        ({"a": {2: 3}}, "a", "its keys must be strings"),
        ({"a": {"b": object()}}, "a.b", "expected a JSON value, got object"),
        ({"a": [len]}, "a", "expected a JSON value"),
        ({"a": ("b", "c")}, "a", "expected a JSON value, got tuple (write a list)"),
        ({"a": float("nan")}, "a", "expected a JSON value"),
        ({"a": [{"b": float("inf")}]}, "a.b", "expected a JSON value"),
        ({"a": {"b": "\ud800"}}, "a.b", "is not valid Unicode (a lone surrogate)"),
        ({"a": {"\ud800": 1}}, "a", "is not valid Unicode (a lone surrogate)"),
        (contains_itself({}), "", "does it contain itself?"),
        ({"a": contains_itself([])}, "", "does it contain itself?"),
    ],
)
def test_what_is_no_filter_is_named(filter: object, where: str, message: str) -> None:
    found = problem(filter)
    assert found is not None
    assert found[0] == where
    assert message in found[1]


@given(objects)
def test_every_json_object_without_operators_is_a_filter(filter: dict[str, Any]) -> None:
    assume("$" not in repr(filter))
    assert problem(filter) is None


@pytest.mark.parametrize(
    ("filter", "where"),
    [
        ({"amount": {"$gt": 100}}, "amount.$gt"),
        ({"$or": [{"a": 1}, {"a": 2}]}, "$or"),
        ({"status": {"$in": ["a", "b"]}}, "status.$in"),
        ({"status": {"$not": {"$eq": 1}}}, "status.$not"),
        ({"items": [{"$gte": 1}]}, "items.$gte"),
        ({"items": {"$elemMatch": {"a": 1}}}, "items.$elemMatch"),
        ({"$.order.status": "paid"}, "$.order.status"),
        ({"$['order']": "paid"}, "$['order']"),
    ],
)
def test_an_operator_is_refused_with_what_to_write_instead(filter: dict[str, Any], where: str) -> None:
    found = problem(filter)
    assert found is not None and found[0] == where
    assert "compares with equal values alone; decide the rest in condition=" in found[1]


@pytest.mark.parametrize(
    ("filter", "where", "message"),
    [
        ({"order.status": "paid"}, "order.status", 'write {"order": {"status": …}}'),
        (
            {"a": {"b.c.d": 1}},
            "a.b.c.d",
            'the one name "b.c.d": to look into a value write {"b": {"c": {"d": …}}}',
        ),
        (
            {"items[0].id": 1},
            "items[0].id",
            'the one name "items[0].id": a filter compares with equal values',
        ),
        ({"items.0": 1}, "items.0", "condition="),
        ({"a": [{"b.c": 1}]}, "a.b.c", 'the one name "b.c"'),
        ({"$type": "order"}, "$type", 'is taken for the name "$type"'),
        ({"a": {"$size": 3}}, "a.$size", "condition="),
        (
            {"amount": {"gt": 100, "lt": 200}},
            "amount",
            'is taken for a value that has "gt" and "lt": a filter',
        ),
        ({"amount": {">=": 100}}, "amount", "condition="),
        ({"amount__gte": 100}, "amount__gte", 'is taken for the name "amount__gte": a filter'),
        ({"or": [{"a": 1}, {"a": 2}]}, "or", "condition="),
        ({"a": {"not": {"b": 1}}}, "a.not", "condition="),
    ],
)
def test_what_looks_like_a_path_or_an_operator_gets_a_word(
    filter: dict[str, Any], where: str, message: str
) -> None:
    assert problem(filter) is None
    [(found, told)] = doubts(filter)
    assert found == where and message in told


@pytest.mark.parametrize(
    "filter",
    [
        {
            "status": "paid",
            "in": True,
            "not": 1,
            "ann@shop.example": {"a": [1, {"b": 2}]},
            "3.5 mm": 1,
            "a.": 1,
        },
        {"gt": 3},
        {"size": {"in": 3, "cm": 7}, "a": {}, "__typename": "Order", "x/y": 1},
    ],
)
def test_what_is_plainly_a_value_gets_none(filter: dict[str, Any]) -> None:
    assert problem(filter) is None and list(doubts(filter)) == []
