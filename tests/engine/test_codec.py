"""What becomes JSON, and what is refused with its place."""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
import uuid
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.errors import StepError
from iii.formats.codec import encode
from iii.formats.storable import plain, scan
from iii.schema import compile

ID = uuid.UUID(int=7)


class Struct(msgspec.Struct):
    at: datetime
    tags: set[str]
    renamed: int = msgspec.field(default=1, name="someField")


class Model(pydantic.BaseModel):
    n: int
    when: datetime


@dataclasses.dataclass
class Data:
    n: int


class Colour(enum.Enum):
    RED = "red"


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"a": [1, 2.5, True, None, "ü"]}, '{"a":[1,2.5,true,null,"ü"]}'),
        (Struct(NOON, {"x"}), '{"at":"2026-01-01T12:00:00Z","tags":["x"],"someField":1}'),
        ([Model(n=1, when=NOON)], '[{"n":1,"when":"2026-01-01T12:00:00Z"}]'),
        (Data(1), '{"n":1}'),
        ({"c": Colour.RED, "id": ID, "d": Decimal("1.10"), "p": Path("a/b")}, None),
        ({1: "a", Colour.RED: "b"}, '{"1":"a","red":"b"}'),
        (NOON, '"2026-01-01T12:00:00+00:00"'),
    ],
)
def test_json_of(value: Any, encoded: str | None) -> None:
    expected = encoded or '{"c":"red","id":"00000000-0000-0000-0000-000000000007","d":"1.10","p":"a/b"}'
    assert encode(value).decode() == expected


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, float("nan")]}, r"\$\.a\[1\]"),
        ({"a": float("-inf")}, r"\$\.a"),
        ([Data(float("nan"))], r"\$\[0\]\.n"),
        ({"s": {float("inf")}}, r"\$\.s\[0\]"),
        (Struct(NOON, set(), float("nan")), r"\$\.renamed"),
        (2**64, "64"),
        ({"a": b"bytes"}, "bytes has no JSON form"),
        (object(), "object has no JSON form"),
        (nested(100_000), "not JSON"),
        ("\ud800", "not JSON"),
    ],
)
def test_what_is_no_json_is_refused(value: Any, told: str) -> None:
    with pytest.raises(StepError, match=told):
        encode(value)


# ----------------------------------------------------------------------- what schemas make can be stored


class Pair(NamedTuple):
    a: int
    b: Any


@dataclasses.dataclass
class Everything:
    wait: timedelta
    raw: bytes = b""
    at: time | None = None
    pair: Pair | None = None
    parts: list[bytes] = dataclasses.field(default_factory=list)
    names: dict[int, Decimal] = dataclasses.field(default_factory=dict)
    _kept: int = 1

    @functools.cached_property
    def cached(self) -> int:
        return 1


class Tagged(msgspec.Struct, tag="t", omit_defaults=True, rename="camel"):
    some_wait: timedelta
    raw_bytes: bytes = b""
    names: dict[int, str] = {}
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class Listed(msgspec.Struct, array_like=True, tag=True):
    a: int
    names: dict[int, str]


@pydantic.dataclasses.dataclass
class Checked:
    at: ipaddress.IPv4Address
    url: pydantic.HttpUrl
    z: complex = 1j


@attrs.define
class Attrs:
    a: int
    raw: bytes


EVERYTHING = (
    '{"wait":"PT5S","raw":"AAA=","at":"12:00:00Z","pair":[1,"x"],"parts":["AQ=="],"names":{"7":"1.10"},'
    '"_kept":2}'
)
BODIES = [
    (Everything, EVERYTHING),
    (Tagged, '{"type":"t","someWait":"PT5S","rawBytes":"AAA=","names":{"7":"x"}}'),
    (Listed, '["Listed",1,{"7":"x"}]'),
    (Pair, '[1,{"x":null}]'),
    (Attrs, '{"a":1,"raw":"AAA="}'),
    (Checked, '{"at":"10.0.0.1","url":"http://x/","z":"1j"}'),
    (dict[str, timedelta | None], '{"a":"PT5S","b":null}'),
    (tuple[Pair, Tagged], '[[1,2],{"type":"t","someWait":"PT5S"}]'),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "body"), BODIES, ids=[str(schema) for schema, _ in BODIES])
def test_what_a_schema_makes_of_a_body_is_written_so_that_it_is_read_again(schema: Any, body: str) -> None:
    validator = compile(schema)
    assert validator is not None
    value = validator.validate_json(body.encode())
    if isinstance(value, Everything):
        assert value.cached == 1  # no field
    assert encode(value).decode() == body
    assert encode([{"wrapped": value}]).decode() == f'[{{"wrapped":{body}}}]'
    assert validator.validate_json(encode(value)) == value


class Raw(TypedDict):
    raw: bytes


@pytest.mark.parametrize("schema", [bytes, list[bytes], Raw, dict[str, bytearray]])
def test_a_schema_whose_bytes_lie_in_no_class_is_refused_at_start(schema: Any) -> None:
    with pytest.raises(StepError, match="bytes that lie in no class"):
        compile(schema)


plain_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=5),
        st.floats(allow_nan=False, allow_infinity=False), st.just(NOON), st.just(ID),
        st.decimals(allow_nan=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.builds(lambda each: (each, each), inner), st.builds(Data, inner),
        st.builds(Pair, st.just(1), inner),
    ),
    max_leaves=20,
)  # fmt: skip


@given(plain_values)
def test_the_quick_way_writes_what_the_rule_says(value: Any) -> None:
    assert encode(value) == orjson.dumps(plain(value))
    assert scan(orjson.loads(encode(value))) is None


keys = st.one_of(
    st.integers(-3, 3), st.sampled_from(["1", "1.0", "true", "null", "red", "-1"]), st.booleans(), st.none(),
    st.just(Colour.RED), st.floats(-2, 2),
)  # fmt: skip


@given(st.dictionaries(keys, st.integers(0, 9), max_size=5))
def test_no_key_is_ever_lost(value: dict[Any, int]) -> None:
    names = [orjson.dumps({key: 0}, option=orjson.OPT_NON_STR_KEYS) for key in value]
    if len(set(names)) < len(names):
        with pytest.raises(StepError, match="two keys are"):
            encode(value)
    else:
        assert list(orjson.loads(encode(value)).values()) == list(value.values())
