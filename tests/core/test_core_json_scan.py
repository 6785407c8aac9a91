"""is_plain: of a text that a reader found to be JSON, whether every reader takes the same from it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_core.json_scan import is_plain, may_overflow

ORDER = {
    "id": "o-1234567890",
    "total": 12.5,
    "paid": True,
    "note": None,
    "items": [{"sku": "abc:{[1", "qty": -2}, {"sku": "", "qty": 999_999_999_999_999_999}, []],
}
PLAIN = [
    json.dumps(ORDER),
    json.dumps(ORDER, indent=2),
    "[]",
    "7",
    '""',
    '{"a": {"a": {"a": 1}}, "b": {"a": 2}}',
]
CLOSELY = {
    "a key twice": '{"a": 1, "b": 2, "a": 3}',
    "a key twice, far apart": '{"a": {"b": [1, {"c": 2}]}, "a": 1}',
    "a key twice, deep inside": '[{"a": 1}, {"b": {"": 1, "": 2}}]',
    "a key twice, escaped": '{"a": 1, "\\u0061": 2}',
    "an integer that 64 bits may not hold": f"[{10**18}]",
    "a float of many digits": "0.1234567890123456789",
    "an exponent": "[1e400]",
    "NaN": "[NaN]",
    "Infinity": "[-Infinity]",
    "a surrogate": '["\\ud800"]',
    "no UTF-8": b'["\xff"]',
    "a control character": '["\x01"]',
    "a text without an end": '["a',
    "a list without an end": '[["a"]',
    "many levels": "[" * 17 + "]" * 17,
    "many keys": json.dumps({str(n): n for n in range(65)}),
}


@pytest.mark.parametrize("text", PLAIN)
def test_what_every_reader_takes_is_plain(text: str) -> None:
    assert is_plain(text.encode())


@pytest.mark.parametrize("text", CLOSELY.values(), ids=CLOSELY)
def test_what_readers_differ_in_is_to_be_looked_at(text: str | bytes) -> None:
    assert not is_plain(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '"nan"',
        '" -Infinity"',
        '"INF"',
        "x=+iNf",
        "1e20",
        '"1E400"',
        '"1_0e9"',
        "9" * 18,
        "x=%6ean",
        '"\\u006ean"',
        "é",
    ],
)
def test_what_may_be_read_as_a_number_beyond_all_is_told(text: str) -> None:
    assert may_overflow(text.encode())


def test_most_texts_hold_no_such_number() -> None:
    assert not any(
        may_overflow(text) for text in (json.dumps(ORDER | {"items": []}).encode(), b"limit=7&x=1.5", b"")
    )


keys = st.sampled_from(["a", "b", "ab", "", ":", "{", "\\u0061", "é"]).map('"{}"'.format)
leaves = st.one_of(
    keys,
    st.sampled_from(
        ["true", "null", "NaN", "01", "1.", ".5", "-", "tru", "1e5", "1E400", "1.5", '"\x01"', '"\\x"']
    ),
    st.integers(-(10**20), 10**20).map(str),
)
texts: st.SearchStrategy[str] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(st.builds("{}: {}".format, keys, inner), max_size=4).map(
            lambda all: "{" + ",".join(all) + "}"
        ),
        st.lists(inner, max_size=3).map(lambda all: "[" + ", ".join(all) + "]"),
    ),
    max_leaves=10,
)


class Loses(msgspec.Struct):
    """A reader that skips what it does not know."""

    b: msgspec.Raw = msgspec.Raw()


def strictly(text: str) -> Any:
    """As Python reads it. ValueError for no JSON, a key twice, and numbers that are no JSON."""

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def refused(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, object_pairs_hook=made, parse_constant=refused)


@given(texts)
def test_a_plain_text_that_one_reader_takes_is_the_same_to_all(text: str) -> None:
    raw = text.encode()
    if not is_plain(raw):
        return
    for read in (msgspec.json.decode, msgspec.json.Decoder(Loses).decode):
        try:
            read(raw)
        except msgspec.ValidationError:
            continue  # JSON, but no object
        except msgspec.DecodeError:
            with pytest.raises(ValueError):
                strictly(text)
            continue
        assert msgspec.json.decode(raw) == strictly(text)
