"""Percent-encoding, against the standard library's reader."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.formats.percent import unquoted
from iii.web.request import FIELDS_MAX, parse_fields

TEXTS = st.lists(
    st.sampled_from([b"%", b"=", b"%4", b"4", b"f", b"z", b"\n", b"\r", b" ", b"_", b".", b"\0"])
    | st.binary(max_size=3)
    | st.binary(min_size=1, max_size=1).map(lambda byte: b"%%%02x" % byte[0]),
    max_size=12,
).map(b"".join)


@given(TEXTS)
def test_escapes_are_undone_as_the_standard_library_undoes_them(encoded: bytes) -> None:
    assert unquoted(encoded) == unquote_to_bytes(encoded)


@given(st.text(alphabet="a%=&+41;é\0 ", max_size=20))
def test_fields_are_those_that_the_standard_library_reads(text: str) -> None:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            parse_fields(text.encode())
        return
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert parse_fields(text.encode()).lists() == expected


def test_more_fields_than_anybody_sends_are_refused_unread() -> None:
    assert len(parse_fields(b"a=1&" * (FIELDS_MAX - 1) + b"a=1").get_all("a")) == FIELDS_MAX
    with pytest.raises(ValueError, match="more than 1000 fields"):
        parse_fields(b"&" * (1 << 20))
