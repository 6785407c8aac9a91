"""`iii audit`: what was changed by hand, through console and command line, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import compact, print_json, print_table

if TYPE_CHECKING:
    from iii.store.audit import AuditEntry
    from iii.store.contract import Store

__all__ = ["audit"]


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@json_option
@config_option
def audit(limit: int, as_json: bool, config_file: Path | None) -> None:
    """List what was changed by hand, and by whom.

    Through console and command line, the newest change first.
    """
    from iii.cli.project import reading
    from iii.config import load
    from iii.store.audit import audits
    from iii.store.operations import iso

    async def read(store: Store) -> list[AuditEntry]:
        return [row.entry for row in audits(store, limit=limit)]

    entries = reading(load(config_file), read)
    if as_json:
        print_json(entries)
        return
    rows = [(iso(each.at_ms), each.who, each.what, compact(each.detail)) for each in entries]
    print_table(("when", "who", "what", "detail"), rows, empty="nothing was changed by hand")
