"""The figures as a table: each beside its limit, their ratio, and its budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from bench.budgets import AIM, BUDGETS, REACHED, SHORT, Budget
from bench.metrics import unit
from bench.settings import Result

LIMIT = "limit_"
COLOURS = {AIM: "bold green", REACHED: "green", SHORT: "red"}


def table(results: Mapping[str, Result]) -> Table:
    shown = Table()
    shown.add_column("scenario", no_wrap=True)
    shown.add_column("metric", no_wrap=True)
    for heading in ("value", "limit", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("budget", no_wrap=True)
    for scenario, result in results.items():
        for index, row in enumerate(rows(scenario, result)):
            shown.add_row(scenario if index == 0 else "", *row)
        shown.add_section()
    return shown


def rows(scenario: str, result: Result) -> Iterator[tuple[str, str, str, str, str]]:
    """(metric, value, limit, value / limit, budget and verdict); a limit stands beside its metric only."""
    for metric, value in result.items():
        if metric.startswith(LIMIT) or (
            metric == "ratio_to_limit" and any(m.startswith(LIMIT) for m in result)
        ):
            continue
        limit = result.get(LIMIT + metric)
        yield (
            metric,
            f"{number(value)} {unit(metric)}".rstrip(),
            number(limit) if limit is not None else "",
            f"{value / limit:.3g}" if limit else "",
            _held_against(BUDGETS.get((scenario, metric)), value),
        )


def _held_against(budget: Budget | None, value: float) -> str:
    if budget is None:
        return ""
    aim = f", aim {number(budget.aim)}" if budget.aim is not None else ""
    verdict = budget.verdict(value)
    return f"[{COLOURS[verdict]}]{verdict}[/]  {'<=' if budget.less else '>='} {number(budget.must)}{aim}"


def number(value: float) -> str:
    """Three or four digits that count."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
