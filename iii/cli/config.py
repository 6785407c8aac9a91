"""`iii config`: the configuration as it is in effect."""

from __future__ import annotations

from pathlib import Path

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import print_json, say

__all__ = ["config"]


@click.command()
@json_option
@config_option
def config(as_json: bool, config_file: Path | None) -> None:
    """Show the configuration as it is in effect.

    Every default is filled in, as a file would have it; what is secret is hidden. Of queues only what the
    file says is shown: a trigger's own configuration stands in its step.
    """
    import msgspec

    from iii.config import load
    from iii.observe.effective import effective

    told = effective(load(config_file))
    if as_json:
        print_json(told)
    else:
        for line in msgspec.yaml.encode(told).decode().removesuffix("\n").split("\n"):
            say(line)
