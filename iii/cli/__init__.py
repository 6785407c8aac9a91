"""The command line: `iii`, one file per command group, each loaded when its command is called.

Only click is imported then, so that `iii --help` is there at once. A command that prints what it read
takes --json; every command takes -c. Exit code 0: done (and, where something was written, on disk);
1: refused, with one line on stderr that says where and what to do; 2: not a command line.
"""

from __future__ import annotations

import sys

import iii

__all__ = ["main"]


def main() -> None:
    """The console script `iii`."""
    if "StepConfig" not in getattr(iii, "__all__", ()):  # another distribution's package has our name
        from iii.cli.foreign import overwritten

        sys.exit(f"error: {overwritten()}")
    from iii.cli.group import command_line
    from iii.observe.streams import replace_closed

    replace_closed()
    command_line(prog_name="iii")
