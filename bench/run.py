"""Load tests with one command: `python bench/run.py [--json FILE] [--only SCENARIO] [--quick]`.

Figures stand beside the limit measured in the same run, so that ratios hold on any machine. Scenarios run the
real engine in processes of its own and check their own result; where one is wrong the run exits 1, after the
others have run. See bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import commit, machine
from bench.metrics import METRICS
from bench.scenarios import SCENARIOS, Scenario
from bench.settings import Result, Round, Settings, WrongResult
from bench.table import table

WIDTH_MIN = 118  # of the table where it goes into a file


def main() -> None:
    args = _arguments()
    settings = Settings(
        quick=args.quick,
        rounds=1 if args.quick else args.rounds,
        fsync=args.fsync,
        folder=args.dir,
        instances=args.instances,
    )
    screen = Console(stderr=True)
    results, failures = run(args.only or list(SCENARIOS), settings, screen)
    out = Console()
    out.width = max(out.width, WIDTH_MIN)
    out.print(table(results))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document(settings, results), indent=2) + "\n")
    for name, error in failures.items():
        screen.print(f"[bold red]{name} is wrong:[/] ", end="")
        screen.print(str(error), markup=False)
    if failures:
        raise SystemExit(1)


def run(
    names: list[str],
    settings: Settings,
    screen: Console,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
) -> tuple[dict[str, Result], dict[str, WrongResult]]:
    """The medians by scenario, and what was wrong with the others."""
    results: dict[str, Result] = {}
    failures: dict[str, WrongResult] = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen) as progress:
        everything = progress.add_task("all scenarios", total=len(names))
        for name in names:
            task = progress.add_task(name, total=settings.rounds)
            rounds = _rounds(name, scenarios[name], settings, results, progress, task)
            try:
                results[name] = medians(list(rounds))
                progress.update(task, description=name)
            except WrongResult as error:
                failures[name] = error
                progress.update(task, description=f"{name}: [bold red]wrong[/]")
            progress.advance(everything)
    return results, failures


def _rounds(
    name: str,
    scenario: Scenario,
    settings: Settings,
    earlier: dict[str, Result],
    progress: Progress,
    task: TaskID,
) -> Iterator[Result]:
    for _ in range(settings.rounds):
        with _folder(settings) as folder:
            round = Round(
                settings, folder, lambda what: progress.update(task, description=f"{name}: {what}"), earlier
            )
            yield checked(name, scenario(round))
        progress.advance(task)


@contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """Empty, on the disk to be measured, gone afterwards."""
    with tempfile.TemporaryDirectory(
        prefix="iii-bench-", dir=settings.folder, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def checked(name: str, result: Result) -> Result:
    """In the order of bench/metrics.py; WrongResult where one of them is missing, or new."""
    if unknown := result.keys() - METRICS[name].keys():
        raise WrongResult(f"{name} measured {sorted(unknown)}, which bench/metrics.py does not know")
    if missing := METRICS[name].keys() - result.keys():
        raise WrongResult(f"{name} did not measure {sorted(missing)}")
    return {metric: result[metric] for metric in METRICS[name]}


def medians(rounds: list[Result]) -> Result:
    return {metric: statistics.median(each[metric] for each in rounds) for metric in rounds[0]}


def document(settings: Settings, results: dict[str, Result]) -> dict[str, object]:
    asked = {
        "quick": settings.quick,
        "rounds": settings.rounds,
        "fsync": settings.fsync,
        "instances": settings.instances,
    }
    return {"machine": machine(), "commit": commit(), "settings": asked, "results": results}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as JSON")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="run this scenario (repeatable)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, under a minute in all")
    parser.add_argument("--rounds", type=_count, default=5, help="rounds of which the median is taken (5)")
    parser.add_argument("--instances", type=_count, default=1, metavar="N", help="engines on one store (1)")
    parser.add_argument("--fsync", choices=["commit", "meta", "interval"], default="commit")
    parser.add_argument(
        "--dir", type=Path, help="folder for the stores: the disk to measure (a temporary one)"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    main()
