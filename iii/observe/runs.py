"""Run records: what one run of a step leaves in the store's bounded history, and how to ask for them.

A run is one attempt at a message, or one request. Its record is committed with what it wrote:

    message step            with its settlement (Ack, Retry, dead letter, Release), always
    request with effects    with these effects
    other requests          they commit nothing, so theirs go together in a Txn, about a second later

Kept are all runs that failed, and the others where their trace is sampled (trace.py). What a run wrote and
enqueued is named, not copied: state keys with what was done to them, topics with sizes. Every list is
bounded; `left_out` counts what did not fit. `parent_id` is the span of the run that enqueued the message or
changed the value, so that the runs of a trace make a tree (traces.py). Knows no store's kind and no JSON API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from iii.model import Record
from iii.store.contract import Store

__all__ = [
    "OUTCOMES",
    "ChangedKey",
    "LeftOut",
    "LogEntry",
    "Run",
    "RunOutcome",
    "RunRow",
    "SentMessage",
    "decode",
    "find_run",
    "record",
    "runs",
]

RunOutcome: TypeAlias = Literal["done", "failed", "dead", "cancelled", "snoozed"]
OUTCOMES: tuple[RunOutcome, ...] = get_args(RunOutcome)

RECORD_BYTES_MAX = 32 << 10
PAGE = 1_000


class ChangedKey(Struct, frozen=True):
    """A state key that the run wrote. op: set, update or delete."""

    namespace: str
    key: str
    op: Literal["set", "update", "delete"]


class SentMessage(Struct, frozen=True, omit_defaults=True):
    """A message that the run enqueued. `bytes`: of its payload."""

    topic: str
    bytes: int
    delay_ms: int = 0


class LogEntry(Struct, frozen=True, omit_defaults=True):
    """A line the run logged. Wall clock; redacted fields are so here too."""

    at_ms: int
    level: str
    message: str
    fields: dict[str, Any] = {}


class LeftOut(Struct, frozen=True, omit_defaults=True):
    """How many did not fit into the record; `dropped`: enqueues of a failed attempt, which the retry
    sends."""

    changes: int = 0
    enqueued: int = 0
    logs: int = 0
    dropped: int = 0


class Run(Struct, frozen=True, omit_defaults=True):
    """One run of a step. Stored as JSON. Times in ms; `started_ms` on the wall clock.

    trigger: http, queue, cron or state. source: the topic, "POST /path", cron expression or namespace;
    `key`: of the state change that started it. topic, message_id: the queue its message lay in, and its id,
    the same on every attempt ("http-<span id>" for requests). wait_ms: from when it could have started
    (enqueue, or the end of a delay) until it did. status: of the response, requests only. error: one line;
    traceback: from the handler on. session: the instance it ran in.
    """

    step: str
    trigger: str
    message_id: str
    attempt: int
    started_ms: int
    duration_ms: float
    outcome: RunOutcome
    trace_id: str
    span_id: str = ""
    parent_id: str = ""
    source: str = ""
    key: str = ""
    topic: str = ""
    wait_ms: int = 0
    status: int = 0
    error: str = ""
    traceback: str = ""
    session: int = 0
    changes: tuple[ChangedKey, ...] = ()
    enqueued: tuple[SentMessage, ...] = ()
    logs: tuple[LogEntry, ...] = ()
    left_out: LeftOut = LeftOut()


class RunRow(Struct, frozen=True):
    """A record with its number in the history: newer ones are higher."""

    id: int
    run: Run


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Run)


def record(run: Run) -> Record:
    """The op that keeps it, within RECORD_BYTES_MAX: what it logged goes first, then what it wrote."""
    content = _encoder.encode(run)
    if len(content) > RECORD_BYTES_MAX:
        left = run.left_out
        left = msgspec.structs.replace(left, logs=left.logs + len(run.logs))
        run = msgspec.structs.replace(run, logs=(), left_out=left)
        content = _encoder.encode(run)
    if len(content) > RECORD_BYTES_MAX:
        left = msgspec.structs.replace(
            left, changes=left.changes + len(run.changes), enqueued=left.enqueued + len(run.enqueued)
        )
        short = {"error": run.error[:1_000], "traceback": run.traceback[-2_000:]}
        content = _encoder.encode(
            msgspec.structs.replace(run, changes=(), enqueued=(), left_out=left, **short)
        )
    return Record("run", content)


def decode(content: bytes) -> Run:
    return _decoder.decode(content)


def runs(
    store: Store,
    *,
    step: str | None = None,
    outcome: RunOutcome | None = None,
    trace_id: str | None = None,
    message_id: str | None = None,
    limit: int = 100,
    before: int | None = None,
) -> list[RunRow]:
    """The newest first, of all or those that match everything given. Next page: before=the last row's id.

    message_id: in full, or its number alone."""
    wanted = {"step": step, "outcome": outcome, "trace_id": trace_id}
    given: dict[str, tuple[str, ...]] = {
        name: (value,) for name, value in wanted.items() if value is not None
    }
    if message_id is not None:
        given["message_id"] = names_of(store, message_id)
    found: list[RunRow] = []
    for id, content in _rows(store, before, PAGE if given else limit):
        if not _may_match(content, given):
            continue
        run = _decoder.decode(content)
        if all(getattr(run, name) in values for name, values in given.items()):
            found.append(RunRow(id, run))
            if len(found) == limit:
                break
    return found


def names_of(store: Store, message_id: str) -> tuple[str, ...]:
    """What the runs of a message call it: an instance that knows no epochs records its number alone."""
    number = store.number_of(message_id)
    return (message_id,) if number is None else (store.message_id(number), str(number))


def find_run(store: Store, id: int) -> RunRow | None:
    """The run with this number, while it is kept."""
    found = store.records("run", limit=1, before=id + 1)
    return RunRow(id, _decoder.decode(found[0][1])) if found and found[0][0] == id else None


def _rows(store: Store, before: int | None, page: int) -> Iterator[tuple[int, bytes]]:
    """Every record, the newest first, read in pages."""
    while rows := store.records("run", limit=page, before=before):
        yield from rows
        before = rows[-1][0]


def _may_match(content: bytes, given: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the bytes of a record hold what is asked for at all: quicker than to decode it."""
    return all(any(_encoder.encode(value) in content for value in values) for values in given.values())
