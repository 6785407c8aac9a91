"""HTTP/1 heads: the native reader against the grammar as a regular expression, and answers as bytes."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iii_core.http1 import CHUNKED, Head, join_answer, read_head

FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n"
HEAD = re.compile(rb"([A-Z]++) (/[\x21-\x7e]*+) HTTP/1\.([01])\r\n((?>" + FIELD + rb")*+)\r\n", re.DOTALL)
ONCE = (b"host", b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade")


def naive(raw: bytes) -> tuple[object, ...] | None:
    """What RFC 9112 and the promise "no two readings" make of it, line by line."""
    match = HEAD.fullmatch(raw)
    if match is None:
        return None
    method, target, minor, block = match.groups()
    lines = [line.partition(b":") for line in block.split(b"\r\n")[:-1]]
    headers = [(name.lower(), value.strip()) for name, _, value in lines]
    names, fields = [name for name, _ in headers], dict(headers)
    if any(names.count(name) > 1 for name in ONCE) or {b"upgrade", b"expect"} & fields.keys():
        return None
    if method == b"CONNECT" or (minor == b"1" and b"host" not in fields):
        return None
    coding, length, size = fields.get(b"transfer-encoding"), fields.get(b"content-length"), 0
    if coding is not None:
        if coding != b"chunked" or length is not None or minor == b"0":
            return None
        size = CHUNKED
    elif length is not None:
        if not length.isdigit() or len(length) > 20:
            return None
        size = int(length)
    options = [option.strip() for option in fields.get(b"connection", b"").lower().split(b",")]
    path, _, query = target.partition(b"?")
    keeps_alive = minor == b"1" and b"close" not in options
    return method.decode(), path.decode(), query, int(minor), headers, fields, size, keeps_alive


def told(head: Head | None) -> tuple[object, ...] | None:
    if head is None:
        return None
    first = head.method, head.path, head.query, head.minor, head.headers, head.fields
    return *first, head.length, head.keeps_alive


NAMES = ["Host", "host", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Cookie"]
VALUES = ["", " a\t", "12", "0" * 21, "chunked", "Chunked", "a, Close", "keep-alive", "\xe9", "a\0", "a\rb"]
ENDS = ["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ", ""]

colons = st.sampled_from([":", ": ", " :", ""])
lines = st.builds(
    "{}{}{}{}".format, st.sampled_from(NAMES), colons, st.sampled_from(VALUES), st.sampled_from(ENDS)
)
firsts = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["GET", "POST", "CONNECT", "get", "G-T", ""]),
    st.sampled_from([" ", "  ", "\t"]),
    st.sampled_from(["/", "/a?b=c?d", "/a%20b", "/?", "*", "http://a/", "/a b", "/\x7f", "/\xe9", "/\0"]),
    st.sampled_from([" ", "", "  "]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/1.", "http/1.1", "HTTP/1.11"]),
    st.sampled_from(ENDS),
)
heads = st.builds(
    lambda first, fields, end: (first + "".join(fields) + end).encode("latin-1"),
    st.one_of(firsts, st.just("GET / HTTP/1.1\r\nHost: a\r\n"), st.just("POST /a?b HTTP/1.0\r\n")),
    st.lists(lines, max_size=4),
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "", "\r\n\r\n", "\r\nx"]),
)


@given(st.one_of(heads, heads, st.binary(max_size=60)))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: \tclose \r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost:\r\nContent-Length: 18446744073709551616\r\n\r\n")
@example(b"")
@example(b"\r\n\r\n")
@example(b"GET / HTTP/1.")
def test_a_head_is_read_as_its_grammar_says(raw: bytes) -> None:
    assert told(read_head(raw)) == naive(raw)


@given(heads, st.data())
def test_a_head_that_is_cut_or_goes_on_is_none(raw: bytes, data: st.DataObject) -> None:
    if read_head(raw) is not None:
        assert read_head(raw[: data.draw(st.integers(0, len(raw) - 1))]) is None
        assert read_head(raw + data.draw(st.binary(min_size=1, max_size=3))) is None


def test_methods_are_shared_and_secrets_are_told() -> None:
    plain = read_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    secret = read_head(b"GET / HTTP/1.1\r\nHost: a\r\nauthORization: b\r\n\r\n")
    assert plain is not None and secret is not None
    assert plain.method is sys.intern("GET") and (plain.is_secret, secret.is_secret) == (False, True)


def test_what_is_no_head_is_refused() -> None:
    for wrong in ("GET / HTTP/1.1\r\n\r\n", bytearray(b"GET"), None):
        with pytest.raises(TypeError, match="a head is bytes"):
            read_head(wrong)  # type: ignore[arg-type]


fields = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)


@given(st.binary(max_size=40), fields, st.binary(max_size=40), st.booleans())
def test_an_answer_is_its_parts(
    start: bytes, headers: list[tuple[bytes, bytes]], body: bytes, closes: bool
) -> None:
    lines = b"".join(b"%b: %b\r\n" % field for field in headers)
    close = b"connection: close\r\n" if closes else b""
    assert join_answer(start, headers, body, closes) == start + lines + close + b"\r\n" + body


@pytest.mark.parametrize("headers", [[("a", b"b")], [(b"a", 1)], [b"ab"], [(b"a",)], ((b"a", b"b"),), None])
def test_headers_that_are_no_pairs_of_bytes_are_refused(headers: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        join_answer(b"", headers, b"", False)  # type: ignore[arg-type]
