"""One Validator whatever the schema is written in: what fits, what does not, and which field is named."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from iii import schema
from iii.errors import Detail, StepError, ValidationError
from iii.schema import Validator

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Priority = Literal["low", "normal", "high"]


class StructBody(msgspec.Struct):
    text: Text
    priority: Priority = "normal"
    metadata: dict[str, str] | None = None


@dataclass
class DataclassBody:
    text: Text
    priority: Priority = "normal"
    metadata: dict[str, str] | None = field(default=None)


class TypedBody(TypedDict):
    text: Text
    priority: NotRequired[Priority]
    metadata: NotRequired[dict[str, str]]


class PydanticBody(pydantic.BaseModel):
    text: str = pydantic.Field(min_length=1, max_length=500)
    priority: Priority = "normal"
    metadata: dict[str, str] | None = None


JSON_BODY = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 500},
        "priority": {"enum": ["low", "normal", "high"], "default": "normal"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

BODIES = [StructBody, DataclassBody, TypedBody, PydanticBody, JSON_BODY]


def compiled(written: object, *, lax: bool = False) -> Validator:
    validator = schema.compile(written, lax=lax)
    assert validator is not None
    return validator


def misfit(check: Callable[[], object]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        check()
    return caught.value


def plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, pydantic.BaseModel) else msgspec.to_builtins(value)


@pytest.fixture(params=BODIES, ids=["Struct", "dataclass", "TypedDict", "pydantic", "JSON Schema"])
def body(request: pytest.FixtureRequest) -> Validator:
    return compiled(request.param)


# ------------------------------------------------------------------------- the same body in five ways


def test_a_full_body_fits(body: Validator) -> None:
    raw = b'{"text": "hi", "priority": "high", "metadata": {"a": "b"}}'
    expected = {"text": "hi", "priority": "high", "metadata": {"a": "b"}}
    assert plain(body.validate_json(raw)) == expected
    assert plain(body.validate(expected)) == expected


@pytest.mark.parametrize("written", [StructBody, DataclassBody, PydanticBody, JSON_BODY])
def test_defaults_are_applied(written: object) -> None:
    assert plain(compiled(written).validate_json(b'{"text": "hi"}'))["priority"] == "normal"
    assert plain(compiled(written).validate({"text": "hi"}))["priority"] == "normal"


def test_defaults_of_nested_dataclasses_survive_encoding() -> None:
    validator = compiled(dict[str, list[DataclassBody]])
    for value in (
        validator.validate_json(b'{"a": [{"text": "hi"}]}'),
        validator.validate({"a": [{"text": "hi"}]}),
    ):
        assert msgspec.json.decode(msgspec.json.encode(value))["a"][0]["priority"] == "normal"


def test_a_handler_gets_an_instance_where_there_is_a_class() -> None:
    raw = b'{"text": "hi"}'
    assert isinstance(compiled(StructBody).validate_json(raw), StructBody)
    assert isinstance(compiled(DataclassBody).validate_json(raw), DataclassBody)
    assert isinstance(compiled(PydanticBody).validate_json(raw), PydanticBody)
    assert compiled(TypedBody).validate_json(raw) == {"text": "hi"}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"{}", "text"),
        (b'{"text": ""}', "text"),
        (b'{"text": "' + b"x" * 501 + b'"}', "text"),
        (b'{"text": 5}', "text"),
        (b'{"text": null}', "text"),
        (b'{"text": "x", "priority": "urgent"}', "priority"),
        (b'{"text": "x", "metadata": {"a": "b", "userId": 7}}', "metadata.userId"),
        (b'{"text": "x", "metadata": [1]}', "metadata"),
        (b"[]", ""),
        (b'"text"', ""),
        (b"null", ""),
    ],
)
def test_a_misfit_names_the_field(body: Validator, raw: bytes, path: str) -> None:
    for error in (
        misfit(lambda: body.validate_json(raw)),
        misfit(lambda: body.validate(msgspec.json.decode(raw))),
    ):
        assert error.message == "validation failed"
        assert [detail.path for detail in error.details] == [path]
        assert error.details[0].message


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "truncated"),
        (b'{"text": "x"', "truncated"),
        (b'{"text": "x"} x', "trailing characters"),
        (b"{text: 1}", "object keys must be strings"),
        (b'{"text": NaN}', "invalid character"),
        (b'{"text": "x", "more": NaN}', "invalid character"),
        (b'{"text": "x", "more": -Infinity}', "invalid character"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "x", "more": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"text": 5, "more": NaN}', "invalid character"),
    ],
)
def test_what_is_no_json_says_why(body: Validator, raw: bytes, problem: str) -> None:
    error = misfit(lambda: body.validate_json(raw))
    assert error.message == "invalid JSON"
    assert problem in error.details[0].message


def test_a_number_out_of_range_is_refused(body: Validator) -> None:
    misfit(lambda: body.validate_json(b'{"text": "x", "metadata": {"a": 1e999}}'))


@given(st.binary(max_size=60))
def test_any_bytes_fit_or_are_refused(raw: bytes) -> None:
    for validator in map(compiled, BODIES):
        try:
            validator.validate_json(raw)
        except ValidationError:
            continue


def test_a_checked_value_stays_as_it_was() -> None:
    given: dict[str, Any] = {"text": "x", "metadata": {}}
    compiled(JSON_BODY).validate(given)
    assert given == {"text": "x", "metadata": {}}


def test_schemas_are_shown_as_json_schema(body: Validator) -> None:
    shown = body.json_schema()
    shown = shown["$defs"][shown["$ref"].removeprefix("#/$defs/")] if "$ref" in shown else shown
    assert set(shown["properties"]) == {"text", "priority", "metadata"}
    assert shown["required"] == ["text"]


# -------------------------------------------------------------------------------- messages and places


class Item(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: Annotated[int, Meta(ge=1, le=9)] = 1


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(msgspec.Struct):
    items: list[Item] = []
    by_day: dict[str, list[Item]] = {}
    prices: dict[int, float] = {}
    pair: tuple[int, str] | None = None
    colour: Colour = Colour.RED
    nested: dict[str, dict[str, int]] = {}


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ({"items": [{"name": "a"}, {}]}, ("items.1.name", "is required")),
        ({"items": [{"name": "a"}, {"name": 3}]}, ("items.1.name", "expected string, got integer")),
        ({"items": [{"name": "a", "count": 0}]}, ("items.0.count", "expected integer >= 1")),
        ({"items": [{"name": "a", "nmae": 0}]}, ("items.0.nmae", "unknown field")),
        ({"items": {}}, ("items", "expected array, got object")),
        ({"by_day": {"mon": [], "tue": [{"name": "a"}, {"name": 1}]}},
         ("by_day.tue.1.name", "expected string, got integer")),
        ({"nested": {"a": {"b": 1}, "c": {"d": 2, "e": "f", "g": 3}}},
         ("nested.c.e", "expected integer, got string")),
        ({"prices": {"x": 1}}, ("prices", "one of its keys is wrong: Expected integer, got string")),
        ({"pair": [1]}, ("pair", "expected array of 2 items")),
        ({"pair": [1, 2]}, ("pair.1", "expected string, got integer")),
        ({"colour": "pink"}, ("colour", "expected one of blue, red; got 'pink'")),
    ],
)  # fmt: skip
def test_msgspec_details_are_readable(value: object, detail: tuple[str, str]) -> None:
    raw = msgspec.json.encode(value)
    assert misfit(lambda: compiled(Order).validate_json(raw)).details == (Detail(*detail),)


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=2), min_size=1, max_size=40))
def test_the_wrong_key_of_a_mapping_is_the_first_wrong_one(value: dict[str, object]) -> None:
    wrong = [key for key, text in value.items() if not isinstance(text, str)]
    validator = compiled(dict[str, str])
    if not wrong:
        assert validator.validate(value) == value
        return
    assert misfit(lambda: validator.validate_json(msgspec.json.encode(value))).details[0].path == wrong[0]


def test_text_length_is_said_in_words() -> None:
    assert misfit(lambda: compiled(StructBody).validate({"text": ""})).details == (
        Detail("text", "expected string of at least 1 character"),
    )


def test_any_type_msgspec_knows_is_a_schema() -> None:
    assert compiled(list[int]).validate_json(b"[1]") == [1]
    assert compiled(dict).validate_json(b'{"a": 1}') == {"a": 1}
    assert compiled(Any).validate_json(b"7") == 7
    assert compiled(Annotated[int, Meta(ge=3, extra_json_schema={"a": 1})]).validate(3) == 3


def test_no_schema_is_no_validator() -> None:
    assert schema.compile(None) is None


def test_a_pydantic_adapter_is_a_schema() -> None:
    assert compiled(pydantic.TypeAdapter(list[int])).validate_json(b"[1]") == [1]


def test_pydantic_types_inside_other_types() -> None:
    validator = compiled(list[PydanticBody])
    assert validator.validate_json(b'[{"text": "a"}]') == [PydanticBody(text="a")]
    assert misfit(lambda: validator.validate_json(b'[{"text": "a"}, {}]')).details == (
        Detail("1.text", "is required"),
    )


# -------------------------------------------------------------------------------------- query strings


class Search(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1)] = 10
    tag: list[str] = []
    sizes: list[int] | None = None
    exact: bool = False


class PydanticSearch(pydantic.BaseModel):
    limit: int = pydantic.Field(default=10, ge=1)
    tag: list[str] = []
    sizes: list[int] | None = None
    exact: bool = False


JSON_SEARCH = {
    "properties": {
        "limit": {"type": "integer", "minimum": 1, "default": 10},
        "tag": {"type": "array", "items": {"type": "string"}, "default": []},
        "sizes": {"type": ["array", "null"], "items": {"type": "integer"}, "default": None},
        "exact": {"type": "boolean", "default": False},
    }
}


@pytest.mark.parametrize("written", [Search, PydanticSearch, JSON_SEARCH])
def test_a_query_string_is_text_that_stands_for_other_types(written: object) -> None:
    validator = compiled(written, lax=True)
    assert plain(validator.validate_query({"limit": ["3", "5"], "tag": ["a"], "exact": ["true"]})) == {
        "limit": 5, "tag": ["a"], "sizes": None, "exact": True,
    }  # fmt: skip
    assert plain(validator.validate_query({"sizes": ["1", "2"]}))["sizes"] == [1, 2]
    assert plain(validator.validate_query({}))["limit"] == 10
    assert misfit(lambda: validator.validate_query({"limit": ["x"]})).details[0].path == "limit"
    assert misfit(lambda: validator.validate_query({"limit": ["0"]})).details[0].path == "limit"


# --------------------------------------------------------------------------------------------- refused


class Opaque:
    pass


@dataclass
class HoldsOpaque:
    inner: list[Opaque]


REFUSED: list[tuple[object, str]] = [
    ({"text": str}, "{'text': str} is no JSON Schema. Write a class (class Body(msgspec.Struct): text: str)"),
    ({"type": str, "text": str}, "is no JSON Schema"),
    ({"text": {"type": "string"}}, 'put the fields under {"type": "object", "properties": {...}}'),
    ({"type": "strng"}, "not a valid JSON Schema at type"),
    ({"properties": {"a": {"minLength": "x"}}}, "not a valid JSON Schema at properties.a.minLength"),
    ({"$ref": "#/$defs/gone"}, 'leads nowhere; define it under "$defs"'),
    ({"$ref": "#anchor"}, "leads nowhere"),
    ({"items": {"$ref": "https://example.com/a.json"}}, "leads nowhere; define it"),
    (5, "5 cannot be used as a schema"),
    ("Body", "'Body' cannot be used as a schema"),
    (Opaque, "the fields of Opaque are unknown"),
    (HoldsOpaque, "the fields of Opaque are unknown"),
    (lambda: None, "Write a msgspec.Struct, a dataclass, a TypedDict"),
]


@pytest.mark.parametrize(("written", "message"), REFUSED)
def test_what_is_no_schema_says_how_to_write_one(written: object, message: str) -> None:
    with pytest.raises(StepError) as caught:
        schema.compile(written)
    assert message in caught.value.message
