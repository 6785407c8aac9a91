"""What becomes JSON, and what is refused with its place."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from iii.errors import StepError
from iii.formats.codec import encode

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
