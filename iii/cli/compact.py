"""`iii compact`: gives back the file that a drained backlog left large, while no engine runs."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option
from iii.cli.output import say
from iii.cli.project import has_store
from iii.config import load
from iii.errors import ConfigError, InputError

__all__ = ["compact"]


@click.command()
@config_option
def compact(config_file: Path | None) -> None:
    """Make the store's file as small as what it holds, while no engine runs.

    The file only ever grows by itself; room within it is used again. The change log is shortened to
    store.max_changes first. Needs as much free disk space as the store holds; whatever goes wrong, the file
    stays as it was.
    """
    config = load(config_file)
    if config.store.kind == "memory":
        raise ConfigError("a store in memory has no file", file=str(config.file or ""), field="store.type")
    if not has_store(config):
        raise InputError("there is no store yet, so nothing to compact")
    from iii.store.lmdb.compact import compact as compacted

    before, after = compacted(config.store.path, config.store.map_bytes, config.store.changes_bytes_max)
    say(f"{config.store.path}: {_mib(before)} before, {_mib(after)} now")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
