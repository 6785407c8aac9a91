"""Which rows of the bounded histories go first. Pure: every store counts by it. Knows no table.

    history   part of its own   what is in it           shares of the part
    run       FAILED            runs that failed        one per step
              RUN               all others              one
    audit     REFUSED           logins refused          one
              ACT               all others              one

Each part holds its own number of rows, so what anybody can make in numbers (successes, wrong tokens) never
takes the place of what must be found later (failures, acts of operators). Where a history holds too many
bytes, the part with more of them gives way: up to half of the bytes are safe from the other. Where a part
holds too much, its largest share loses its oldest row, so that a flood of one step's failures takes the place
of none that a step with fewer has.

A row is told by its content alone, so those of earlier versions are too. What reads as neither is in the
history's first part.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from iii.store.contract import Held, Limits

__all__ = [
    "ACT",
    "FAILED",
    "FAILURES",
    "KINDS",
    "LOGIN_REFUSED",
    "PARTS",
    "REFUSED",
    "RUN",
    "Kind",
    "Shares",
    "place_of",
]

Kind: TypeAlias = Literal["run", "audit"]
KINDS: tuple[Kind, ...] = ("run", "audit")

RUN: Final = 0
FAILED: Final = 1
ACT: Final = 2
REFUSED: Final = 3
PARTS: dict[Kind, tuple[int, int]] = {"run": (RUN, FAILED), "audit": (ACT, REFUSED)}

LOGIN_REFUSED = "login refused"
"""What an audit row says of wrong tokens."""

SHARE_CHARS_MAX = 128

FAILURES: tuple[Literal["dead"], Literal["failed"]] = ("dead", "failed")
"""Outcomes of runs that count as failures, the worst first."""


class Place(NamedTuple):
    """Where a row counts."""

    part: int
    share: str = ""


class _Run(Struct):
    step: str = ""
    outcome: str = ""


class _Audit(Struct):
    what: str = ""


_decode_run = msgspec.json.Decoder(_Run).decode
_decode_audit = msgspec.json.Decoder(_Audit).decode
_ORDINARY: dict[Kind, Place] = {"run": Place(RUN), "audit": Place(ACT)}
_REFUSED = Place(REFUSED)


def place_of(kind: Kind, content: bytes) -> Place:
    """Where a row with this content counts."""
    try:
        if kind == "audit":
            return _REFUSED if _decode_audit(content).what == LOGIN_REFUSED else _ORDINARY[kind]
        run = _decode_run(content)
    except msgspec.DecodeError:
        return _ORDINARY[kind]
    if run.outcome not in FAILURES:
        return _ORDINARY[kind]
    is_name = len(run.step) <= SHARE_CHARS_MAX and run.step.isascii() and run.step.isprintable()
    return Place(FAILED, run.step if is_name else "")


class Shares:
    """How many rows and bytes each share holds. A place that holds nothing is not there."""

    def __init__(self) -> None:
        self._rows: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        self._bytes: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        self._part_rows = [0, 0, 0, 0]
        self._part_bytes = [0, 0, 0, 0]

    def add(self, place: Place, rows: int, size: int) -> None:
        """Negative: taken away."""
        part, share = place
        self._part_rows[part] += rows
        self._part_bytes[part] += size
        held, sizes = self._rows[part], self._bytes[part]
        held[share] = left = held.get(share, 0) + rows
        sizes[share] = sizes.get(share, 0) + size
        if not left:
            del held[share], sizes[share]

    def of(self, place: Place) -> tuple[int, int]:
        """Its rows and bytes."""
        part, share = place
        return self._rows[part].get(share, 0), self._bytes[part].get(share, 0)

    def of_kind(self, kind: Kind) -> list[Place]:
        """The places of a history that hold something."""
        return [Place(part, share) for part in PARTS[kind] for share in self._rows[part]]

    def held(self) -> Held:
        return Held(*self._part_rows)

    def too_much(self, kind: Kind, limits: Limits) -> Place | None:
        """Whose oldest row is to go next; None: the history is within its limits."""
        one, other = PARTS[kind]
        if kind == "run":
            one_max, other_max, bytes_max = limits.runs_max, limits.runs_failed_max, limits.runs_bytes_max
        else:
            one_max, other_max, bytes_max = (
                limits.audits_max, limits.audits_refused_max, limits.audits_bytes_max
            )  # fmt: skip
        rows, sizes = self._part_rows, self._part_bytes
        if rows[one] > one_max:
            return Place(one, _largest(self._rows[one]))
        if rows[other] > other_max:
            return Place(other, _largest(self._rows[other]))
        if sizes[one] + sizes[other] > bytes_max:
            part = one if sizes[one] >= sizes[other] else other
            return Place(part, _largest(self._bytes[part]))
        return None


def _largest(sizes: dict[str, int]) -> str:
    """Of several, the last by name: every store and process says the same."""
    if len(sizes) == 1:
        return next(iter(sizes))
    return max(sizes.items(), key=lambda each: (each[1], each[0]))[0]
