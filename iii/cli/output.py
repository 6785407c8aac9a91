"""What commands print: JSON for programs, aligned columns for people.

The one door to the terminal: what is printed through it may come from anybody (names, payloads, errors), so
it is escaped here (formats/printable.py). Colours of ours are `coloured`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
import msgspec
import orjson

from iii.formats.printable import indented, printable, printable_json

__all__ = [
    "Coloured",
    "coloured",
    "compact",
    "count",
    "print_json",
    "print_json_list",
    "print_table",
    "say",
    "say_json",
    "say_lines",
    "span",
]


class Coloured(str):
    """Escaped already, with colours of ours around it."""

    __slots__ = ()


def coloured(text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> str:
    return Coloured(click.style(printable(text), fg=fg, bold=bold, dim=dim))


def say(*parts: str, err: bool = False) -> None:
    """One line, of these parts."""
    click.echo("".join(part if isinstance(part, Coloured) else printable(part) for part in parts), err=err)


def say_lines(text: str) -> None:
    """A text of several lines, each indented: a traceback."""
    click.echo(indented(text))


def say_json(encoded: str | bytes, *, nl: bool = True) -> None:
    """JSON as it is; escaped in it is what a terminal would obey."""
    text = encoded if isinstance(encoded, str) else encoded.decode(errors="backslashreplace")
    click.echo(printable_json(text), nl=nl)


def print_json(content: object) -> None:
    """`content` (msgspec Structs too) as indented JSON."""
    say_json(_json(content))


def print_json_list(items: Iterable[object]) -> None:
    """A JSON list, an item at a time: it may be longer than memory."""
    separator = "[\n"
    for item in items:
        say_json(f"{separator}{_indented(_json(item))}", nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def _json(content: object) -> str:
    return orjson.dumps(msgspec.to_builtins(content), option=orjson.OPT_INDENT_2).decode()


def compact(content: object) -> str:
    """JSON on one line."""
    return printable_json(orjson.dumps(content).decode())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Aligned columns, numbers to the right; `empty` where there are no rows."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if not cells:
        say(empty)
        return
    numeric = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(columns))]
    if sys.stdout.isatty():
        _print_rich(columns, cells, numeric)
        return
    widths = [max(len(line[n]) for line in (columns, *cells)) for n in range(len(columns))]
    for line in (columns, *cells):
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _print_rich(columns: Sequence[str], cells: list[list[str]], numeric: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def count(number: int, noun: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def span(ms: int | None) -> str:
    """A duration as people say it: "350 ms", "12 s", "5 min", "3 h", "2 d"; "" for None."""
    if ms is None:
        return ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= size:
            return f"{ms // size} {unit}"
    return f"{ms} ms"
