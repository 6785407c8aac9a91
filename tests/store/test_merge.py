"""What a Merge means: evaluate() over values and patches, against a naive twin and by its laws."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.errors import BadMerge, InputError
from iii.formats.merge import OPS_MAX, PATH_DEPTH_MAX, encode_patch, evaluate

INT_MAX, INT_MIN = (1 << 64) - 1, -(1 << 63)
NAMES = st.sampled_from(["a", "b", "c", ""])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(NAMES, documents, max_size=3)
paths = st.one_of(NAMES, st.lists(NAMES | st.integers(0, 3), max_size=4))
ops = st.one_of(
    st.fixed_dictionaries({"type": st.just("set"), "path": paths, "value": documents}),
    st.fixed_dictionaries({"type": st.just("merge"), "path": paths, "value": objects}),
    st.fixed_dictionaries({"type": st.just("append"), "path": paths, "value": documents}),
    st.fixed_dictionaries({"type": st.sampled_from(["increment", "decrement"]), "path": paths}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["increment", "decrement"]), "path": paths, "by": st.integers(-9, 9)}
    ),
    st.fixed_dictionaries({"type": st.just("remove"), "path": paths}),
)


def merged(old: Any, *patch: dict[str, Any]) -> Any:
    return orjson.loads(evaluate(orjson.dumps(old), encode_patch(list(patch))))


class Misfit(Exception):
    pass


def twin(old: Any, op: dict[str, Any]) -> Any:
    """The op by recursion over its path, on a copy; Misfit where it does not fit."""
    path = op["path"]
    steps = path if isinstance(path, list) else [path] if path else []
    missing = object()

    def leaf(value: Any) -> Any:
        empty: Any = {"merge": {}, "append": []}.get(op["type"], 0)
        start = empty if value is missing else value
        match op["type"]:
            case "set":
                return op["value"]
            case "merge" if value is missing or isinstance(value, dict):
                return {**start, **op["value"]}
            case "append" if value is missing or isinstance(value, list):
                return [*start, op["value"]]
            case "increment" | "decrement" if value is missing or type(value) in (int, float):
                sign = 1 if op["type"] == "increment" else -1
                return start + sign * op.get("by", 1)
            case "remove" if steps:
                return missing
        raise Misfit

    def at(value: Any, rest: list[Any]) -> Any:
        if not rest:
            return leaf(value)
        if value is missing:
            if op["type"] == "remove":
                return missing
            value = {}
        key, value = rest[0], copy.copy(value)
        if isinstance(key, str) and isinstance(value, dict):
            new = at(value.get(key, missing), rest[1:])
            if new is not missing:
                value[key] = new
            else:
                value.pop(key, None)
        elif isinstance(key, int) and isinstance(value, list):
            there = key < len(value)
            new = at(value[key] if there else missing, rest[1:])
            if not there and op["type"] != "remove":
                raise Misfit
            if new is not missing:
                value[key] = new
            elif there:
                del value[key]
        else:
            raise Misfit
        return value

    return at(old, steps)


@given(documents, st.lists(ops, min_size=1, max_size=5))
def test_ops_do_what_the_naive_twin_does(old: Any, patch: list[dict[str, Any]]) -> None:
    try:
        encoded = encode_patch(patch)
    except InputError:
        assert any(op["type"] == "remove" and not op["path"] for op in patch)
        return
    try:
        expected = old
        for op in patch:
            expected = twin(expected, op)
    except Misfit:
        with pytest.raises(BadMerge):
            evaluate(orjson.dumps(old), encoded)
    else:
        assert evaluate(orjson.dumps(old), encoded) == orjson.dumps(expected)


@given(objects, objects)
def test_an_object_merges_shallowly_at_the_root(old: dict[str, Any], patch: dict[str, Any]) -> None:
    assert evaluate(orjson.dumps(old), encode_patch(patch)) == orjson.dumps({**old, **patch})
    assert evaluate(None, encode_patch(patch)) == orjson.dumps(patch)


@given(documents, st.lists(ops, min_size=2, max_size=4))
def test_a_list_of_ops_is_each_op_in_turn(old: Any, patch: list[dict[str, Any]]) -> None:
    try:
        one_by_one = orjson.dumps(old)
        for op in patch:
            one_by_one = evaluate(one_by_one, encode_patch([op]))
        at_once = encode_patch(patch)
    except (BadMerge, InputError):
        return
    assert evaluate(orjson.dumps(old), at_once) == one_by_one


@given(st.none() | st.binary() | documents.map(orjson.dumps), st.binary() | st.lists(ops).map(orjson.dumps))
def test_whatever_comes_in_only_badmerge_comes_out(old: bytes | None, patch: bytes) -> None:
    try:
        orjson.loads(evaluate(old, patch))
    except BadMerge:
        pass


@given(objects)
def test_a_patch_that_changes_nothing_gives_the_same_bytes(old: dict[str, Any]) -> None:
    stored = orjson.dumps(old)
    assert evaluate(stored, b"{}") == stored
    assert evaluate(stored, encode_patch([{"type": "remove", "path": ["nowhere", "at", "all"]}])) == stored


def test_each_op_by_example() -> None:
    old = {"n": 1, "tags": ["a"], "deep": {"list": [1, {"x": 1.5}]}}
    assert merged(old, {"type": "increment", "path": "n", "by": 4})["n"] == 5
    assert merged(old, {"type": "decrement", "path": "n"})["n"] == 0
    assert merged(old, {"type": "increment", "path": ["deep", "list", 1, "x"]})["deep"]["list"][1] == {
        "x": 2.5
    }
    assert merged(old, {"type": "append", "path": "tags", "value": "b"})["tags"] == ["a", "b"]
    assert merged(old, {"type": "remove", "path": ["deep", "list", 0]})["deep"] == {"list": [{"x": 1.5}]}
    assert merged(old, {"type": "merge", "path": "deep", "value": {"y": 1}})["deep"]["y"] == 1
    assert merged(old, {"type": "set", "path": "", "value": [1]}) == [1]
    assert merged(old, {"type": "set", "path": ["new", "a", "b"], "value": None})["new"] == {"a": {"b": None}}


def test_missing_values_begin_empty() -> None:
    assert evaluate(None, b'[{"type":"increment","path":["a","n"],"by":2}]') == b'{"a":{"n":2}}'
    assert evaluate(None, b'[{"type":"append","path":"","value":1}]') == b"[1]"
    assert evaluate(None, b'[{"type":"decrement","path":""}]') == b"-1"
    assert evaluate(None, b'[{"type":"remove","path":"x"}]') == b"{}"


def test_a_path_key_is_no_dotted_path_and_an_empty_key_in_a_list_is_a_key() -> None:
    assert merged({}, {"type": "set", "path": "a.b", "value": 1}) == {"a.b": 1}
    assert merged({}, {"type": "set", "path": ["", "x"], "value": 1}) == {"": {"x": 1}}


@pytest.mark.parametrize(
    ("old", "op", "said"),
    [
        ({"a": "x"}, {"type": "increment", "path": "a"}, "a number at a, which is a string"),
        ({"a": True}, {"type": "increment", "path": "a"}, "which is a boolean"),
        ({"a": None}, {"type": "increment", "path": "a"}, "which is null"),
        ({"a": {}}, {"type": "append", "path": "a", "value": 1}, "a list at a, which is an object"),
        ([], {"type": "merge", "path": "", "value": {}}, "an object at the root, which is a list"),
        ({"a": 1}, {"type": "set", "path": ["a", "b"], "value": 1}, "an object at a, which is a number"),
        ({"a": [1]}, {"type": "set", "path": ["a", 1], "value": 1}, "no index 1 in the list of 1 at a"),
        ({"a": [1]}, {"type": "set", "path": ["a", "0"], "value": 1}, "an object at a, which is a list"),
        ({"a": {"0": 1}}, {"type": "remove", "path": ["a", 0]}, "a list at a, which is an object"),
        ({}, {"type": "increment", "path": ["a", 0]}, "a list at a, which is an object"),
        ({"a": INT_MAX}, {"type": "increment", "path": "a"}, "over 64 bits"),
        ({"a": INT_MIN}, {"type": "decrement", "path": "a"}, "over 64 bits"),
        ({"a": 1.7e308}, {"type": "increment", "path": "a", "by": 1.7e308}, "range of a float"),
    ],
)
def test_what_does_not_fit_says_what_is_where(old: Any, op: dict[str, Any], said: str) -> None:
    with pytest.raises(BadMerge, match=said):
        merged(old, op)


def test_integers_stay_integers_up_to_64_bits() -> None:
    assert evaluate(b"%d" % (INT_MAX - 1), b'[{"type":"increment","path":""}]') == b"%d" % INT_MAX
    assert evaluate(b"%d" % (INT_MIN + 1), b'[{"type":"decrement","path":""}]') == b"%d" % INT_MIN
    assert evaluate(b"1", b'[{"type":"increment","path":"","by":1.0}]') == b"2.0"
    with pytest.raises(BadMerge, match="64"):
        evaluate(b'{"a":%d}' % (INT_MAX + 1), b"{}")
    with pytest.raises(BadMerge, match="64"):
        evaluate(b"{}", b'{"a":%d}' % (INT_MAX + 1))


@pytest.mark.parametrize("old", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000])
def test_a_stored_value_that_is_no_json_is_refused(old: bytes) -> None:
    with pytest.raises(BadMerge, match="stored value"):
        evaluate(old, b"{}")


def test_values_too_deep_to_store_are_refused() -> None:
    path = json.dumps(["a"] * (PATH_DEPTH_MAX - 1)).encode()
    value = b"1"
    for _ in range(4):
        value = evaluate(b"{}", b'[{"type":"set","path":%s,"value":%s}]' % (path, value))
    with pytest.raises(BadMerge, match="Recursion"):
        evaluate(b"{}", b'[{"type":"set","path":%s,"value":%s}]' % (path, value))


def test_a_refusal_does_not_repeat_a_key_of_a_megabyte() -> None:
    with pytest.raises(BadMerge) as caught:
        merged([], {"type": "set", "path": ["a" * 1_000_000], "value": 1})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("text", "not str"),
        (None, "not NoneType"),
        ([], "length >= 1"),
        ([1], r"`object`.*\[0\]"),
        ([{"type": "replace", "path": "a"}], "replace.*set, merge, increment"),
        ([{"path": "a", "value": 1}], "type"),
        ([{"type": "set", "path": "a"}], "value"),
        ([{"type": "set", "value": 1}], "path"),
        ([{"type": "set", "path": "a", "value": 1, "by": 1}], "by"),
        ([{"type": "increment", "path": "a", "by": "1"}], "by"),
        ([{"type": "increment", "path": "a", "by": True}], "bool"),
        ([{"type": "merge", "path": "a", "value": [1]}], "object"),
        ([{"type": "set", "path": ["a", -1], "value": 1}], ">= 0"),
        ([{"type": "set", "path": ["a", True], "value": 1}], "bool"),
        ([{"type": "set", "path": ["a"] * (PATH_DEPTH_MAX + 1), "value": 1}], "<= 64"),
        ([{"type": "increment", "path": "a"}] * (OPS_MAX + 1), "<= 1000"),
        ([{"type": "remove", "path": ""}], "state.delete"),
        ([{"type": "remove", "path": []}], "state.delete"),
        ({"a": math.nan}, r"NaN.*\$\.a"),
        ({"a": [1, {"b": -math.inf}]}, r"\$\.a\.1\.b"),
        ([{"type": "increment", "path": "a", "by": math.inf}], "bad patch"),
        ({1: 2}, "must be str"),
        ({"a": 1 << 64}, "64-bit"),
        ({"a": object()}, "not JSON serializable"),
        ({"a": "\ud800"}, "surrogates"),
    ],
)
def test_a_bad_patch_is_refused_at_the_call(patch: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        encode_patch(patch)


def test_a_patch_may_hold_null() -> None:
    assert evaluate(b'{"a":1}', encode_patch({"a": None, "b": [None, 1.5]})) == b'{"a":null,"b":[null,1.5]}'
