"""What an operator sees of a store, through the waist alone: queues, messages, state values.

What is done to many of them is bulk.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import orjson
from msgspec import UNSET, Struct, UnsetType

from iii.model import ARCHIVE, Change, Entry, LaneStats, Waiting
from iii.store import kept
from iii.store.contract import Store
from iii.store.search import enqueued_of

__all__ = [
    "MessageRow",
    "Origin",
    "QueueRow",
    "StateRow",
    "iso",
    "kept_row",
    "message_rows",
    "peek",
    "queue_rows",
    "state_row",
]

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
    answers: int | UnsetType = UNSET  # of kept HTTP answers alone, whose topic is "$http": how many,
    bytes: int | UnsetType = UNSET  # what they take, may take,
    bytes_max: int | UnsetType = UNSET
    evicted: int | UnsetType = UNSET  # and how many went before their time


class Origin(Struct, frozen=True):
    """The lane a dead letter died in."""

    topic: str
    step: str


class MessageRow(Struct, frozen=True, rename="camel"):
    """One message at rest; `origin` and `died_at` on dead letters alone; `why` it waits, of one asked for."""

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
    died_at: str | UnsetType = UNSET
    why: str | UnsetType = UNSET


class StateRow(Struct, frozen=True, rename="camel"):
    key: str
    value: object
    version: int
    updated_at: str


class ChangeRow(Struct, frozen=True, rename="camel"):
    """A change of a key; `before`, `value`: null where there was, is none."""

    version: int
    type: Literal["created", "updated", "deleted"]
    before: object
    value: object
    trace_id: str


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
        if lane.topic.startswith(kept.TOPICS):
            continue
        row = _archive_row(lane) if lane.step == ARCHIVE else _lane_row(lane, now_ms)
        other = rows.get((row.topic, row.step))
        rows[row.topic, row.step] = row if other is None else _merged(row, other)
    served = {topic for topic, step in rows if step}
    return [row for _, row in sorted(rows.items()) if row.step or row.topic not in served or _holds(row)]


def kept_row(store: Store) -> QueueRow | None:
    """What is kept of HTTP answers for their Idempotency-Key; None where none ever was."""
    figures = store.figures()
    if not figures.kept_answers and not figures.kept_evicted:
        return None
    return QueueRow(
        topic=kept.TOPICS.rstrip("/"),
        step="",
        ready=0,
        delayed=0,
        behind=0,
        leased=0,
        dead=0,
        done=0,
        failed=0,
        oldest_ms=None,
        paused=False,
        answers=figures.kept_answers,
        bytes=figures.kept_bytes,
        bytes_max=figures.kept_bytes_max,
        evicted=figures.kept_evicted,
    )


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
    return message_rows(store, store.waiting(topic, limit=limit))


def message_rows(store: Store, found: Iterable[Waiting]) -> list[MessageRow]:
    """Messages as they are shown."""
    wall_ms, delay_ms = store.clock.wall_ms(), store.clock.delay_ms()
    return [_message_row(message, store, wall_ms - delay_ms) for message in found]


def _message_row(message: Waiting, store: Store, epoch_ms: int) -> MessageRow:
    dead = message.dead if message.step == ARCHIVE else None
    return MessageRow(
        id=store.message_id(message.id),
        topic=message.topic,
        step="" if dead else message.step,
        state="dead" if dead else _STATES[message.state],
        priority=message.priority,
        attempts=dead.attempts if dead else message.attempts,
        payload=_decoded(message.payload),
        headers=message.headers,
        enqueued_at=iso(enqueued_of(message)),
        due_at=None if message.due_ms is None else iso(epoch_ms + message.due_ms),
        error=dead.error if dead else message.error,
        origin=Origin(dead.topic, dead.step) if dead else UNSET,
        died_at=iso(dead.died_ms) if dead else UNSET,
    )


def state_row(entry: Entry) -> StateRow:
    """A state value as it is shown."""
    return StateRow(entry.key, _decoded(entry.value), entry.version, iso(entry.updated_ms))


def change_row(change: Change) -> ChangeRow:
    """A change as it is shown."""
    parts = change.headers.get("traceparent", "").split("-")
    return ChangeRow(
        change.version,
        "created" if change.old is None else "deleted" if change.new is None else "updated",
        None if change.old is None else _decoded(change.old),
        None if change.new is None else _decoded(change.new),
        parts[1] if len(parts) == 4 else "",
    )


def _decoded(content: bytes) -> object:
    """JSON where it is JSON (all that handlers write), else the text it looks like."""
    try:
        decoded: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")
    return decoded


def _waiting(lane: LaneStats) -> int:
    return lane.ready + lane.later + lane.behind
