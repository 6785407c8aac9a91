"""Heads and bodies as the lane reads them: what it takes, what it leaves to Hypercorn, in whatever parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii.web.hosts import Hosts
from iii.web.http1.framing import BadChunk, Chunked, Sized
from iii.web.lane.head import KNOWN_MAX, Parser, will_never_do
from iii_core.http1 import read_head


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_head_is_taken_apart() -> None:
    read = read_head(head("POST /a%20b?c=d?e HTTP/1.1", "Host: a", "X-A:  1\t", "Content-Length: 12"))
    assert read is not None
    assert (read.method, read.path, read.query, read.minor) == ("POST", "/a%20b", b"c=d?e", 1)
    assert read.headers == [(b"host", b"a"), (b"x-a", b"1"), (b"content-length", b"12")]
    assert (read.length, read.keeps_alive, read.fields[b"x-a"]) == (12, True, b"1")


def test_what_becomes_of_the_connection() -> None:
    def keeps_alive(version: str, *lines: str) -> bool:
        read = read_head(head(f"GET / HTTP/{version}", "Host: a", *lines))
        assert read is not None
        return read.keeps_alive

    assert keeps_alive("1.1")
    assert keeps_alive("1.1", "Connection: Keep-Alive")
    assert not keeps_alive("1.1", "Connection: a, Close")
    assert not keeps_alive("1.0", "Connection: keep-alive")


LEFT = {
    "an upgrade": ["GET / HTTP/1.1", "Host: a", "Upgrade: h2c"],
    "Expect": ["POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Expect: 100-continue"],
    "CONNECT": ["CONNECT /a HTTP/1.1", "Host: a"],
    "the HTTP/2 preface": ["PRI * HTTP/2.0"],
    "an absolute target": ["GET http://a/ HTTP/1.1", "Host: a"],
    "no Host": ["GET / HTTP/1.1"],
    "two hosts": ["GET / HTTP/1.1", "Host: a", "Host: b"],
    "two lengths": ["POST / HTTP/1.1", "Host: a", "Content-Length: 1", "content-length: 2"],
    "a length and a coding": [
        "POST / HTTP/1.1",
        "Host: a",
        "Content-Length: 1",
        "Transfer-Encoding: chunked",
    ],
    "another coding": ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"],
    "a coding in HTTP/1.0": ["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"],
    "a folded line": ["GET / HTTP/1.1", "Host: a", " b"],
    "a space before a colon": ["GET / HTTP/1.1", "Host : a"],
    "a bare CR": ["GET / HTTP/1.1", "Host: a\rb"],
    "a bare LF": ["GET / HTTP/1.1", "Host: a\nX: b"],
    "a NUL": ["GET / HTTP/1.1", "Host: a\0"],
}


@pytest.mark.parametrize("lines", LEFT.values(), ids=LEFT)
def test_what_is_in_doubt_or_more_than_a_plain_request_is_left_to_hypercorn(lines: list[str]) -> None:
    assert read_head(head(*lines)) is None


def test_a_head_that_will_not_be_taken_is_known_before_its_end() -> None:
    assert not will_never_do(b"GET / HTTP/1.1\r\nHo")
    assert not will_never_do(b"GET / HTTP/1.1\r")
    assert will_never_do(b"\x16\x03\x01")
    assert will_never_do(b"get /")
    assert will_never_do(b"GET / HTTP/1.1\nHost: a")


def test_a_parser_remembers_heads_but_no_secrets_and_not_for_ever() -> None:
    parser = Parser(Hosts())
    plain, secret = head("GET / HTTP/1.1", "Host: a"), head("GET / HTTP/1.1", "Host: a", "Cookie: a=1")
    assert parser.parse(plain) is parser.parse(plain)
    assert parser.parse(secret) is not parser.parse(secret)
    long = head("GET / HTTP/1.1", "Host: a", "X-A: " + "v" * 2000)
    assert parser.parse(long) is not parser.parse(long)
    first = parser.parse(plain)
    for number in range(KNOWN_MAX):
        parser.parse(head(f"GET /{number} HTTP/1.1", "Host: a"))
    assert parser.parse(plain) is not first


def fed(body: Sized | Chunked, sent: bytes, at: list[int]) -> tuple[bytes, bytes]:
    """(body, rest) of `sent`, split at these places."""
    cuts = [0, *sorted(at), len(sent)]
    for begin, end in pairwise(cuts):
        if body.done:
            return body.body, body.rest + sent[begin:]
        body.feed(sent[begin:end])
    assert body.done
    return body.body, body.rest


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=9), st.lists(st.integers(0, 60), max_size=5))
def test_a_body_of_known_length_is_the_same_however_it_arrives(
    body: bytes, rest: bytes, at: list[int]
) -> None:
    assert fed(Sized(len(body)), body + rest, [min(cut, len(body + rest)) for cut in at]) == (body, rest)


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=4),
    st.sampled_from(["", ";a=b"]),
    st.sampled_from(["", "X-T: 1\r\n"]),
    st.binary(max_size=9),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_a_body_in_chunks_is_the_same_however_it_arrives(
    parts: list[bytes], extension: str, trailer: str, rest: bytes, at: list[int]
) -> None:
    sent = b"".join(f"{len(part):X}{extension}\r\n".encode() + part + b"\r\n" for part in parts)
    sent += f"0\r\n{trailer}\r\n".encode() + rest
    cuts = [min(cut, len(sent)) for cut in at]
    assert fed(Chunked(), sent, cuts) == (b"".join(parts), rest)


def test_the_size_of_a_chunk_counts_before_it_has_arrived() -> None:
    body = Chunked()
    body.feed(b"ffffff\r\n")
    assert (body.size, body.done) == (0xFFFFFF, False)


BAD = [
    b"3\r\nabcd\r\n",
    b"3\r\nabc\rx",
    b"g\r\n",
    b"-1\r\n",
    b"3 ;a\r\n",
    b"0\r\nno header\r\n",
    b"3\nabc\r\n",
]
BAD += [b"a" * 5000, b"1;" + b"a" * 5000 + b"\r\n", b"0\r\n" + b"X-A: 1\r\n" * 3000]


@pytest.mark.parametrize("sent", BAD, ids=lambda sent: repr(sent[:12]))
def test_malformed_chunks_are_refused(sent: bytes) -> None:
    with pytest.raises(BadChunk):
        Chunked().feed(sent)
