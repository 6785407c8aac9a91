"""What follows from an attempt: outcome + message + rules -> the ops that settle it. Pure.

    outcome                                settles as
    Done, Cancelled                        Ack
    Snoozed                                Release, due again after its delay; no attempt counted
    Failed, tries left                     Retry after the queue's delay
    Failed, no tries left, or final        Ack + a dead letter in the archive of the dead-letter topic
                                           (the store hands a copy to each step subscribed to that topic)

A dead letter's copy that dies goes back into the same archive, never on to a third topic.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from iii.config import QueueRules
from iii.model import ARCHIVE, SUSPECT_CRASHES, Ack, DeadLetter, Enqueue, Message, Op, Release, Retry
from iii.trace import HOPS, HOPS_MAX, hops_of

__all__ = ["Cancelled", "Done", "Failed", "Outcome", "Snoozed", "archive_of", "doom", "settle"]

ERROR_CHARS_MAX = 2_000
ALONE_MAX, BESIDE_TIMES = 2, 2
ARCHIVE_HEADER = "iii-archive"
"""Of a dead letter's copy that died: the archive it goes back to, after a redrive as well."""


class Done(Struct, frozen=True):
    """The handler returned."""


class Snoozed(Struct, frozen=True):
    ms: int


class Cancelled(Struct, frozen=True):
    reason: str


class Failed(Struct, frozen=True):
    """`final`: another try cannot help (stored input that is not valid, a loop, a worker that died)."""

    error: str
    final: bool = False


Outcome: TypeAlias = Done | Snoozed | Cancelled | Failed
DONE = Done()


def settle(
    outcome: Outcome,
    message: Message,
    rules: QueueRules,
    *,
    wall_ms: Callable[[], int],
    random: Callable[[], float] = random.random,
) -> tuple[Op, ...]:
    """The ops that settle the attempt."""
    lease = message.lease
    if outcome is DONE:
        return (Ack(lease),)
    match outcome:
        case Snoozed(ms):
            return (Release(lease, ms),)
        case Failed(error, final):
            if not final and message.attempt <= rules.max_retries:
                return (Retry(lease, delay_ms(message.attempt, rules, random), error[:ERROR_CHARS_MAX]),)
            return _bury(error[:ERROR_CHARS_MAX], message, rules, wall_ms())
        case _:
            return (Ack(lease),)


def doom(message: Message, rules: QueueRules) -> Failed | None:
    """Why a message must not run at all; None = it may."""
    if message.crashes >= SUSPECT_CRASHES and (died := _deadly(message, rules)):
        return Failed(f"worker died: {died} while this message ran", final=True)
    counted = message.headers.get(HOPS, ":")
    if ":" not in counted[:3] and (hops := hops_of(message.headers)) > HOPS_MAX:  # from 100 on
        # a step that hears of dead letters is to hear of the loop, once, and not to go on with it
        is_told = hops == HOPS_MAX + 1 and not message.topic.startswith("$state/")
        if not is_told:
            return Failed(
                f"loop: {hops} state triggers fired each other, none a minute after the one before; "
                f"at most {HOPS_MAX} may",
                final=True,
            )
    return None


def _deadly(message: Message, rules: QueueRules) -> str:
    """How often its worker died, where that is a dead letter: it ran alone twice, or where no session runs
    it alone (an embedded engine's), it died twice as often as would do."""
    crashes, most = message.crashes, rules.crashes_max
    if message.alone >= ALONE_MAX and crashes >= most:
        return f"{crashes} times, {message.alone} of them alone,"
    return f"{crashes} times" if crashes >= BESIDE_TIMES * most else ""


def delay_ms(attempt: int, rules: QueueRules, random: Callable[[], float]) -> int:
    """Until the try after failed attempt number `attempt`; jitter 0.2 = anywhere within 20 % of it."""
    delay = rules.retry_delay_ms
    if rules.backoff == "exponential":
        delay <<= min(attempt - 1, 40)
    delay = min(delay, rules.retry_delay_max_ms)
    if rules.jitter:
        delay = round(delay * (1 + rules.jitter * (2 * random() - 1)))
    return min(delay, rules.retry_delay_max_ms)


def archive_of(message: Message, rules: QueueRules) -> str:
    """The topic whose archive takes the message when it dies."""
    from_archive = message.dead is not None or message.headers.get(ARCHIVE_HEADER) == message.topic
    return message.topic if from_archive else rules.dead_letter_queue


def _bury(error: str, message: Message, rules: QueueRules, wall_ms: int) -> tuple[Op, ...]:
    archive, headers = archive_of(message, rules), message.headers
    if archive == message.topic:
        headers = {**headers, ARCHIVE_HEADER: archive}
    letter = Enqueue(
        archive,
        message.payload,
        message.priority,
        group=message.group,
        headers=headers,
        step=ARCHIVE,
        id=message.lease.id,
        dead=DeadLetter(message.topic, message.step, error, message.attempt, wall_ms, message.enqueued_ms),
    )
    return Ack(message.lease, failed=True), letter
