"""JSON text from outside, against Python's own reader: all that can be stored comes in, and nothing else."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from sys import setprofile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iii.errors import ValidationError
from iii.formats.codec import encode
from iii.formats.json_text import DEPTH_MAX, parse

scalars = st.one_of(
    st.sampled_from(
        ["1", "-0", "-0.0", "1e5", "1e400", "1E-999", "true", "null", '"\\u003a"', '"\\\\u003a"']
    ),
    st.sampled_from([f"{n}" for n in (2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**30)]),
    st.sampled_from(['"\\ud800"', '"\\ud800\\udc00"', '":"', '"\\"a\\":1"', "NaN", "01", "1.", '"\\u00e9"']),
    st.text(max_size=4).map(json.dumps),
    st.integers().map(str),
)
keys = st.sampled_from(['"a"', '"\\u0061"', '"b"', '":"', '"\\u003A"', '""', '"a\\"b"', '"é"'])
blanks = st.sampled_from(["", "", " ", "\t\n"])


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds("{}{}:{}{}".format, keys, blanks, blanks, inner)
    return st.lists(member, max_size=4).map(lambda members: "{" + ",".join(members) + "}")


texts = st.recursive(
    scalars,
    lambda inner: st.one_of(
        objects(inner), st.lists(inner, max_size=4).map(lambda parts: "[" + ",".join(parts) + "]")
    ),
    max_leaves=12,
)  # fmt: skip


def naive(text: str) -> Any:
    """What Python reads, if all of it can be stored; ValueError else."""

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def storable(part: Any) -> bool:
        if isinstance(part, dict):
            return all(storable(each) for each in (*part, *part.values()))
        if isinstance(part, list):
            return all(map(storable, part))
        if isinstance(part, str):
            return not any("\ud800" <= character <= "\udfff" for character in part)
        if isinstance(part, int):
            return -(2**63) <= part < 2**64
        return part is None or math.isfinite(part)

    value = json.loads(text, object_pairs_hook=made)
    if not storable(value):
        raise ValueError("cannot be stored")
    return value


@given(texts)
@example('{"a":"\\u003a","b":1,"b":2}')
@example('{"a" :1,"a":2}')
@example('{"a":{"\\u003a":1},"a":"::"}')
def test_all_that_can_be_stored_comes_in_and_nothing_else(text: str) -> None:
    try:
        expected = naive(text)
    except ValueError:
        with pytest.raises(ValidationError) as caught:
            parse(text.encode())
        assert len(caught.value.details) == 1
    else:
        value = parse(text.encode())
        assert repr(value) == repr(expected)
        assert repr(parse(encode(value))) == repr(value)


@given(st.binary(max_size=80) | st.text(alphabet='{}[]":,\\u003a19eE-. d8', max_size=80).map(str.encode))
def test_whatever_bytes_come_they_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse(raw)
    except ValidationError:
        return
    assert repr(parse(encode(value))) == repr(value)


@pytest.mark.parametrize(
    ("opened", "closed", "levels"),
    [("[", "]", 1), ('{"k":', "}", 1), ('[{"k":', "}]", 2), ("[[],1,", "]", 1), ('[1,{"a":2,"b":', "}]", 2)],
)
def test_as_many_levels_come_in_as_are_allowed_and_not_one_more(
    opened: str, closed: str, levels: int
) -> None:
    fits = DEPTH_MAX // levels - (opened == "[[],1,")
    assert parse((opened * fits + "1" + closed * fits).encode())
    for count in (DEPTH_MAX // levels + 1, 400, 50_000):
        with pytest.raises(ValidationError, match="nested too deeply, over 200 levels"):
            parse((opened * count + "1" + closed * count).encode())


HOSTILE = {
    "empty arrays": b"[" + b"[]," * 85_000 + b"[]]",
    "an integer behind them": b"[" + b"[]," * 85_000 + b"18446744073709551616]",
    "a key twice behind them": b"[" + b'{"a":1},' * 28_750 + b'{"a":1,"a":2}]',
    "an escaped colon behind them": b"[" + b"{}," * 85_000 + b'{"\\u003a":1}]',
    "a surrogate behind texts": b"[" + b'"a",' * 62_500 + b'"\\ud800"]',
    "1e400 behind numbers": b"[" + b"1," * 125_000 + b"1e400]",
    "a million digits": b"[" + b"9" * 250_000 + b"]",
    "deep and wide": b"[" * 201 + b"1," * 125_000 + b"1" + b"]" * 201,
    "deep behind texts": b"[" + b'"\\"",' * 42_500 + b"[" * 100_000,
    "a text without an end": b"[" * 1_000 + b'"' + b'\\"' * 125_000,
    "brackets in texts": b'["' + b"[{" * 125_000 + b'"]',
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_a_large_hostile_body_is_read_in_a_number_of_steps_that_its_length_bounds(raw: bytes) -> None:
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    setprofile(count)
    try:
        with suppress(ValidationError):
            parse(raw)
    finally:
        setprofile(None)
    assert calls < 2 * len(raw) + 10_000
