"""No body makes a check take longer than its size allows, whatever the schema; counted in calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from iii import schema
from iii.errors import StepError, ValidationError
from iii.schema import Validator
from iii.schema.work import Work

SIZE = 64 << 10
PRIME = 2**61 - 1  # multiples of it have one hash


def compiled(written: object) -> Validator:
    validator = schema.compile(written)
    assert validator is not None
    return validator


def calls_of(check: Callable[[], object]) -> int:
    """How many functions, Python's and C's, run until `check` returns or refuses."""
    count = 0

    def tally(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tally)
    try:
        check()
    except ValidationError as error:
        found = error.details
    else:
        found = ()
    finally:
        sys.setprofile(None)
    assert len(found) <= 20
    assert all(len(detail.message) < 400 for detail in found)
    return count


def filled(item: object, size: int = SIZE) -> bytes:
    text = json.dumps(item)
    return f"[{','.join([text] * (size // (len(text) + 1)))}]".encode()


def numbered(make: Callable[[int], object], size: int = SIZE) -> bytes:
    found: list[str] = []
    while sum(map(len, found)) + len(found) < size:
        found += [json.dumps(make(len(found) + n)) for n in range(100)]
    return f"[{','.join(found)}]".encode()


def named(size: int = SIZE) -> bytes:
    return json.dumps({f"k{n}": 0 for n in range(size // 12)}).encode()


def nested(depth: int, name: str, inmost: object) -> bytes:
    value = inmost
    for _ in range(depth):
        value = {name: value}
    return json.dumps(value).encode()


def doubled(depth: int, leaf: object) -> bytes:
    value = leaf
    for _ in range(depth):
        value = {"left": value, "right": value, "op": "none"}
    return json.dumps(value).encode()


def operation(name: str) -> dict[str, Any]:
    sides = {"left": {"$ref": "#/$defs/e"}, "right": {"$ref": "#/$defs/e"}}
    return {"type": "object", "properties": {**sides, "op": {"const": name}}, "required": ["left", "op"]}


EXPRESSION = {
    "$ref": "#/$defs/e",
    "$defs": {"e": {"anyOf": [{"type": "number"}, *map(operation, ("add", "sub", "mul", "div"))]}},
}
TWICE = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {
            "allOf": [{"properties": {"c": {"$ref": "#/$defs/n"}}}] * 2,
            "properties": {"z": {"type": "string", "default": "z"}},
        }
    },
}
INNER = {"properties": {"a": {"$ref": "#"}}}
UNIQUE = {"type": "array", "uniqueItems": True}
STRINGS = {"type": "array", "items": {"type": "string"}}
HOSTILE: dict[str, tuple[object, bytes]] = {
    "items": (STRINGS, filled(1)),
    "the last item": ({"items": {"type": "integer", "minimum": 0}}, filled(1)[:-1] + b",-1]"),
    "alternatives": ({"items": {"anyOf": [{"const": n} for n in range(100)]}}, filled(-1)),
    "alternatives of arrays": ({"oneOf": [STRINGS, {"items": {"type": "integer"}}]}, filled(1)),
    "recursive alternatives, deep": (EXPRESSION, nested(150, "left", "bad")),
    "recursive alternatives, wide": (EXPRESSION, doubled(10, "bad")),
    "recursion twice, with defaults": (TWICE, nested(100, "c", {"z": 1})),
    "recursive not": ({"not": {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a"]}},
                      nested(150, "a", 1)),
    "recursive if": ({"if": {"required": ["x"], **INNER}, "then": INNER, "else": INNER}, nested(150, "a", 1)),
    "unique objects": (UNIQUE, numbered(lambda n: {"a": n})),
    "unique numbers of one hash": (UNIQUE, numbered(lambda n: n * PRIME)),
    "unique arrays of numbers": (UNIQUE, numbered(lambda n: [n / 7, n])),
    "unknown fields": ({"properties": {"a": {}}, "additionalProperties": False}, named()),
    "patterned fields": ({"patternProperties": {"^x": {}, r"^k\d+$": {"type": "string"}}}, named()),
    "names of fields": ({"type": "object", "propertyNames": {"pattern": r"^k\d+x$"}}, named()),
    "unevaluated fields": (
        {"unevaluatedProperties": False, "anyOf": [{"patternProperties": {"k1": {}}}]}, named()),
    "unevaluated items": ({"unevaluatedItems": False, "contains": {"type": "string"}}, filled(1)),
    "dependent schemas": (
        {"items": {"dependentSchemas": {f"a{n}": {"required": ["x"]} for n in range(60)}}}, filled({"a1": 1})
    ),
    "required fields": ({"items": {"required": [f"a{n}" for n in range(200)]}}, filled({})),
    "contains": ({"type": "array", "contains": {"contains": {"const": 5}}}, filled([1, 2])),
    "enum of objects": ({"items": {"enum": [{"a": n} for n in range(500)]}}, filled({"a": -1})),
    "a large const": ({"const": [*range(20_000)]}, json.dumps([*range(15_000)]).encode()),
    "a large default": ({"items": {"properties": {"d": {"default": [0] * 1000}}}}, filled({})),
    "multiples": ({"items": {"multipleOf": 0.01}}, filled(1e150)),
    "multiples of long integers": ({"items": {"multipleOf": 7}}, filled(7**4000)),
    "formats": ({"items": {"format": "ipv6"}}, filled("::1::")),
    "a format's pattern": ({"format": "regex"}, b'"' + b"(a{1,9}" * 9000 + b'"'),
    "nesting": ({"items": {"$ref": "#"}}, b"[" * SIZE + b"]" * SIZE),
    "numbers that are hard to read": ({"items": {"type": "integer"}}, filled(1e308)),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_body_costs_no_more_calls_than_its_size_allows(case: str) -> None:
    written, raw = HOSTILE[case]
    validator = compiled(written)
    assert calls_of(lambda: validator.validate_json(raw)) < Work(len(raw)).allowed


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ({"prefixItems": [{}], "unevaluatedItems": False}, []),
        ({"unevaluatedProperties": False}, {}),
        ({"dependentSchemas": {"a": {}}}, {}),
        ({"dependentRequired": {"a": ["b"]}}, {}),
        ({"multipleOf": 0.1}, 0),
        ({"not": {"not": {}}}, 0),
    ],
)
def test_a_keyword_that_takes_a_microsecond_is_not_asked_half_a_million_times(
    item: object, value: object
) -> None:
    validator = compiled({"items": item})
    with pytest.raises(ValidationError, match="steps to check"):
        validator.validate_json(filled(value, 1 << 20).replace(b" ", b""))
    assert validator.validate_json(filled(value, 100_000))


def test_an_item_is_not_looked_for_among_half_a_million() -> None:
    with pytest.raises(ValidationError, match="steps to check"):
        compiled({"contains": {"const": 1}}).validate_json(filled(0, 1 << 20))


class Address(pydantic.BaseModel):
    street: str


Wide = pydantic.create_model("Wide", **{f"field{n}": (int, ...) for n in range(30)})  # type: ignore[call-overload]


class Choice(pydantic.BaseModel):
    of: list[Literal["a"] | Literal["b"] | int | Address | list[int] | bool | float | dict[str, int]]


class Person(msgspec.Struct):
    name: str
    tags: dict[str, int] = {}
    numbers: list[int] = []


TYPED: dict[str, tuple[object, bytes]] = {
    "pydantic, a union of many": (Choice, b'{"of": ' + filled("") + b"}"),
    "pydantic, hard numbers": (list[float] | Address, filled(1e308)),
    "msgspec, the last of a mapping": (
        Person,
        json.dumps({"name": "x", "tags": {**{f"k{n}": n for n in range(5000)}, "last": "x"}}).encode(),
    ),
    "msgspec, numbers of one hash": (set[int], numbered(lambda n: n * PRIME * 1000)),
    "msgspec, hard numbers": (list[float], filled(1e308)),
}


@pytest.mark.parametrize("case", TYPED)
def test_a_body_of_a_type_costs_no_more_calls_than_its_size_allows(case: str) -> None:
    written, raw = TYPED[case]
    validator = compiled(written)
    assert calls_of(lambda: validator.validate_json(raw)) < Work(len(raw)).allowed // 8


@pytest.mark.parametrize(
    ("written", "raw"),
    [(list[Wide], filled({}, 1 << 20)), (Choice, b'{"of": ' + filled("", 1 << 20) + b"}")],
    ids=["absent fields", "a union of many"],
)
def test_what_pydantic_would_look_at_too_often_it_is_not_shown(written: object, raw: bytes) -> None:
    with pytest.raises(ValidationError) as caught:
        compiled(written).validate_json(raw)
    assert [detail.message[:10] for detail in caught.value.details] == ["takes over"]


@pytest.mark.parametrize(
    ("item", "detail"), [(1, ("0", "input should be an object")), ({}, ("0.street", "is required"))]
)
def test_the_first_wrong_items_are_named_where_there_are_too_many_to_list(
    item: object, detail: tuple[str, str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        compiled(list[Address]).validate_json(filled(item))
    assert len(caught.value.details) == 20
    assert caught.value.details[0] == detail


def test_a_size_is_told_before_any_item_is_looked_at() -> None:
    validator = compiled({"type": "array", "maxItems": 3, "items": {"type": "string"}})
    with pytest.raises(ValidationError) as caught:
        validator.validate_json(filled(1))
    assert [detail.message for detail in caught.value.details] == ["expected at most 3 items, got 32768"]
    assert calls_of(lambda: validator.validate_json(filled(1))) < 200


def test_a_large_body_that_fits_is_let_through() -> None:
    order = {"sku": "A-1", "count": 2, "state": "open"}
    fields = {
        "sku": {"type": "string", "pattern": "^[A-Z]-[0-9]+$", "maxLength": 20},
        "count": {"type": "integer", "minimum": 1},
        "state": {"enum": ["open", "done"]},
        "note": {"type": "string", "default": ""},
    }
    orders = {"type": "object", "properties": fields, "required": ["sku"], "additionalProperties": False}
    raw = filled(order, 1 << 20)
    value = compiled({"type": "array", "items": orders}).validate_json(raw)
    assert len(value) > 20_000 and value[0] == {**order, "note": ""}


class Leaf(pydantic.BaseModel):
    x: int


class Left(pydantic.BaseModel):
    inner: Left | Right | Leaf


class Right(pydantic.BaseModel):
    inner: Left | Right | Leaf


Left.model_rebuild()
Right.model_rebuild()


def test_a_pydantic_union_that_doubles_with_each_level_is_refused_at_start() -> None:
    with pytest.raises(StepError, match="discriminator"):
        compiled(Left)


class Tree(pydantic.BaseModel):
    children: list[Tree] | dict[str, Tree] | int | None = None


Tree.model_rebuild()


def test_a_recursive_pydantic_model_whose_forms_differ_is_accepted() -> None:
    assert compiled(Tree).validate({"children": [{"children": {"a": {"children": 1}}}]})


def test_an_endless_reference_is_a_misfit_and_not_a_crash() -> None:
    for written in (
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
    ):
        for value in (1, {}, []):
            with pytest.raises(ValidationError):
                compiled(written).validate(value)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:1/schema.json", "file:///etc/passwd", "other.json"])
def test_no_reference_is_fetched(reference: str) -> None:
    with pytest.raises(StepError, match="nothing is fetched"):
        compiled({"properties": {"a": {"$ref": reference}}})
