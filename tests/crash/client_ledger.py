"""The ledger of a client outside: a line before each request and one after it, flushed to the file at once.

    {"id", "client", "number", "event": asked | accepted | refused | unknown, "at_ns", "told"}

unknown: the connection broke, so the request may have landed or not, or may yet land.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Event = Literal["asked", "accepted", "refused", "unknown"]


class Line(Struct, frozen=True):
    id: str
    client: str
    number: int
    event: Event
    at_ns: int
    told: str = ""  # what a refusal said


class Work(Struct):
    """What became of one piece of work, after all of its requests."""

    client: str
    number: int
    asked_ns: int
    end: Event = "asked"  # asked: the run ended before an answer came
    end_ns: int = 0
    told: str = ""


class Ledger:
    """Append only; a line is in the file when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, id: str, client: str, number: int, event: Event, told: str = "") -> None:
        line = Line(id, client, number, event, time.monotonic_ns(), told)
        os.write(self._fd, msgspec.json.encode(line) + b"\n")


def read(path: Path) -> list[Line]:
    return msgspec.json.Decoder(Line).decode_lines(path.read_bytes())


def fold(lines: Iterable[Line]) -> dict[str, Work]:
    """By id, in the order they were asked; what is asked for again keeps its first time of asking."""
    found: dict[str, Work] = {}
    for line in lines:
        work = found.setdefault(line.id, Work(line.client, line.number, line.at_ns))
        work.end, work.end_ns, work.told = line.event, line.at_ns, line.told
    return found
