"""`python bench/compare.py A.json B.json`: B's figures as multiples of A's, metric by metric.

Where both have a limit, the second ratio is that of the figures each relative to its own limit: what is left
of the difference when that of the machines, or of their moods, is taken out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

LIMIT = "limit_"

Results = Mapping[str, Mapping[str, float]]


class Ratio(NamedTuple):
    """B / A; `to_limits`: (B / its limit) / (A / its limit), where there are limits."""

    scenario: str
    metric: str
    ratio: float
    to_limits: float | None


def ratios(before: Results, after: Results) -> list[Ratio]:
    """For each metric that both runs have, and that is not 0 in the first."""
    return [
        Ratio(
            scenario,
            metric,
            after[scenario][metric] / value,
            _to_limits(metric, metrics, after[scenario]),
        )
        for scenario, metrics in before.items()
        for metric, value in metrics.items()
        if value and metric in after.get(scenario, {})
    ]


def _to_limits(metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    limits = before.get(LIMIT + metric), after.get(LIMIT + metric)
    if not limits[0] or not limits[1]:
        return None
    return (after[metric] / limits[1]) / (before[metric] / limits[0])


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python bench/compare.py A.json B.json")
    documents = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    for name, document in zip("AB", documents, strict=True):
        print(f"{name}: commit {document['commit'] or 'unknown'}", document["settings"], document["machine"])
    shown = Table("scenario", "metric", "B / A", "relative to limits")
    for each in ratios(documents[0]["results"], documents[1]["results"]):
        relative = f"{each.to_limits:.2f}" if each.to_limits is not None else ""
        shown.add_row(each.scenario, each.metric, f"{each.ratio:.2f}", relative)
    Console().print(shown)


if __name__ == "__main__":
    main()
