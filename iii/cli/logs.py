"""`iii logs`: the newest lines that the engines on a data folder logged; -f: and those that come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iii.cli.group import config_option, json_option
from iii.cli.output import coloured, say, say_json, say_lines

if TYPE_CHECKING:
    from iii.observe.log_file import TailedLine

__all__ = ["logs"]

LOOK_AGAIN_S = 0.2
COLOURS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--step", metavar="STEP", help="Only what this step logged.")
@click.option(
    "--level", type=click.Choice(["debug", "info", "warning", "error"]), help="Only this level and above."
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 1_000_000),
    default=50,
    show_default=True,
    help="How many at first.",
)
@json_option
@config_option
def logs(
    follow: bool, step: str | None, level: str | None, lines: int, as_json: bool, config_file: Path | None
) -> None:
    """Show what the engines log, all instances together.

    They keep the newest lines in the data folder, log.max_file bytes of them. --json: one object a line.
    """
    from iii.config import load
    from iii.observe.log_file import LogTail

    tail = LogTail(load(config_file).store.path, step=step, level=level)
    _print(tail.last(lines), as_json)
    try:
        while follow:
            time.sleep(LOOK_AGAIN_S)
            _print(tail.read(), as_json)
    except KeyboardInterrupt:
        return


def _print(lines: Iterable[TailedLine], as_json: bool) -> None:
    import msgspec

    for line in lines:
        if as_json:
            say_json(msgspec.json.encode(line))
        else:
            _print_line(line)
    sys.stdout.flush()


def _print_line(line: TailedLine) -> None:
    from iii.observe.lines import line_of

    who = line.step or line.logger
    text = line_of(_time_of(line), line.level, who, line.attempt, line.message, line.fields)
    say(coloured(text, fg=COLOURS.get(line.level)))
    if line.error:
        say_lines(line.error)


def _time_of(line: TailedLine) -> datetime | None:
    try:
        return datetime.fromisoformat(line.time).astimezone()
    except ValueError:
        return None
