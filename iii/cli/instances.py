"""`iii instances`: the engines that run on the store, as their own session files show them."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, print_table, span
from iii.config import load
from iii.store.lmdb.roster import roster

__all__ = ["in_words", "instances"]

COLUMNS = ("pid", "health", "uptime", "in flight", "requests", "messages/s", "lanes", "session")


@click.command()
@json_option
@config_option
def instances(as_json: bool, config_file: Path | None) -> None:
    """List the engines that run on the store, and how they are.

    In flight: messages whose handlers run. Messages/s: settled, over the last 10 s. Health: starting, ready,
    draining; stopped (SIGSTOP), stuck (its event loop has not turned for 2 s; after health.stuck_after it is
    ended), stale (it shows no sign of life: its messages run elsewhere). Quarantine: it runs alone what two
    workers died of, and is none of the instances that were asked for.
    """
    store = load(config_file).store
    rows = roster(store.path, stale_ms=store.stale_after_ms)
    if as_json:
        print_json(rows)
        return
    cells = [
        (
            row.pid,
            in_words(row.health, row.quarantine),
            span(row.uptime_ms),
            row.in_flight,
            row.requests,
            row.messages_per_s,
            row.lanes,
            row.session,
        )
        for row in rows
    ]
    print_table(COLUMNS, cells, empty="no engine runs on this store")


def in_words(health: str, quarantine: bool) -> str:
    """How an instance is, and that it is none but a quarantine."""
    if not quarantine:
        return health
    return "quarantine" if health == "ready" else f"quarantine, {health}"
