"""Refuses a step that never takes a second one: `*/90` of minutes is minute 0, never every 90 minutes.

A step counts within its field and begins anew with the next hour (day, month, year), so one beyond the
field's range means only its first value.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

from msgspec import Struct

from iii.errors import StepError

__all__ = ["refuse_steps_beyond"]

TRIGGERS_MAX = 4


class _Kind(Struct, frozen=True):
    """`low`: what * begins with. `size`: how many values there are, the largest step. `around`: what a step
    begins anew with."""

    name: str
    low: str
    high: str
    size: int
    around: str


_KINDS = (
    _Kind("second", "0", "59", 60, "minute"),
    _Kind("minute", "0", "59", 60, "hour"),
    _Kind("hour", "0", "23", 24, "day"),
    _Kind("day", "1", "31", 31, "month"),
    _Kind("month", "1", "12", 12, "year"),
    _Kind("weekday", "0", "7", 7, "week"),
    _Kind("year", "1970", "2099", 130, "century"),
)


def refuse_steps_beyond(expression: str, parts: Sequence[str]) -> None:
    """`parts`: seconds first, upper case. StepError with what to write instead."""
    for index, (kind, field) in enumerate(zip(_KINDS, parts, strict=False)):
        for term in field.split(","):
            base, slash, step = term.partition("/")
            if not slash or not (step.isascii() and step.isdecimal()):
                continue
            if base in ("L", "LW"):
                raise StepError(
                    f'{kind.name} "{field}" of "{expression}" is wrong: {base} is one day, '
                    f'a step has no meaning; write "{base}"'
                )
            if len(step.lstrip("0")) > 9 or int(step) > kind.size:
                raise _beyond(expression, parts, index, term)


def _beyond(expression: str, parts: Sequence[str], index: int, term: str) -> StepError:
    kind, (base, _, step) = _KINDS[index], term.partition("/")
    only = kind.low if base in ("*", "?") else base.partition("-")[0]
    remedy = f'write "{only}" for that'
    if meant := _every(parts, index, step):
        triggers = " and ".join(f'"{each}"' for each in meant)
        many = "" if len(meant) == 1 else f"{len(meant)} triggers, "
        remedy += f", or for every {step} {kind.name}s {many}{triggers}"
    return StepError(
        f'{kind.name} "{parts[index]}" of "{expression}" is wrong: the step {step} goes beyond '
        f"{kind.low}-{kind.high}, so it would only be {kind.name} {only}; a step is 1 to {kind.size} and "
        f"begins anew with each {kind.around}: {remedy}"
    )


def _every(parts: Sequence[str], index: int, step: str) -> list[str]:
    """The expressions that together mean every so many seconds or minutes; [] where few cannot say it.

    Every 90 minutes: at minute 0 of hour 0, 3, 6 …, and at minute 30 of hour 1, 4, 7 …
    """
    if index > 1 or len(step) > 5 or parts[index] != f"*/{step}" or parts[index + 1] != "*":
        return []
    every, above = int(step), _KINDS[index + 1]
    period = lcm(every, 60)
    apart = period // 60
    if above.size % apart or period // every > TRIGGERS_MAX:
        return []
    found = []
    for at in range(0, period, every):
        first, value = divmod(at, 60)
        written = list(parts)
        written[index] = str(value)
        written[index + 1] = _stepped(first, apart, above)
        found.append(" ".join(written[1:] if written[0] == "0" and len(written) == 6 else written))
    return found


def _stepped(first: int, apart: int, kind: _Kind) -> str:
    if apart == kind.size:
        return str(first)
    return f"*/{apart}" if first == 0 else f"{first}-{kind.high}/{apart}"
