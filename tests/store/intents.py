"""What the rule machine may want next, drawn by Hypothesis: ops, or intents that become ops."""

from __future__ import annotations

from typing import NamedTuple, get_args

from hypothesis import strategies as st

from iii.model import Delete, Enqueue, Lane, LanePolicy, Mark, Merge, Pause, Put, Record, Suspects, Unique

LANES = [Lane("t", "A"), Lane("t", "B"), Lane("u", "A"), Lane("t.failed", "F")]
TOPICS = ["t", "u", "t.failed"]
WORKERS = 3
DELAYS = st.sampled_from([0, 0, 0, 10, 100])


class Settle(NamedTuple):
    kind: str
    held: int
    delay_ms: int


class Rest(NamedTuple):
    """Do something to the n-th message at rest in a topic."""

    kind: str
    topic: str
    number: int


granted: st.SearchStrategy[Suspects] = st.sampled_from(get_args(Suspects))
keys = st.tuples(st.sampled_from(["ns", "ns2", "$own"]), st.sampled_from(["a", "b", "é"]))
versions = st.sampled_from([None, None, None, 0, 1, 2, 3])
values = st.sampled_from([b"1", b"2", b'{"n":1}', b"[1]"])
patches = st.sampled_from(
    [
        b'{"m":2}',
        b"{}",
        b'[{"type":"increment","path":"n"}]',
        b'[{"type":"append","path":"","value":1}]',
        b'[{"type":"set","path":"","value":1}]',
    ]
)
uniques = st.sampled_from(
    [None, None, None, Unique("one", 50), Unique("one", 50, exclusive=True), Unique("two", 1000)]
)
enqueues = st.builds(
    Enqueue,
    topic=st.sampled_from(TOPICS),
    payload=st.sampled_from([b"", b"x", b"y" * 5000]),
    priority=st.sampled_from([128, 128, 0, 64, 255]),
    delay_ms=DELAYS,
    group=st.sampled_from([None, None, "g", "h"]),
    unique=uniques,
    headers=st.sampled_from([{}, {"h": "1"}]),
    step=st.sampled_from([None, None, None, "A", "B", "Z", ""]),
)
kept = st.builds(
    Enqueue,
    topic=st.sampled_from(TOPICS),
    payload=st.just(b"kept"),
    group=st.sampled_from([None, "g"]),
    step=st.sampled_from(["A", "B"]),
    id=st.integers(1, 12),
)
settlements = st.builds(
    Settle,
    st.sampled_from(["ack", "ack", "fail", "retry", "release", "return", "hold", "die"]),
    st.integers(0, 9),
    DELAYS,
)
at_rest = st.builds(
    Rest, st.sampled_from(["discard", "discard", "redrive"]), st.sampled_from(TOPICS), st.integers(0, 6)
)
intents = st.one_of(
    keys.flatmap(lambda key: st.builds(Put, st.just(key[0]), st.just(key[1]), values, versions)),
    keys.flatmap(lambda key: st.builds(Merge, st.just(key[0]), st.just(key[1]), patches)),
    keys.flatmap(lambda key: st.builds(Delete, st.just(key[0]), st.just(key[1]), versions)),
    enqueues,
    enqueues,
    enqueues,
    kept,
    settlements,
    settlements,
    at_rest,
    st.builds(Mark, st.just("cursor"), st.integers(0, 3), st.sampled_from([None, 0, 1, 2, 3])),
    st.builds(Record, st.sampled_from(["run", "audit"]), st.just(b"r")),
    st.builds(
        lambda lane, paused: Pause(lane.topic, lane.step, paused), st.sampled_from(LANES), st.booleans()
    ),
)
policies = st.lists(
    st.builds(
        lambda lane, flight, depth: LanePolicy(lane.topic, lane.step, flight, depth),
        st.sampled_from(LANES),
        st.sampled_from([None, None, 1, 2]),
        st.sampled_from([None, None, 3]),
    )
    | st.builds(
        lambda topic, ms: LanePolicy(topic, "", retention_ms=ms), st.sampled_from(TOPICS), st.just(200)
    ),
    max_size=5,
    unique_by=lambda policy: (policy.topic, policy.step),
)
demands = levels = st.dictionaries(st.sampled_from(LANES), st.integers(0, 3), min_size=1)
workers = st.integers(0, WORKERS - 1)
