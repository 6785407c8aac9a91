"""The soak in seconds, to see that it runs, and its judgement over forged records."""

from __future__ import annotations

from pathlib import Path

from soak import MEASURES, Record, Sample, Took, grown, soak, table

SECOND_NS = 1_000_000_000


def record(anon_mib: list[float], request_ms: list[float], files: list[int]) -> Record:
    """A sample a second."""
    samples = [
        Sample(index * SECOND_NS, int(anon * 1024), 1 << 20, open, 10)
        for index, (anon, open) in enumerate(zip(anon_mib, files, strict=True))
    ]
    took = [Took(index * SECOND_NS, ms) for index, ms in enumerate(request_ms)]
    return Record(0, len(samples) * SECOND_NS, samples, took, took)


def test_what_rises_only_while_it_warms_up_is_flat() -> None:
    flat = record([10, 50, 80, *[100] * 6], [90, 90, 90, *[5] * 6], [20] * 9)
    assert grown(flat) == []


def test_each_growth_beyond_its_tolerance_is_named() -> None:
    leaking = record([50, 60, 70, 80, 90, 100, 110, 120, 130], [5] * 9, [20] * 9)
    assert [each.split(":")[0] for each in grown(leaking)] == ["RssAnon MiB"]
    slower = record([50] * 9, [5] * 6 + [50] * 3, [20] * 9)
    assert {each.split(":")[0] for each in grown(slower)} == {
        *("request p50 ms", "request p99 ms", "message p50 ms", "message p99 ms")
    }
    forgotten = record([50] * 9, [5] * 9, [20, 21, 22, 23, 24, 25, 26, 27, 28])
    assert [each.split(":")[0] for each in grown(forgotten)] == ["open files"]


async def test_a_soak_of_seconds_runs_and_its_messages_are_timed(tmp_path: Path) -> None:
    seen, wrong = await soak(tmp_path / "project", minutes=0.05, rate=40)
    assert wrong == []
    assert seen.samples and seen.requests and seen.messages
    assert len(table(seen).splitlines()) > 3
    assert {measure.of(seen) > 0 for measure in MEASURES} == {True}
