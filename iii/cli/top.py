"""`iii top`: what runs now, live: rates, queues, instances."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from iii.cli.group import config_option, json_option
from iii.cli.instances import in_words
from iii.cli.output import print_json, span
from iii.cli.project import reading
from iii.config import Config, load
from iii.console.pulse import LOOK_S, Pulse
from iii.formats.printable import printable
from iii.model import Lane
from iii.observe.metering import Metering
from iii.observe.meters import Figures
from iii.store.contract import Store
from iii.store.operations import QueueRow, queue_rows
from iii.stores import roster_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["top"]

COLUMNS = ("topic", "step", "ready", "delayed", "behind", "running", "dead", "in/s", "done/s", "oldest", "")
INSTANCES = ("pid", "health", "uptime", "in flight", "requests", "messages/s")


@click.command()
@click.option("--once", is_flag=True, help="Look for a second, print and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds between looks.",
)
@json_option
@config_option
def top(once: bool, interval: float, as_json: bool, config_file: Path | None) -> None:
    """Show what runs now, live: rates, queues, instances. Ctrl-C ends it."""
    config = load(config_file)

    async def watch(store: Store) -> None:
        pulse = Pulse(store, Metering(store, Figures(), config.store.path))
        pulse.look()
        if once or as_json:
            await asyncio.sleep(LOOK_S)
            _print_once(_seen(config, store, pulse), as_json)
        else:
            await _watch(config, store, pulse, interval)

    try:
        reading(config, watch)
    except KeyboardInterrupt:
        return


def _seen(config: Config, store: Store, pulse: Pulse) -> dict[str, Any]:
    """Everything there is to show, as it is printed with --json."""
    pulse.look()
    rows = queue_rows(store)
    commits_per_s, group_size = pulse.commits()
    return {
        "now_ms": store.clock.wall_ms(),
        "rates": msgspec.to_builtins(pulse.rates()),
        "latency": msgspec.to_builtins(pulse.latency()),
        "store": {"commits_per_s": commits_per_s, "group_size": group_size},
        "queues": [_queue(row, pulse) for row in rows],
        "instances": msgspec.to_builtins(roster_of(config.store.path, config.store.stale_after_ms)),
    }


def _queue(row: QueueRow, pulse: Pulse) -> dict[str, Any]:
    enqueued_per_s, done_per_s = pulse.of_lane(Lane(row.topic, row.step))
    shown: dict[str, Any] = msgspec.to_builtins(row)
    return {**shown, "enqueuedPerS": enqueued_per_s, "donePerS": done_per_s}


def _print_once(seen: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    from rich.console import Console

    Console(highlight=False).print(_frame(seen))


async def _watch(config: Config, store: Store, pulse: Pulse, interval: float) -> None:
    from rich.live import Live

    with Live(_frame(_seen(config, store, pulse)), screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(interval)
            live.update(_frame(_seen(config, store, pulse)), refresh=True)


def _frame(seen: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rates, latency, store = seen["rates"], seen["latency"], seen["store"]
    head = (
        f"done {rates['done_per_s']:,.1f}/s   failed {rates['failed_per_s']:,.1f}/s   "
        f"enqueued {rates['enqueued_per_s']:,.1f}/s   requests {rates['requests_per_s']:,.1f}/s"
    )
    times = (
        f"run p50 {_ms(latency['run_p50_ms'])} p99 {_ms(latency['run_p99_ms'])}   "
        f"wait p50 {_ms(latency['wait_p50_ms'])} p99 {_ms(latency['wait_p99_ms'])}   "
        f"commits {store['commits_per_s']:,.1f}/s of {store['group_size']:,.1f}"
    )
    queues = [_queue_cells(row) for row in seen["queues"]]
    instances = [_instance_cells(row) for row in seen["instances"]]
    nobody = Text("no engine runs on this store", style="dim")
    return Group(
        Text(head, style="bold"),
        Text(times, style="dim"),
        Text(),
        _table(COLUMNS, queues, left=2),
        Text(),
        _table(INSTANCES, instances, left=0) if instances else nobody,
    )


def _queue_cells(row: dict[str, Any]) -> list[str]:
    counts = [row[name] for name in ("ready", "delayed", "behind", "leased", "dead")]
    rates = [f"{row['enqueuedPerS']:,.1f}", f"{row['donePerS']:,.1f}"]
    state = "paused" if row["paused"] else ""
    names = printable(row["topic"]), printable(row["step"] or "-")
    return [*names, *map(str, counts), *rates, span(row["oldestMs"]), state]


def _instance_cells(row: dict[str, Any]) -> list[str]:
    how = in_words(row["health"], row["quarantine"])
    cells = [row["pid"], how, span(row["uptime_ms"]), row["in_flight"], row["requests"]]
    return [printable(str(cell)) for cell in (*cells, row["messages_per_s"])]


def _table(columns: tuple[str, ...], rows: list[list[str]], *, left: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
