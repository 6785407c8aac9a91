"""What is kept of a run: its JSON, its names, its table, its ratios."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.budgets import AIM, BUDGETS, REACHED, SHORT, Budget
from bench.compare import Ratio, ratios
from bench.metrics import METRICS, unit
from bench.percentiles import named, percentile
from bench.scenarios import SCENARIOS
from bench.table import rows

ROOT = Path(__file__).resolve().parents[2]


def test_results_are_json_of_one_shape(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "out.json"
    done = subprocess.run(
        [sys.executable, "bench/run.py", "--quick", "--only", "fsync", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert list(document) == ["machine", "commit", "settings", "results"]
    assert set(document["settings"]) == {"quick", "rounds", "fsync", "instances"}
    assert list(document["results"]) == ["fsync"]
    assert list(document["results"]["fsync"]) == list(METRICS["fsync"])
    assert "p50_us" in done.stdout


def test_every_scenario_has_its_names_and_every_budget_a_metric() -> None:
    assert list(METRICS) == list(SCENARIOS)
    assert [at for at in BUDGETS if at[1] not in METRICS[at[0]]] == []


def test_every_limit_stands_beside_a_metric() -> None:
    limits = [(s, m) for s, metrics in METRICS.items() for m in metrics if m.startswith("limit_")]
    assert [(s, m) for s, m in limits if m.removeprefix("limit_") not in METRICS[s]] == []


def test_the_readme_lists_every_metric_with_its_unit() -> None:
    """`drain_32`, `pipeline_2` and `latency_2` measure what their namesakes do."""
    listed: dict[str, dict[str, str]] = {}
    for section in re.split(r"^### ", (ROOT / "bench" / "README.md").read_text(), flags=re.MULTILINE)[1:]:
        name = section.split()[0]
        listed[name] = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) *\|", section, re.MULTILINE))
    expected = {name: {m: unit(m) for m in metrics} for name, metrics in METRICS.items()}
    assert listed == expected | {"drain_32": {}, "pipeline_2": {}, "latency_2": {}}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("messages_per_s", "/s"),
        ("100_kib_mib_per_s", "MiB/s"),
        ("loop_us_per_message", "µs"),
        ("p99_us", "µs"),
        ("rss_anon_max_mib", "MiB"),
        ("behind_max_s", "s"),
        ("ratio_to_limit", ""),
    ],
)
def test_the_unit_is_the_end_of_the_name(metric: str, expected: str) -> None:
    assert unit(metric) == expected


def test_a_figure_stands_beside_its_limit_with_the_ratio() -> None:
    result = {"messages_per_s": 40_000, "groups": 3, "limit_messages_per_s": 800_000, "ratio_to_limit": 0.05}
    assert [row[:4] for row in rows("drain", result)] == [
        ("messages_per_s", "40,000 /s", "800,000", "0.05"),
        ("groups", "3", "", ""),
    ]


@pytest.mark.parametrize(
    ("value", "more", "less"),
    [
        (50, SHORT, AIM),
        (99, SHORT, REACHED),
        (100, REACHED, REACHED),
        (101, REACHED, SHORT),
        (200, AIM, SHORT),
    ],
)
def test_a_budget_is_short_reached_or_has_its_aim(value: float, more: str, less: str) -> None:
    assert Budget(100, 200).verdict(value) == more
    assert Budget(100, 50, less=True).verdict(value) == less


def test_a_short_figure_is_told_with_what_it_falls_short_of() -> None:
    (row,) = rows("drain", {"messages_per_s": 40_000})
    assert row[-1].endswith(">= 60,000, aim 100,000") and SHORT in row[-1]


def test_compare_gives_ratios_of_what_both_runs_have() -> None:
    before = {
        "drain": {"messages_per_s": 100.0, "errors": 0.0, "gone": 1.0},
        "hello": {"requests_per_s": 1.0},
    }
    after = {"drain": {"messages_per_s": 150.0, "errors": 0.0, "new": 1.0}}
    assert ratios(before, after) == [Ratio("drain", "messages_per_s", 1.5, None)]


def test_compare_takes_the_difference_of_the_machines_out() -> None:
    before = {"drain": {"messages_per_s": 100.0, "limit_messages_per_s": 1000.0}}
    after = {"drain": {"messages_per_s": 400.0, "limit_messages_per_s": 2000.0}}
    first, second = ratios(before, after)
    assert first == Ratio("drain", "messages_per_s", 4.0, 2.0)
    assert second == Ratio("drain", "limit_messages_per_s", 2.0, None)


def test_compare_reads_two_files(tmp_path: Path) -> None:
    for name, rate in (("a", 100), ("b", 250)):
        document = {
            "machine": {},
            "commit": name,
            "settings": {},
            "results": {"drain": {"messages_per_s": rate}},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, "bench/compare.py", str(tmp_path / "a.json"), str(tmp_path / "b.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "2.50" in done.stdout


def test_percentiles_are_samples_that_their_share_does_not_exceed() -> None:
    samples = list(range(1000, 0, -1))
    assert [percentile(samples, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert named("took", [3.0]) == {"took_p50_ms": 3.0, "took_p99_ms": 3.0, "took_p99_9_ms": 3.0}
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)
