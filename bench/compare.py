"""`python bench/compare.py A.json B.json`: B's figures as multiples of A's, metric by metric."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def ratios(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]
) -> list[tuple[str, str, float]]:
    """(scenario, metric, after / before) for each metric that both runs have."""
    return [
        (scenario, metric, after[scenario][metric] / value)
        for scenario, metrics in before.items()
        for metric, value in metrics.items()
        if value and metric in after.get(scenario, {})
    ]


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python bench/compare.py A.json B.json")
    before, after = (json.loads(Path(name).read_text())["results"] for name in sys.argv[1:])
    shown = Table("scenario", "metric", "B / A")
    for scenario, metric, ratio in ratios(before, after):
        shown.add_row(scenario, metric, f"{ratio:.2f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
