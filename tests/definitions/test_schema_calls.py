"""What a type runs of Python's for each value is weighed before a body is checked: by steps, not by time."""

from __future__ import annotations

import dataclasses
import enum
import fractions
import ipaddress
import json
import pathlib
import re
import zoneinfo
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from iii import schema
from iii.errors import ValidationError
from iii.schema import Validator

MIB = 1 << 20


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(pydantic.BaseModel):
    number: int
    colour: Colour
    note: str

    @pydantic.field_validator("note")
    @classmethod
    def stripped(cls, value: str) -> str:
        return value.strip()


class Checked(pydantic.BaseModel):
    number: int = 0

    @pydantic.model_validator(mode="after")
    def itself(self) -> Checked:
        return self


def same(value: Any) -> Any:
    return value


def compiled(written: Any) -> Validator:
    validator = schema.compile(pydantic.TypeAdapter(written))
    assert validator is not None
    return validator


def filled(item: object, size: int = MIB) -> bytes:
    text = json.dumps(item, separators=(",", ":"))
    return f"[{','.join([text] * (size // (len(text) + 1)))}]".encode()


def answer(validator: Validator, raw: bytes) -> str:
    try:
        return str(validator.validate_json(raw))
    except ValidationError as error:
        return str(error)


DEAR: dict[str, tuple[Any, object]] = {
    "imports": (pydantic.ImportString, "no.such"),
    "time zones": (zoneinfo.ZoneInfo, "No/Where"),
    "patterns": (re.Pattern, "a"),
    "enums": (Colour, ""),
    "addresses": (ipaddress.IPv4Address, "1.1.1.1"),
    "any addresses": (pydantic.IPvAnyAddress, "1.1.1.1"),
    "networks": (ipaddress.IPv6Network, "::/0"),
    "paths": (pathlib.Path, "a"),
    "fractions": (fractions.Fraction, "1"),
    "sizes": (pydantic.ByteSize, "1"),
    "urls": (pydantic.HttpUrl, "http://a"),
    "a validator before": (Annotated[int, pydantic.BeforeValidator(same)], 1),
    "a validator after": (Annotated[int, pydantic.AfterValidator(same)], 1),
    "a validator around": (Annotated[int, pydantic.WrapValidator(lambda value, check: check(value))], 1),
    "a validator of one of several": (Annotated[int, pydantic.AfterValidator(same)] | list[int], 1),
    "models that are looked at again": (Checked, {}),
}


@pytest.mark.parametrize("case", DEAR)
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_body_is_not_shown_to_more_calls_than_its_size_allows(case: str, is_nested: bool) -> None:
    item, value = DEAR[case]
    written = dict[str, list[item]] | list[item | None] if is_nested else list[item]  # type: ignore[valid-type]
    with pytest.raises(ValidationError, match="steps to check"):
        compiled(written).validate_json(filled(value))


@pytest.mark.parametrize("case", DEAR)
def test_a_body_of_an_ordinary_size_is_checked(case: str) -> None:
    item, value = DEAR[case]
    assert "steps to check" not in answer(compiled(list[item]), filled(value, 2000))  # type: ignore[valid-type]


def test_a_field_with_a_validator_is_weighed_by_the_objects_that_there_are() -> None:
    order = {"number": 1, "colour": "red", "note": "as it is written on the other side of this sheet"}
    assert len(compiled(list[Order]).validate_json(filled(order))) > 10_000


@dataclasses.dataclass
class Plain:
    x: int = 0


class After(msgspec.Struct):
    x: int = 0

    def __post_init__(self) -> None:
        self.x += 1


@pytest.mark.parametrize("item", [Plain, After])
def test_classes_that_python_completes_are_weighed_by_the_objects_that_there_are(item: Any) -> None:
    validator = schema.compile(list[item])
    assert validator is not None
    with pytest.raises(ValidationError, match="steps to check"):
        validator.validate_json(filled({}))
    assert len(validator.validate_json(filled({"x": 1, "of": "something else that is not read"}))) > 20_000


def test_twenty_thousand_enums_in_a_mib_are_checked() -> None:
    body = {"colours": ["red"] * 20_000, "note": "x" * (MIB - 200_000)}

    class Body(pydantic.BaseModel):
        colours: list[Colour]
        note: str

    assert len(compiled(Body).validate_json(json.dumps(body).encode()).colours) == 20_000
