"""What commands print: JSON for programs, aligned columns for people.

The one door to the terminal: what is printed through it may come from anybody (names, payloads, errors), so
it is escaped here (formats/printable.py). Colours of ours are `coloured`. Where a command runs code of steps,
this door alone leads to stdout (`keep_apart`).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

import click
import msgspec
import orjson

from iii.formats.printable import indented, printable, printable_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "Coloured",
    "coloured",
    "compact",
    "count",
    "keep_apart",
    "print_json",
    "print_json_list",
    "print_table",
    "say",
    "say_json",
    "say_lines",
    "span",
]

OUT = "iii.out"
"""The key of click's context under which stdout is kept once steps print elsewhere."""


class Coloured(str):
    """Escaped already, with colours of ours around it."""

    __slots__ = ()


def coloured(text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> str:
    return Coloured(click.style(printable(text), fg=fg, bold=bold, dim=dim))


def keep_apart() -> None:
    """Call it before code of steps runs: what that prints goes to stderr from here on, also what is written
    past `sys.stdout`, by a program that it starts, or when the process ends. Only this module's goes to
    stdout."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or OUT in ctx.meta:
        return
    given = sys.stdout
    if _is_of_process(given):
        given.flush()
        raw = _Whole(os.dup(1), "w")
        os.dup2(2, 1)
        ctx.meta[OUT] = io.TextIOWrapper(raw, given.encoding, given.errors, write_through=True)
    else:
        ctx.meta[OUT] = given
        ctx.find_root().call_on_close(partial(setattr, sys, "stdout", given))
    sys.stdout = sys.stderr


class _Whole(io.FileIO):
    """Keeps nothing back that could not be written: it would be tried again at the end."""

    def write(self, content: ReadableBuffer, /) -> int:
        view = memoryview(content)
        while view:
            view = view[super().write(view) or 0 :]
        return len(memoryview(content))


def _is_of_process(stream: TextIO) -> bool:
    """A program that calls a command may have given its own."""
    try:
        return stream.fileno() == 1
    except (io.UnsupportedOperation, ValueError):
        return False


def _out() -> TextIO:
    ctx = click.get_current_context(silent=True)
    kept: TextIO | None = None if ctx is None else ctx.meta.get(OUT)
    return sys.stdout if kept is None else kept


def say(*parts: str, err: bool = False) -> None:
    """One line, of these parts."""
    text = "".join(part if isinstance(part, Coloured) else printable(part) for part in parts)
    click.echo(text, file=sys.stderr if err else _out())


def say_lines(text: str) -> None:
    """A text of several lines, each indented: a traceback."""
    click.echo(indented(text), file=_out())


def say_json(encoded: str | bytes, *, nl: bool = True) -> None:
    """JSON as it is; escaped in it is what a terminal would obey."""
    text = encoded if isinstance(encoded, str) else encoded.decode(errors="backslashreplace")
    click.echo(printable_json(text), file=_out(), nl=nl)


def print_json(content: object) -> None:
    """`content` (msgspec Structs too) as indented JSON."""
    say_json(_json(content))


def print_json_list(items: Iterable[object]) -> None:
    """A JSON list, an item at a time: it may be longer than memory."""
    separator = "[\n"
    for item in items:
        say_json(f"{separator}{_indented(_json(item))}", nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]", file=_out())


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
    if _out().isatty():
        _print_rich(columns, cells, numeric)
        return
    widths = [max(len(line[n]) for line in (columns, *cells)) for n in range(len(columns))]
    for line in (columns, *cells):
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(padded).rstrip(), file=_out())


def _print_rich(columns: Sequence[str], cells: list[list[str]], numeric: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=_out(), highlight=False).print(table)


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
