"""The start-up report: what runs here, what starts it, where it keeps its store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from iii import __version__
from iii.cli.output import coloured
from iii.engine import Engine
from iii.formats.printable import printable
from iii.report import CronLine
from iii.step import StateTrigger

__all__ = ["lines"]

Row: TypeAlias = tuple[str, ...]


def lines(engine: Engine, instances: int = 1) -> Iterator[str]:
    """The report of a started engine, or of several equal ones."""
    config, report = engine.config, engine.report()
    file = _near(config.file) if config.file else "no configuration file: defaults"
    yield coloured(f"iii {__version__}", bold=True) + printable(f"  {file}")
    sections: dict[str, list[Row]] = {
        "steps": [(f"{len(report.steps)} in {_near(config.steps)}",)],
        "routes": [(f"{method} {path}", step) for method, path, step in report.routes],
        "topics": [(topic.topic, topic.step, f"{topic.concurrency} at a time") for topic in report.topics],
        "crons": [_cron(cron) for cron in report.crons],
        "state": _state(engine),
        "store": [(f"{report.store} (fsync: {config.store.fsync})" if report.store else "in memory",)],
        "address": [(report.address or "no HTTP",)],
    }
    if report.console:
        sections["console"] = [(report.console,)]
    if config.traces is not None:
        sections["traces"] = [(config.traces.endpoint or "where OTEL_EXPORTER_OTLP_… say",)]
    if instances > 1:
        sections["instances"] = [(f"{instances}",)]
    width = max(map(len, sections))
    for label, rows in sections.items():
        yield from _section(label.ljust(width), rows)
    yield ""


def _cron(cron: CronLine) -> Row:
    return cron.words, cron.step, f"next {cron.next}" if cron.next is not None else "never again"


def _state(engine: Engine) -> list[Row]:
    return [
        (trigger.namespace or "every namespace", step.name)
        for step in engine.steps
        for trigger in step.triggers
        if isinstance(trigger, StateTrigger)
    ]


def _section(label: str, rows: Sequence[Row]) -> Iterator[str]:
    """Aligned rows behind their label."""
    shown_rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown_rows, strict=True)]
    for index, row in enumerate(shown_rows):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        shown = label if index == 0 else " " * len(label)
        yield f"  {coloured(shown, dim=True)}  {cells}"


def _near(path: Path) -> str:
    """Relative to the working folder where it lies in it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
