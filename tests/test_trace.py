"""iii.trace: W3C trace context in, carried one hop deeper, and never trusted when malformed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii import trace
from iii.clock import FakeClock

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_child_keeps_the_trace_id_and_the_flags_and_gets_a_span_of_its_own() -> None:
    child = trace.child({"traceparent": VALID})
    assert child.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert child.flags == "01"
    assert child.span_id != "00f067aa0ba902b7"


def test_each_hop_is_one_deeper() -> None:
    first = trace.new()
    second = trace.child(first.headers())
    third = trace.child(second.headers())
    assert [first.depth, second.depth, third.depth] == [0, 1, 2]
    assert first.trace_id == second.trace_id == third.trace_id


def test_a_later_version_with_more_fields_is_read_by_its_first_four() -> None:
    assert trace.child({"traceparent": f"cc{VALID[2:]}-more"}).trace_id == VALID[3:35]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00",
        VALID[:-1],
        f"{VALID}-more",
        f"ff{VALID[2:]}",
        VALID.upper(),
        VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        VALID.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(bad: str) -> None:
    child = trace.child({"traceparent": bad, "iii-depth": "7"})
    assert child.trace_id not in bad.lower() or not bad
    assert child.depth == 0


@given(st.text(max_size=80), st.text(max_size=10))
def test_no_header_can_break_it(traceparent: str, depth: str) -> None:
    child = trace.child({"traceparent": traceparent, "iii-depth": depth})
    assert len(child.traceparent) == 55
    assert 0 <= child.depth < 10**6


def test_a_forked_child_makes_other_ids() -> None:
    read, write = os.pipe()
    trace.new()  # others are drawn along with it
    if os.fork() == 0:  # the child only writes one traceparent and leaves at once
        os.write(write, trace.new().traceparent.encode())
        os._exit(0)
    ours = trace.new()
    os.wait()
    theirs = trace.Trace(os.read(read, 55).decode())
    assert theirs.trace_id != ours.trace_id and theirs.span_id != ours.span_id
    os.close(read)
    os.close(write)


def test_a_child_knows_its_parent_span() -> None:
    first = trace.new()
    assert trace.child(first.headers()).parent_id == first.span_id and first.parent_id == ""


def test_a_sampler_keeps_some_traces_a_second_and_what_was_saved_up() -> None:
    clock = FakeClock()
    sampler = trace.Sampler(5, clock.delay_ms)
    assert sum(sampler.take() for _ in range(1_000)) == 50, "ten seconds' worth"
    clock.advance(1_000)
    assert sum(sampler.take() for _ in range(1_000)) == 5
    clock.advance(3_600_000)
    assert sum(sampler.take() for _ in range(1_000)) == 50, "no more than that is saved"


def test_without_a_rate_all_traces_are_kept_and_at_0_none() -> None:
    assert trace.Sampler().root().sampled and trace.is_sampled(trace.Sampler().root_headers())
    assert not trace.Sampler(0).root().sampled and not trace.is_sampled(trace.Sampler(0).root_headers())
    assert not trace.is_sampled({})


def test_a_callers_flag_is_honoured_where_it_is_set_and_decided_anew_where_it_is_not() -> None:
    unset = {"traceparent": f"{VALID[:-2]}00"}
    assert trace.Sampler(0).child({"traceparent": VALID}).sampled
    assert not trace.Sampler(0).child(unset).sampled
    kept = trace.Sampler().child(unset)
    assert kept.sampled and kept.trace_id == VALID[3:35] and kept.parent_id == VALID[36:52]
    assert trace.child(kept.headers()).sampled
    assert not trace.Sampler(0).child({"traceparent": "nonsense"}).sampled


def test_what_begins_a_trace_from_outside_is_no_span_and_its_children_are_roots() -> None:
    headers = trace.Sampler().root_headers()
    child = trace.child(headers)
    assert child.trace_id == headers["traceparent"][3:35] and child.parent_id == "" and child.depth == 1
    again = trace.Sampler().child(headers)
    assert (again.trace_id, again.parent_id) == (child.trace_id, ""), "it is passed on as any other trace"


def test_a_callers_span_is_the_parent_of_what_he_sends() -> None:
    carried = trace.Sampler(0).carried_headers({"traceparent": VALID})
    assert carried == {"traceparent": VALID, "iii-depth": "1"}
    root = trace.Sampler().carried_headers({"traceparent": "nonsense"})
    assert trace.child(root).parent_id == "" and trace.child(root).trace_id == root["traceparent"][3:35]
