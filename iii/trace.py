"""The trace that runs from a request to its messages, their state changes and what those trigger.

W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` = 00-<trace id>-<span id>-<flags>.

Two counts go along. `iii-hops`, `<count>:<wall ms of the last>`, counts state triggers that fire each other:
a trigger adds 1, one that fires HOPS_APART_MS or more after the last sets it to 0, all else inherits it; over
HOPS_MAX its message is a dead letter ("loop"). `iii-generation` counts messages that handlers enqueue without
delay, each from the one before: a chain of GENERATIONS_MANY is told of, and goes on. Neither comes in from
outside, and what does not read as written here counts as none. `iii-depth`, which earlier versions wrote and
still count by, is not read.

Whether the runs of a trace are recorded although they succeed is decided once, at its root, and carried in
the flags (W3C's sampled bit), so that a kept trace is whole. A caller's set bit is honoured at a rate of its
own: anybody can set it. One that is not set says only that the caller does not record, so the Sampler here
decides.

What comes from outside of any run (an enqueue, a cron tick) begins a trace without a span. In its place
stands the first half of the trace id, so that the runs it leads to know that they are roots.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping

from msgspec import Struct

HOPS, GENERATION, DEPTH = "iii-hops", "iii-generation", "iii-depth"
HOPS_MAX = 100
HOPS_APART_MS = 60_000
GENERATIONS_MANY = 1_000
BURST_S = 10
ASKED_PER_S_MIN = 5
"""Who looks for one trace sets the flag of its request: so it is found, however few are kept otherwise."""
_ODD = frozenset("13579bdf")
_COUNTED = re.compile("([0-9]{1,9}):([0-9]{1,15})")
_SPELLED = re.compile(  # version ff is none, nor is an id of zeros; what a later version adds is not read
    "(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)


class Trace(Struct, frozen=True, gc=False):
    """One run in a trace. traceparent: 00-<trace id>-<span id>-<flags>; parent_id: the span that caused this
    one, "" at a root; hops: the header that it inherited, "" = none; generation: of what it enqueues."""

    traceparent: str
    parent_id: str = ""
    hops: str = ""
    generation: int = 0

    @property
    def trace_id(self) -> str:
        """32 hex digits, the same over the chain."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hex digits, one per run."""
        return self.traceparent[36:52]

    @property
    def flags(self) -> str:
        return self.traceparent[53:]

    @property
    def sampled(self) -> bool:
        return self.traceparent[54] in _ODD

    def headers(self) -> dict[str, str]:
        """What an Enqueue or a change carries."""
        carried = {"traceparent": self.traceparent}
        if self.hops:
            carried[HOPS] = self.hops
        if self.generation:
            carried[GENERATION] = str(self.generation)
        return carried


def new(*, sampled: bool = True) -> Trace:
    """The root of a new trace."""
    return Trace(_ids() + ("01" if sampled else "00"))


def new_headers(*, sampled: bool = True) -> dict[str, str]:
    """What starts a trace and is no run itself, like an enqueue from outside."""
    ids = _ids()
    return {"traceparent": f"{ids[:36]}{ids[3:19]}-{'01' if sampled else '00'}"}


def child(headers: Mapping[str, str]) -> Trace:
    """The trace that a message's `headers` carry, with a span of its own; a new one where they carry none."""
    found = _spelled(headers)
    traceparent, parent_id = (new().traceparent, "") if found is None else found
    hops, generation = headers.get(HOPS, ""), headers.get(GENERATION)
    if hops and _COUNTED.fullmatch(hops) is None:
        hops = ""
    return Trace(traceparent, parent_id, hops, 1 if generation is None else _count(generation) + 1)


def undescended(headers: dict[str, str]) -> dict[str, str]:
    """What a message with a delay carries of `headers`: it begins a chain of its own."""
    return {name: value for name, value in headers.items() if name != GENERATION}


def anew(headers: Mapping[str, str]) -> dict[str, str]:
    """What a message that people send again carries: nothing is counted yet."""
    return {name: value for name, value in headers.items() if name not in (HOPS, GENERATION, DEPTH)}


def hopped(headers: Mapping[str, str], wall_ms: int) -> dict[str, str]:
    """What the message of a state trigger carries of its change's `headers`: one hop more."""
    found = _COUNTED.fullmatch(headers[HOPS]) if HOPS in headers else None
    if found is None:
        count = 1
    else:
        count = 0 if wall_ms - int(found[2]) >= HOPS_APART_MS else int(found[1]) + 1
    carried = {**headers, HOPS: f"{count}:{wall_ms}"}
    carried.pop(GENERATION, None)
    return carried


def hops_of(headers: Mapping[str, str]) -> int:
    """How many state triggers have fired each other up to this message."""
    found = _COUNTED.fullmatch(headers.get(HOPS, ""))
    return 0 if found is None else int(found[1])


def is_sampled(headers: Mapping[str, str]) -> bool:
    """Whether the trace in a message's own headers is kept; False where they carry none."""
    return headers.get("traceparent", "")[-1:] in _ODD


class Sampler:
    """Decides at the root of a trace whether it is kept: `per_s` a second, and what was saved up in the
    BURST_S before. per_s None: all of them, 0: none. Of the traces that callers ask to be kept as many
    besides, at least ASKED_PER_S_MIN. Two token buckets (GCRA, ITU-T I.371)."""

    __slots__ = ("_paid_ms", "_step_ms", "_wants_all", "now_ms")

    def __init__(self, per_s: int | None = None, now_ms: Callable[[], int] = lambda: 0) -> None:
        self._wants_all = per_s is None
        self.now_ms = now_ms
        own_ms = 1000 / per_s if per_s else 0.0
        asked_ms = 0.0 if per_s is None else 1000 / max(per_s, ASKED_PER_S_MIN)
        self._step_ms = (own_ms, asked_ms)
        self._paid_ms = [0.0, 0.0]  # up to when the tokens of either are spent

    def take(self, asked: bool = False) -> bool:
        """Whether the trace that begins now is kept. `asked`: its caller wants it to be."""
        step_ms = self._step_ms[asked]
        if not step_ms:
            return self._wants_all
        now_ms = self.now_ms()
        paid_ms = self._paid_ms[asked]
        if paid_ms - now_ms > 1000 * BURST_S - step_ms:
            return False
        self._paid_ms[asked] = max(paid_ms, now_ms) + step_ms
        return True

    def root(self) -> Trace:
        """As `new`."""
        sampled = self.take()
        return Trace(_ids() + ("01" if sampled else "00"))

    def root_headers(self) -> dict[str, str]:
        """As `new_headers`."""
        return new_headers(sampled=self.take())

    def child(self, headers: Mapping[str, str]) -> Trace:
        """As `child`, of a caller's headers: whether the trace is kept is decided here."""
        found = _spelled(headers)
        if found is None:
            return self.root()
        trace = Trace(*found)
        if self.take(asked=trace.sampled) is trace.sampled:
            return trace
        return Trace(f"{trace.traceparent[:53]}{'00' if trace.sampled else '01'}", trace.parent_id)

    def carried_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """As `root_headers`, in the trace of a caller: his span is the parent of what follows."""
        trace = self.child(headers)
        span_id = trace.parent_id or trace.trace_id[:16]
        return Trace(f"00-{trace.trace_id}-{span_id}-{trace.flags}").headers()


def _spelled(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """(traceparent, parent id) of a run that continues the trace in `headers`; None where they carry none."""
    found = _SPELLED.fullmatch(headers.get("traceparent", "").strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "00" and more:
        return None
    if parent_id == trace_id[:16]:
        parent_id = ""
    return f"00-{trace_id}-{_draw(_span_ids, 8)}-{flags}", parent_id


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


# ------------------------------------------------------------------------------------------- ids

DRAWN = 64
"""Ids are drawn so many at a time."""

_random = random.Random(os.urandom(16))  # ids need to differ, not to be secret: 10 times faster than urandom
_trace_ids: list[str] = []
_span_ids: list[str] = []


def _ids() -> str:
    """A new traceparent without its flags."""
    return f"00-{_draw(_trace_ids, 16)}-{_draw(_span_ids, 8)}-"


def _draw(ids: list[str], size: int) -> str:
    """A new id of `size` bytes; any thread. One of zeros, which none may be, is as good as impossible."""
    while True:
        try:
            return ids.pop()
        except IndexError:
            ids.extend(_random.randbytes(size * DRAWN).hex("-", size).split("-"))


def _after_fork() -> None:
    """What the parent has drawn is the parent's."""
    _trace_ids.clear()
    _span_ids.clear()
    _random.seed(os.urandom(16))


os.register_at_fork(after_in_child=_after_fork)
