"""iii.trace: W3C trace context in, passed on with a chain's counts, and never trusted when malformed."""

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


def test_each_message_is_a_generation_and_a_delay_begins_anew() -> None:
    first = trace.new()
    second = trace.child(first.headers())
    third = trace.child(second.headers())
    assert [first.generation, second.generation, third.generation] == [0, 1, 2]
    assert first.trace_id == second.trace_id == third.trace_id
    assert trace.child(trace.undescended(third.headers())).generation == 1


def test_a_state_trigger_adds_a_hop_and_one_a_minute_after_the_last_sets_them_to_0() -> None:
    headers = {"traceparent": VALID, "iii-generation": "7", "mine": "1"}
    first = trace.hopped(headers, 1_000)
    assert first == {"traceparent": VALID, "mine": "1", "iii-hops": "1:1000"}
    assert trace.hopped(first, 60_999)["iii-hops"] == "2:60999"
    assert trace.hopped(first, 61_000)["iii-hops"] == "0:61000"
    assert trace.hopped(first, 10)["iii-hops"] == "2:10", "a clock set back is no minute"
    assert trace.child(first).headers()["iii-hops"] == "1:1000", "a handler passes it on"
    assert (trace.hops_of(first), trace.hops_of({})) == (1, 0)


def test_what_is_sent_again_by_hand_begins_anew() -> None:
    headers = {
        "traceparent": VALID,
        "iii-hops": "101:5",
        "iii-generation": "7",
        "iii-depth": "101",
        "mine": "1",
    }
    assert trace.anew(headers) == {"traceparent": VALID, "mine": "1"}


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
    child = trace.child({"traceparent": bad, "iii-hops": "7:5", "iii-generation": "4"})
    assert child.trace_id not in bad.lower() or not bad
    assert (child.hops, child.generation) == ("7:5", 5), "what counts a chain does not depend on it"


WRITTEN = st.one_of(st.text(max_size=24), st.from_regex("[0-9:\\-+ ]{0,24}", fullmatch=True))


@given(st.text(max_size=80), WRITTEN, WRITTEN)
def test_no_header_can_break_it(traceparent: str, hops: str, generation: str) -> None:
    headers = {"traceparent": traceparent, "iii-hops": hops, "iii-generation": generation, "iii-depth": "101"}
    child = trace.child(headers)
    assert len(child.traceparent) == 55
    assert 1 <= child.generation <= 10**9
    assert child.headers().keys() <= {"traceparent", "iii-hops", "iii-generation"}
    assert trace.child(trace.hopped(headers, 1)).hops == trace.hopped(headers, 1)["iii-hops"]
    assert 0 <= trace.hops_of(headers) < 10**9


@pytest.mark.parametrize(
    "bad", ["", "7", ":", "7:", ":5", "-1:5", "1:-5", "1:5\n", "٧:5", "1e3:5", "9" * 10 + ":5"]
)
def test_hops_that_the_engine_did_not_write_count_as_none(bad: str) -> None:
    assert trace.child({"iii-hops": bad}).hops == ""
    assert trace.hops_of({"iii-hops": bad}) == 0
    assert trace.hopped({"iii-hops": bad}, 9)["iii-hops"] == "1:9"


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


def test_traces_that_callers_want_kept_have_a_rate_of_their_own() -> None:
    clock = FakeClock()
    sampler = trace.Sampler(20, clock.delay_ms)
    asked = {"traceparent": VALID}
    kept = [sampler.child(asked) for _ in range(10_000)]
    assert sum(each.sampled for each in kept) == 200, "ten seconds' worth"
    assert {each.flags for each in kept} == {"00", "01"} and {each.trace_id for each in kept} == {VALID[3:35]}
    assert sum(trace.is_sampled(sampler.carried_headers(asked)) for _ in range(100)) == 0, "one rate for both"
    assert sum(sampler.take() for _ in range(1_000)) == 200, "which takes nothing of our own"
    clock.advance(1_000)
    assert sum(sampler.child(asked).sampled for _ in range(1_000)) == 20


def test_a_caller_finds_its_trace_however_few_are_kept_otherwise() -> None:
    clock = FakeClock()
    sampler = trace.Sampler(0, clock.delay_ms)
    assert sum(sampler.child({"traceparent": VALID}).sampled for _ in range(1_000)) == 50
    clock.advance(1_000)
    assert sum(sampler.child({"traceparent": VALID}).sampled for _ in range(1_000)) == 5
    assert all(trace.Sampler().child({"traceparent": VALID}).sampled for _ in range(100)), "no rate: all"


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
    assert child.trace_id == headers["traceparent"][3:35] and child.parent_id == "" and child.generation == 1
    again = trace.Sampler().child(headers)
    assert (again.trace_id, again.parent_id) == (child.trace_id, ""), "it is passed on as any other trace"


def test_a_callers_span_is_the_parent_of_what_he_sends() -> None:
    carried = trace.Sampler(0).carried_headers({"traceparent": VALID})
    assert carried == {"traceparent": VALID}
    root = trace.Sampler().carried_headers({"traceparent": "nonsense"})
    assert trace.child(root).parent_id == "" and trace.child(root).trace_id == root["traceparent"][3:35]
