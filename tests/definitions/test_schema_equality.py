"""uniqueItems, enum and const compare by content, as a naive comparison of each with each does; and a JSON
Schema dict says of a value what the jsonschema library says."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iii import schema
from iii.errors import ValidationError
from iii.schema.equality import all_unique, key
from iii.schema.work import Work

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([1.0, 0.0, -0.0, 1e16, 10**16, 1e22, 10**22, 10**22 + 1]),
    st.sampled_from([2**53, 2.0**53, 2**53 + 1, 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "1", "true", "1.0", "e9.5"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return (
        type(a) is type(b) and a == b
        if not isinstance(a, int | float)
        else isinstance(b, int | float) and a == b
    )


@settings(deadline=None)
@given(VALUES, VALUES)
def test_keys_are_equal_exactly_where_values_are(a: Any, b: Any) -> None:
    assert (key(a, Work()) == key(b, Work())) is equal(a, b)


@settings(deadline=None)
@given(st.lists(VALUES, max_size=8))
def test_items_are_unique_exactly_where_no_two_are_equal(values: list[Any]) -> None:
    pairs = [(a, b) for index, a in enumerate(values) for b in values[:index]]
    assert all_unique(values, Work()) is not any(equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("values", "unique"),
    [
        ([1, True], True), ([0, False], True), ([1, 1.0], False), ([[1], [True]], True),
        ([{"a": 1}, {"a": 1.0}], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False), ([10**22, 1e22], False),
        ([2**53 + 1, 2.0**53], True),
        (["1", 1], True), ([None, "null"], True),
        ([0.0, -0.0], False), ([[0], [-0.0]], False),
        (["a", "a"], False),
    ],
)  # fmt: skip
def test_equality_is_json_schemas(values: list[Any], unique: bool) -> None:
    assert all_unique(values, Work()) is unique


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few, small = st.lists(inner, min_size=1, max_size=3), st.integers(0, 3)
    names = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    return st.one_of(
        st.fixed_dictionaries({}, optional={
            "type": st.sampled_from(["object", "array", "integer", "number", "string", "null", "boolean"]),
            "properties": names, "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "[bc]"]), inner, max_size=1),
            "additionalProperties": inner, "propertyNames": inner, "minProperties": small,
            "maxProperties": small,
            "unevaluatedProperties": inner, "dependentSchemas": names,
        }),
        st.fixed_dictionaries({}, optional={
            "prefixItems": few, "items": inner, "contains": inner, "minContains": small, "maxContains": small,
            "minItems": small, "maxItems": small, "uniqueItems": st.booleans(), "unevaluatedItems": inner,
        }),
        st.fixed_dictionaries({}, optional={
            "allOf": few, "anyOf": few, "oneOf": few, "not": inner, "if": inner, "then": inner, "else": inner,
            "enum": st.lists(VALUES, min_size=1, max_size=3), "const": VALUES, "$ref": st.just("#/$defs/d"),
        }),
    )  # fmt: skip


LEAVES = st.one_of(
    st.booleans(),
    st.fixed_dictionaries({}, optional={
        "type": st.sampled_from(["integer", "number", "string", ["null", "boolean"], ["array", "object"]]),
        "minimum": st.integers(-2, 2), "maximum": st.integers(-2, 2), "exclusiveMinimum": st.integers(-2, 2),
        "exclusiveMaximum": st.floats(-2, 2), "multipleOf": st.sampled_from([2, 0.5, 3]),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 2), "pattern": st.sampled_from(["^a", "b$", "^(a+)+$"]),
    }),
)  # fmt: skip
SCHEMAS = st.recursive(LEAVES, _schemas, max_leaves=8)


@settings(deadline=None)
@given(SCHEMAS, SCHEMAS, VALUES)
def test_the_verdict_is_that_of_the_jsonschema_library(written: Any, definition: Any, value: Any) -> None:
    whole = {"allOf": [written], "$defs": {"d": definition}}
    try:
        verdict = jsonschema.Draft202012Validator(whole).is_valid(value)
    except (RecursionError, OverflowError):
        return
    validator = schema.compile(whole)
    assert validator is not None
    try:
        validator.validate(value)
        found = None
    except ValidationError as error:
        found = error.details
    assert (found is None) is verdict
    assert found is None or found
