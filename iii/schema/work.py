"""What checking one value may cost, and what it found: both are counted, neither is a matter of time.

A schema of a few lines can ask for more work than any body is worth: a hundred alternatives for each of
300,000 items. So each check counts its steps, of about a tenth of a microsecond each, and gives up beyond
what the size of the text allows: about 50 ms, and 130 ms more for each MiB. Findings are counted, too: the
search ends with the twentieth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from iii.errors import Detail, ValidationError
from iii.schema.validator import DETAILS_MAX, dotted, misfit

__all__ = ["Enough", "Findings", "Path", "TooMuchWork", "Work", "brief", "too_much"]

Path: TypeAlias = tuple[str | int, ...]

STEPS_LEAST = 500_000
STEPS_A_BYTE = 1.25


class TooMuchWork(Exception):
    """The value asks for more steps than are allowed."""


class Enough(Exception):
    """So many findings that the rest is not looked for."""


class Work:
    """The steps that are left, and what is known of containers that several references lead to.

    `known` is what keeps recursive alternatives from being tried again for each way that leads to them: of
    (number of the referred schema, id of the container) whether it fits, None while that is being found out.
    """

    __slots__ = ("allowed", "known", "left", "told")

    def __init__(self, size: int = 0) -> None:
        """`size`: of the text that the value was read from, in bytes."""
        self.allowed = self.left = STEPS_LEAST + int(size * STEPS_A_BYTE)
        self.known: dict[tuple[int, int], bool | None] = {}
        self.told: set[tuple[int, int]] = set()

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork


class Findings:
    """Up to DETAILS_MAX different Details. Enough is raised with the last."""

    def __init__(self) -> None:
        self._found: dict[Detail, None] = {}

    def add(self, path: Path, problem: str) -> None:
        self._found[Detail(dotted(path), problem)] = None
        if len(self._found) >= DETAILS_MAX:
            raise Enough

    @property
    def details(self) -> Sequence[Detail]:
        return tuple(self._found)


def too_much(work: Work) -> ValidationError:
    problem = f"takes over {work.allowed:,} steps to check against its schema; send less at once"
    return misfit(Detail("", problem))


def brief(value: Any) -> str:
    """`value` in a message: at most 60 characters, and no work for a large one."""
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list | tuple):
        return "array"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of over 38 digits"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 58 else f'"{value[:55]}..."'
    return (
        {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else repr(value)
    )
