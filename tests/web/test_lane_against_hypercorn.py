"""The lane against Hypercorn: the same bytes to the same site lead to the same calls and the same answers.

Of the archive (requests.yaml); beyond it: its requests, damaged at random, and random bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from archive_kit import Case, Door, Outcome, Reply, cases, door
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = cases()
PLAIN = [case for case in CASES if not case.binary]
SPLIT = [case for case in CASES if len(case.sent) <= 400]


class Doors:
    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], lane: Door, hypercorn: Door) -> None:
        self._run, self._lane, self._hypercorn = run, lane, hypercorn

    def through(self, *parts: bytes, half_closed: bool = False) -> tuple[Outcome, Outcome]:
        """(through the lane, through Hypercorn alone)"""
        lane = self._run(self._lane.outcome(parts, half_closed=half_closed))
        return lane, self._run(self._hypercorn.outcome(parts, half_closed=half_closed))

    def through_the_lane(self, *parts: bytes) -> Outcome:
        found = self._run(self._lane.outcome(parts))
        assert isinstance(found, Outcome)
        return found


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def doors(request: pytest.FixtureRequest) -> Iterator[Doors]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        stack = AsyncExitStack()
        lane, hypercorn = (runner.run(stack.enter_async_context(door(lane=lane))) for lane in (True, False))
        yield Doors(runner.run, lane, hypercorn)
        runner.run(stack.aclose())


def _assert_alike(lane: Outcome, hypercorn: Outcome, *, binary: bool = False) -> None:
    assert lane.calls == hypercorn.calls
    if binary:
        assert (lane.rest[:9] == hypercorn.rest[:9]) and lane.replies == hypercorn.replies
        return
    assert list(map(_said, lane.replies)) == list(map(_said, hypercorn.replies))
    assert lane.rest == hypercorn.rest


def _said(reply: Reply) -> Reply:
    """Without the trace's id."""
    return reply if reply.status != 500 else reply._replace(body=reply.body.partition(b'"traceId"')[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_is_answered_as_by_hypercorn(case: Case, doors: Doors) -> None:
    _assert_alike(*doors.through(case.sent), binary=case.binary)


@pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.name)
def test_a_request_that_arrives_byte_by_byte_is_answered_as_in_one(case: Case, doors: Doors) -> None:
    sent = case.sent
    _assert_alike(
        doors.through_the_lane(*(sent[at : at + 1] for at in range(len(sent)))),
        doors.through_the_lane(sent),
        binary=case.binary,
    )


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_a_client_that_closes_its_half_with_its_request_is_answered_as_by_hypercorn(
    case: Case, doors: Doors
) -> None:
    _assert_alike(*doors.through(case.sent, half_closed=True))


def test_the_archive_holds_requests_that_are_answered_and_requests_that_are_refused() -> None:
    assert len(CASES) > 300
    assert len({case.name for case in CASES}) == len({case.sent for case in CASES}) == len(CASES)
    statuses = [case for case in CASES if "HTTP/1" in case.send]
    assert len(statuses) > 300


DAMAGE = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0",
    b"3",
    b",",
    b";",
    b"\xff",
    b"\x0b",
    b"\r\n\r\n",
]
DAMAGE += [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"GET /echo HTTP/1.1\r\n",
]


METHODS = ["GET", "GET", "POST", "PUT", "DELETE", "BREW", "get", "CONNECT"]
TARGETS = [
    "/echo",
    "/echo?a=1",
    "/stream",
    "/waits",
    "/nothing",
    "/upload",
    "/%65cho",
    "*",
    "http://a/echo",
    "/a b",
]
VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2"]
FIELDS = [
    "host: b",
    "X: \xe9",
    "X:",
    "X : 1",
    " folded",
    "Cookie: a=1",
    "Upgrade: h2c",
    "Expect: 100-continue",
]
FIELDS += [f"Connection: {each}" for each in ("close", "keep-alive", "Upgrade, close", ",", "close, TE")]
LENGTHS = [f"Content-Length: {each}" for each in ("0", "3", "3", "03", "+3", "3, 3", "3,4", "", "\t3 ")]
CODINGS = [f"Transfer-Encoding: {each}" for each in ("Chunked", "gzip, chunked", "identity")]
FRAMING = [*LENGTHS, *CODINGS, *["Transfer-Encoding: chunked"] * 4]
CHUNKS = ["3\r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"]
BAD_CHUNKS = ["3\nabc\n0\n\n", "0x3\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffff1\r\na"]
BODIES = ["", "", "abc", "abc", *CHUNKS, *CHUNKS, *BAD_CHUNKS, "0\r\n\r\n"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Requests of the archive, with something put in, taken out or replaced in a few places."""
    sent = draw(st.sampled_from(SPLIT)).sent
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(sent)))
        gone = draw(st.integers(0, 4))
        put = draw(st.one_of(st.sampled_from(DAMAGE), st.binary(max_size=3)))
        sent = sent[:at] + put + sent[at + gone :]
    return sent


@st.composite
def composed(draw: st.DrawFn) -> bytes:
    """Requests put together from parts that are right, old, doubtful or wrong: some pipelined, some cut."""
    sent = b""
    for _ in range(draw(st.integers(1, 3))):
        first = " ".join(draw(st.sampled_from(each)) for each in (METHODS, TARGETS, VERSIONS))
        fields = draw(st.lists(st.sampled_from(FRAMING), max_size=2))
        fields += draw(st.lists(st.sampled_from(FIELDS), max_size=1))
        fields.insert(draw(st.integers(0, len(fields))), "Host: a")
        sent += "\r\n".join([first, *fields, "", draw(st.sampled_from(BODIES))]).encode("latin-1")
    return sent[: draw(st.integers(0, len(sent)))] if draw(st.integers(0, 9)) == 0 else sent


SENT = st.one_of(damaged(), composed(), composed(), st.binary(max_size=200))


@given(sent=SENT, at=st.integers(0, 400))
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_damaged_request_does_in_the_lane_what_it_does_in_hypercorn(
    sent: bytes, at: int, doors: Doors
) -> None:
    lane, hypercorn = doors.through(sent[:at], sent[at:])
    assert lane.calls == hypercorn.calls
    assert list(map(_said, lane.replies)) == list(map(_said, hypercorn.replies))
