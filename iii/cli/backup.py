"""`iii backup`: a consistent copy of the store, while engines go on."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option
from iii.cli.output import say
from iii.cli.project import has_store, reading
from iii.config import load
from iii.errors import InputError
from iii.store.contract import Store

__all__ = ["backup"]


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@config_option
def backup(dest: Path, config_file: Path | None) -> None:
    """Copy the store into a new folder, while it is in use.

    `iii run --data DEST` starts from the copy.
    """
    config = load(config_file)
    if not has_store(config):
        raise InputError("there is no store yet, so nothing to copy")

    async def copy(store: Store) -> None:
        await store.backup(dest.absolute())

    reading(config, copy)
    say(f"copied to {dest}")
