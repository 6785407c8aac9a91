"""JSON Schema dicts: defaults, references, and that every wrong field is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iii import schema
from iii.errors import Detail, ValidationError
from iii.schema import Validator


def compiled(written: object) -> Validator:
    validator = schema.compile(written)
    assert validator is not None
    return validator


def misfit(check: Callable[[], object]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        check()
    return caught.value


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "size": {"type": "integer", "default": 1},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                "style": {"type": "object", "default": {}, "properties": {"bold": {"default": False}}},
            },
        }
    },
    "$ref": "#/$defs/node",
}


def test_json_schema_defaults_are_filled_in_through_references_and_items() -> None:
    leaf = {"size": 1, "style": {"bold": False}}
    assert compiled(TREE).validate({"children": [{}]}) == {**leaf, "children": [leaf]}


def test_anchors_and_documents_inside_the_schema_can_be_referred_to() -> None:
    validator = compiled(
        {
            "$id": "https://example.com/order",
            "$defs": {
                "a": {"$anchor": "count", "type": "integer"},
                "b": {"$id": "name", "type": "string"},
            },
            "properties": {"n": {"$ref": "#count"}, "s": {"$ref": "name"}, "m": {"$ref": "#/$defs/a"}},
        }
    )
    assert validator.validate({"n": 1, "s": "x", "m": 2}) == {"n": 1, "s": "x", "m": 2}
    wrong = misfit(lambda: validator.validate({"n": "1", "s": 2, "m": "2"}))
    assert {detail.path for detail in wrong.details} == {"n", "s", "m"}


def test_a_default_is_not_shared_between_messages() -> None:
    validator = compiled({"properties": {"tags": {"default": ["new"]}}})
    validator.validate({})["tags"].append("seen")
    assert validator.validate({}) == {"tags": ["new"]}


@pytest.mark.parametrize(
    ("value", "details"),
    [
        ({"size": "x"}, {("size", "expected integer, got string")}),
        ({"size": 1.5}, {("size", "expected integer, got number")}),
        ({"sise": 1}, {("sise", "unknown field")}),
        ({"children": [{"size": None}, {"x": 1}]},
         {("children.0.size", "expected integer, got null"), ("children.1.x", "unknown field")}),
        ({"children": [{}, {}, {}]}, {("children", "expected at most 2 items, got 3")}),
    ],
)  # fmt: skip
def test_json_schema_names_every_field_that_is_wrong(value: object, details: set[tuple[str, str]]) -> None:
    assert set(misfit(lambda: compiled(TREE).validate(value)).details) == details


def test_details_are_bounded() -> None:
    validator = compiled({"type": "array", "items": {"type": "integer"}})
    assert len(misfit(lambda: validator.validate(["x"] * 1000)).details) == 20


def test_deep_values_do_not_crash_a_recursive_schema() -> None:
    tree = compiled(TREE)
    assert tree.validate_json(b'{"children": [' * 10 + b"]}" * 10)["size"] == 1
    deep = misfit(lambda: tree.validate_json(b'{"children": [' * 400 + b"]}" * 400))
    assert deep.details == (Detail("", "nested too deeply"),)
    misfit(lambda: compiled({"$ref": "#"}).validate({}))
