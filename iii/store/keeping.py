"""What of the change log is kept, for whom, and who is refused while it is held. Pure: values alone.

    below TAIL                 the newest `changes_max` versions, within `changes_bytes_max`
    above TAIL, over the bound
      a session serves         kept: it is `held` by the trigger with the least mark
      nobody serves            forgotten, with a mark that says so: TAIL moves on without it
    4 times the bound, held    Txns that leave changes are refused, unless they settle a message
    8 times                    those too, but for messages of state triggers: what holds the log goes on
                               with them

A trigger whose last session left, or died, while the log was over the bound already is waited for until as
much again has come: a restart forgets nothing. Nothing is refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping

from iii.errors import ChangesHeld
from iii.model import TAIL, Ack, Discard, Merge, Put, Release, Retry, Return, Txn

__all__ = [
    "CHANGES",
    "FORGOTTEN",
    "HELD_TIMES",
    "LEFT",
    "MARKS",
    "TAIL",
    "forgotten_mark",
    "forgotten_reason",
    "held_reason",
    "lane_of",
    "leaves_changes",
    "refused_from",
    "settlements",
    "step_of",
    "waited_bytes",
    "waited_for",
]

MARKS = "trigger/"
"""The marks of state triggers begin so; then the step's name, and a hash of what the trigger watches."""
FORGOTTEN = "forgotten/"
"""The same rest after it: when (wall clock) its trigger was forgotten; 0: it has come back since."""
LEFT = "changes/left"
"""The bytes of the log when a session came or left last, while it is over the bound."""

CHANGES = "$state/"
"""The topics of the messages that changes become begin so."""

HELD_TIMES, EFFECTS_TIMES = 4, 8

_WRITING = (Put, Merge)
_ENDING = (Ack, Retry, Release, Return, Discard)


def step_of(mark: str) -> str:
    """The step of a trigger's mark, or of the mark that says it is forgotten."""
    return mark.removeprefix(MARKS).removeprefix(FORGOTTEN).rpartition("/")[0]


def lane_of(mark: str) -> tuple[str, str]:
    """The lane whose subscribers serve the trigger."""
    step = step_of(mark)
    return CHANGES + step, step


def forgotten_mark(mark: str) -> str:
    return FORGOTTEN + mark.removeprefix(MARKS)


def waited_for(
    marks: Mapping[str, int], forgotten: Mapping[str, int], tail: int | None
) -> list[tuple[int, str]]:
    """The triggers that the log is kept for, the one furthest behind first: (mark, its name).

    One below TAIL has another filter by now, or came and went long ago."""
    return sorted(
        (at, name)
        for name, at in marks.items()
        if at >= (tail or 0) and not forgotten.get(forgotten_mark(name))
    )


def waited_bytes(bytes_max: int, left: int | None) -> int:
    """How large the log grows before a trigger that nobody serves is forgotten."""
    if left is None or left <= bytes_max:
        return bytes_max
    return min((EFFECTS_TIMES + 1) * bytes_max, left + bytes_max)


def leaves_changes(txn: Txn) -> bool:
    """Whether it writes a value; what deletes alone always lands."""
    return any(isinstance(op, _WRITING) and not op.namespace.startswith("$") for op in txn.ops)


def refused_from(txn: Txn, bytes_max: int) -> int:
    """The size of a held log from which a Txn that leaves changes is refused."""
    ends = any(isinstance(op, _ENDING) for op in txn.ops)
    return (EFFECTS_TIMES if ends else HELD_TIMES) * bytes_max


def settlements(txn: Txn) -> list[Ack | Retry | Release | Return]:
    """What ends the attempts at messages in it."""
    return [op for op in txn.ops if isinstance(op, Ack | Retry | Release | Return)]


def forgotten_reason(mark: str, at: int, size: int, bytes_max: int) -> str:
    return (
        f"the state trigger of step {step_of(mark)} is waited for no more: no instance serves it, the "
        f"changes since version {at} take {size} bytes, store.max_changes is {bytes_max}: the oldest go"
    )


def held_reason(step: str, size: int, bytes_max: int) -> ChangesHeld:
    return ChangesHeld(
        f"the change log holds {size} bytes that the state trigger of step {step} has not seen, and "
        f"store.max_changes is {bytes_max}: let it catch up (is {CHANGES}{step} full by max_depth?) "
        "or raise store.max_changes"
    )
