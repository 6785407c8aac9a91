"""Load tests with one command: `python bench/run.py [--json FILE] [--only SCENARIO] [--quick]`.

Every figure stands beside the limit measured in the same run, so that ratios hold on any machine.
Scenarios run the real engine in a process of its own and check their own result. See bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import core_scenario  # noqa: E402
import limits  # noqa: E402

Result = dict[str, float]


def drain_medians(args: argparse.Namespace, concurrency: int) -> Result:
    """The median of each metric over several drains, and their ratio to raw LMDB at the same group size."""
    settings = {
        "messages": 40_000 if args.quick else 200_000,
        "producers": 512,
        "concurrency": concurrency,
        "fsync": args.fsync,
        "dir": args.dir,
    }
    rounds = [_child("drain.py", settings) for _ in range(1 if args.quick else args.rounds)]
    result = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        raw = limits.raw_lmdb(
            Path(folder),
            rows=settings["messages"],
            group=max(1, round(result["writes_per_group"] / 2)),
            value_bytes=200,
            fsync=args.fsync,
        )
    result["limit_messages_per_s"] = raw["messages_per_s"]
    result["ratio_to_limit"] = result["messages_per_s"] / raw["messages_per_s"]
    return result


def _child(script: str, settings: dict[str, object]) -> Result:
    done = subprocess.run(
        [sys.executable, str(HERE / script), json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def fsync_time(args: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        return limits.fsync_us(Path(folder))


SCENARIOS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "core": lambda args: core_scenario.run(quick=args.quick),
    "fsync": fsync_time,
    "drain": lambda args: drain_medians(args, 1024),
    "drain_32": lambda args: drain_medians(args, 32),
}


def machine() -> dict[str, object]:
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}


def commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    )
    return asked.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as JSON")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="run this scenario (repeatable)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, under a minute in all")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median is taken (5)")
    parser.add_argument("--fsync", choices=["commit", "meta", "interval"], default="commit")
    parser.add_argument(
        "--dir", default=None, help="folder for the stores: the disk to measure (a temporary one)"
    )
    args = parser.parse_args()
    names = args.only or list(SCENARIOS)
    results: dict[str, Result] = {}
    screen = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        for name in names:
            task = progress.add_task(name, total=None)
            results[name] = SCENARIOS[name](args)
            progress.remove_task(task)
    screen.print(table(results))
    if args.json:
        settings = {"quick": args.quick, "rounds": args.rounds, "fsync": args.fsync}
        document = {"machine": machine(), "commit": commit(), "settings": settings, "results": results}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def table(results: dict[str, Result]) -> Table:
    shown = Table("scenario", "metric", "value")
    for name, result in results.items():
        for i, (metric, value) in enumerate(result.items()):
            shown.add_row(
                name if i == 0 else "", metric, f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
            )
        shown.add_section()
    return shown


if __name__ == "__main__":
    main()
