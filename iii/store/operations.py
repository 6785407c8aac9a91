"""What an operator does to a store, through the waist alone: look at queues, redrive, purge, pause.

The command line and the console print what these return. A message that moves meanwhile (an engine
works on the same store) is left to whoever moved it: each removal is a Txn of its own, refused with
Conflict where the message is not any more where it was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import orjson
from msgspec import UNSET, Struct, UnsetType

from iii.errors import Conflict, InputError
from iii.formats.units import nearest
from iii.model import ARCHIVE, Discard, Enqueue, Entry, LaneStats, MessageState, Pause, Txn, Waiting
from iii.store.contract import Store

__all__ = [
    "MessageRow",
    "Origin",
    "QueueRow",
    "StateRow",
    "iso",
    "peek",
    "purge",
    "queue_rows",
    "redrive",
    "set_paused",
    "state_row",
]

CHUNK = 256  # messages held in memory at a time

_STATES = {"ready": "ready", "later": "delayed", "behind": "behind", "leased": "leased"}


class QueueRow(Struct, frozen=True, rename="camel"):
    """One lane. dead: its dead letters still in an archive; for a dead-letter topic, all it holds."""

    topic: str
    step: str
    ready: int
    delayed: int
    behind: int
    leased: int
    dead: int
    done: int
    failed: int
    oldest_ms: int | None  # age of the oldest ready message
    paused: bool


class Origin(Struct, frozen=True):
    """The lane a dead letter died in."""

    topic: str
    step: str


class MessageRow(Struct, frozen=True, rename="camel"):
    """One message at rest; `origin` on dead letters alone."""

    id: str
    topic: str
    step: str
    state: str
    priority: int
    attempts: int
    payload: object
    headers: dict[str, str]
    enqueued_at: str
    due_at: str | None
    error: str | None
    origin: Origin | UnsetType = UNSET


class StateRow(Struct, frozen=True, rename="camel"):
    key: str
    value: object
    version: int
    updated_at: str


def iso(wall_ms: int) -> str:
    """ "2026-01-01T02:00:00.000Z" of milliseconds since the epoch."""
    seconds, ms = divmod(wall_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


# ---------------------------------------------------------------------------------------- looking


def queue_rows(store: Store) -> list[QueueRow]:
    """One row per lane; an archive is its topic's row with step "".

    HTTP's own lanes stay out; so does an empty lane without a step where the topic has one with a step.
    """
    now_ms = store.clock.wall_ms()
    rows: dict[tuple[str, str], QueueRow] = {}
    for lane in store.stats():
        if lane.topic.startswith("$http/"):
            continue
        row = _archive_row(lane) if lane.step == ARCHIVE else _lane_row(lane, now_ms)
        other = rows.get((row.topic, row.step))
        rows[row.topic, row.step] = row if other is None else _merged(row, other)
    served = {topic for topic, step in rows if step}
    return [row for _, row in sorted(rows.items()) if row.step or row.topic not in served or _holds(row)]


def _holds(row: QueueRow) -> bool:
    return bool(row.ready + row.delayed + row.behind + row.leased + row.dead + row.done + row.failed)


def _lane_row(lane: LaneStats, now_ms: int) -> QueueRow:
    return QueueRow(
        topic=lane.topic,
        step=lane.step,
        ready=lane.ready,
        delayed=lane.later,
        behind=lane.behind,
        leased=lane.leased,
        dead=lane.dead,
        done=lane.done,
        failed=lane.failed,
        oldest_ms=None if lane.oldest_ms is None else max(0, now_ms - lane.oldest_ms),
        paused=lane.paused,
    )


def _archive_row(lane: LaneStats) -> QueueRow:
    return QueueRow(lane.topic, "", 0, 0, 0, 0, _waiting(lane), 0, 0, None, False)


def _merged(one: QueueRow, other: QueueRow) -> QueueRow:
    """The archive of a topic and the lane of the same topic that waits for a first subscriber."""
    ages = [age for age in (one.oldest_ms, other.oldest_ms) if age is not None]
    return QueueRow(
        topic=one.topic,
        step=one.step,
        ready=one.ready + other.ready,
        delayed=one.delayed + other.delayed,
        behind=one.behind + other.behind,
        leased=one.leased + other.leased,
        dead=one.dead + other.dead,
        done=one.done + other.done,
        failed=one.failed + other.failed,
        oldest_ms=max(ages, default=None),
        paused=one.paused or other.paused,
    )


def peek(store: Store, topic: str, *, limit: int = 100) -> list[MessageRow]:
    """Up to `limit` messages of a topic as they lie there, none for an unknown topic."""
    wall_ms, delay_ms = store.clock.wall_ms(), store.clock.delay_ms()
    return [_message_row(message, wall_ms - delay_ms) for message in store.waiting(topic, limit=limit)]


def _message_row(message: Waiting, epoch_ms: int) -> MessageRow:
    dead = message.dead if message.step == ARCHIVE else None
    return MessageRow(
        id=str(message.id),
        topic=message.topic,
        step="" if dead else message.step,
        state="dead" if dead else _STATES[message.state],
        priority=message.priority,
        attempts=dead.attempts if dead else message.attempts,
        payload=_decoded(message.payload),
        headers=message.headers,
        enqueued_at=iso(message.enqueued_ms),
        due_at=None if message.due_ms is None else iso(epoch_ms + message.due_ms),
        error=dead.error if dead else message.error,
        origin=Origin(dead.topic, dead.step) if dead else UNSET,
    )


def state_row(entry: Entry) -> StateRow:
    """A state value as it is shown."""
    return StateRow(entry.key, _decoded(entry.value), entry.version, iso(entry.updated_ms))


def _decoded(content: bytes) -> object:
    """JSON where it is JSON (all that handlers write), else the text it looks like."""
    try:
        decoded: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")
    return decoded


# ----------------------------------------------------------------------------------------- acting


async def redrive(store: Store, topic: str) -> int:
    """Send dead letters back to the lanes they died in, with a fresh count of attempts; returns how many.

    `topic`: a dead-letter topic (all it holds), or the topic they came from (wherever they lie). Id,
    headers, group and priority stay. A refusal of the lane (QueueFull) ends it; what is back stays back.
    """
    archives = [lane for lane in store.stats() if lane.step == ARCHIVE and _waiting(lane)]
    own = [lane for lane in archives if lane.topic == topic]
    return sum([await _send_back(store, archive, None if own else topic) for archive in own or archives])


async def _send_back(store: Store, archive: LaneStats, origin: str | None) -> int:
    """Redrive each dead letter that lies in the archive now (and came from `origin`); returns how many.

    By rounds, because a group keeps its order: its oldest goes first. Each letter goes once, because one that
    fails again at once is back under the same id.
    """
    sent = 0
    letters = store.waiting(archive.topic, step=ARCHIVE, limit=_waiting(archive))
    left = {each.id for each in letters if origin is None or (each.dead and each.dead.topic == origin)}
    while left:
        found = store.waiting(archive.topic, step=ARCHIVE, limit=_waiting(archive))
        newest_first = sorted((each for each in found if each.id in left), key=lambda each: -each.id)
        heads = list({each.group or each.id: each for each in newest_first}.values())
        left.difference_update(each.id for each in heads)
        landed = sum([await _commit_each(store, map(_back, part)) for part in _chunks(heads)])
        sent += landed
        if not landed:
            break
    return sent


def _chunks(messages: list[Waiting]) -> Iterator[list[Waiting]]:
    return (messages[start : start + CHUNK] for start in range(0, len(messages), CHUNK))


def _waiting(lane: LaneStats) -> int:
    return lane.ready + lane.later + lane.behind


def _back(letter: Waiting) -> Txn:
    assert letter.dead is not None, "an archive holds dead letters alone"
    return Txn(
        (
            _discard(letter),
            Enqueue(
                topic=letter.dead.topic,
                step=letter.dead.step,
                payload=letter.payload,
                priority=letter.priority,
                group=letter.group,
                headers=letter.headers,
                id=letter.id,
            ),
        )
    )


async def purge(store: Store, topic: str) -> int:
    """Remove what waits in every lane of a topic; returns how many.

    A dead-letter topic's lanes hold the dead letters: name that topic to remove them.

    What runs is left to end. At most as many go as were there at first, so that a producer that
    keeps sending does not keep this from returning.
    """
    left = sum(_waiting(lane) for lane in store.stats() if lane.topic == topic)
    removed = 0
    states: Sequence[MessageState] = ("behind", "later", "ready")  # a group's head last: it lets the next go
    for state in states:
        while left > 0 and (found := store.waiting(topic, states=(state,), limit=min(CHUNK, left))):
            gone = await _commit_each(store, (Txn((_discard(message),)) for message in found))
            removed += gone
            left -= gone
            if not gone:
                break
    return removed


def _discard(message: Waiting) -> Discard:
    return Discard(
        topic=message.topic,
        step=message.step,
        state=message.state,
        priority=message.priority,
        id=message.id,
        due_ms=message.due_ms or 0,
    )


async def _commit_each(store: Store, txns: Iterable[Txn]) -> int:
    """Commit each by itself, all at once; returns how many landed. Conflict: the message moved meanwhile."""
    landed, refused = 0, None
    for answer in await asyncio.gather(*map(store.commit, txns), return_exceptions=True):
        if not isinstance(answer, BaseException):
            landed += 1
        elif not isinstance(answer, Conflict):
            refused = answer
    if refused is not None:
        raise refused
    return landed


async def set_paused(store: Store, topic: str, paused: bool) -> list[str]:
    """Pause or resume every lane of a topic, over all instances and restarts; returns their steps."""
    lanes = store.stats()
    steps = [lane.step for lane in lanes if lane.topic == topic and lane.step != ARCHIVE]
    if not steps:
        meant = nearest(topic, {lane.topic for lane in lanes})
        hint = f'did you mean "{meant}"?' if meant else "`iii queue list` shows the known ones"
        raise InputError(f'no topic "{topic}" in this store; {hint}')
    await store.commit(Txn([Pause(topic, step, paused) for step in steps]))
    return steps
