"""`iii runs`: the newest runs of steps, as the store's history keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from iii.observe.runs import RunOutcome, RunRow

__all__ = ["milliseconds", "runs"]

COLUMNS = ("started", "step", "started by", "attempt", "outcome", "ms", "waited", "trace", "error")


@click.command()
@click.option("--step", metavar="STEP", help="Only runs of this step.")
@click.option(
    "--outcome",
    type=click.Choice(["done", "failed", "dead", "cancelled", "snoozed"]),
    help="Only runs that ended so.",
)
@click.option("--trace", "trace_id", metavar="ID", help="Only runs of this trace.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@json_option
@config_option
def runs(
    step: str | None,
    outcome: RunOutcome | None,
    trace_id: str | None,
    limit: int,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """List the newest runs, the newest first.

    Runs that fail are always recorded, those that succeed for some traces a second, each whole. Of both the
    newest are kept, each as many as history.keep_failed and history.keep say.
    """
    from iii.cli.project import reading
    from iii.config import load
    from iii.observe import runs as history
    from iii.store.contract import Held, Store
    from iii.stores import limits_of

    async def ask(store: Store) -> tuple[list[RunRow], Held]:
        found = history.runs(store, step=step, outcome=outcome, trace_id=trace_id, limit=limit)
        return found, store.held()

    config = load(config_file)
    rows, held = reading(config, ask)
    if as_json:
        print_json(rows)
        return
    print_table(COLUMNS, [_cells(row) for row in rows], empty="no runs are recorded")
    if rows:
        most = limits_of(config)
        say(
            f"kept: {held.failed} that failed (at most {most.runs_failed_max}), "
            f"{held.runs} others (at most {most.runs_max})"
        )


def _cells(row: RunRow) -> tuple[object, ...]:
    from iii.store.operations import iso

    run = row.run
    return (
        iso(run.started_ms),
        run.step,
        f"{run.trigger} {run.source}".strip(),
        run.attempt,
        run.outcome if not run.status else f"{run.outcome} {run.status}",
        milliseconds(run.duration_ms),
        run.wait_ms,
        run.trace_id,
        run.error.partition("\n")[0][:80],
    )


def milliseconds(ms: float) -> str:
    """ "0.42", "7.3", "1250": as many digits as say something."""
    return f"{ms:.2f}" if ms < 1 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
