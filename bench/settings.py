"""What was asked on the command line, and what one round of a scenario gets to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Result: TypeAlias = dict[str, float]


class WrongResult(Exception):
    """A scenario's own check failed: its figures mean nothing."""


@dataclass(frozen=True)
class Settings:
    """`share`: the part of the sizes that is run; the tests run a hundredth."""

    quick: bool = False
    rounds: int = 5
    fsync: str = "commit"
    folder: Path | None = None
    instances: int = 1
    share: float = 1.0

    def size(self, full: int, quick: int) -> int:
        return max(1, round((quick if self.quick else full) * self.share))

    def seconds(self, full: float, quick: float) -> float:
        return max(0.2, (quick if self.quick else full) * self.share)


@dataclass(frozen=True)
class Round:
    """One round of one scenario. `folder` is empty and its own; `say` shows what it is at.

    earlier: the medians of the scenarios that this run has measured so far.
    """

    settings: Settings
    folder: Path
    say: Callable[[str], None] = lambda _: None
    earlier: Mapping[str, Result] = field(default_factory=dict)
