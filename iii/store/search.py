"""Messages looked for: in which lanes and states, which of them, a bounded part at a time.

A search reads pages (Store.browse) and lets the event loop go on between them. It ends when it has enough or
has looked at SCAN_MAX rows; its cursor then says where to go on. Knows no HTTP and no terminal.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import orjson
from msgspec import Struct, structs

from iii.errors import InputError
from iii.formats.codec import uncollected
from iii.formats.units import nearest
from iii.model import ARCHIVE, LaneStats, MessageState, Waiting
from iii.store import kept
from iii.store.contract import Store

__all__ = [
    "STATES",
    "Found",
    "Place",
    "Shown",
    "Wanted",
    "enqueued_of",
    "error_of",
    "known",
    "letters_of",
    "locate",
    "messages",
    "named",
    "places",
    "search",
    "total",
]

PAGE = 128
LARGE_BYTES = 64 << 10
"""To look into a payload above takes a turn of the loop's own."""
WORD_CHARS_MAX = 1_000
"""Of what is looked for: each message would have to be compared with it."""
SCAN_MAX = 20_000
TRACE_CHARS_MIN = 8  # less is in any trace's id

Shown: TypeAlias = Literal["ready", "leased", "later", "behind", "dead"]
"""A message's state as people see it: a dead letter lies ready in an archive."""
STATES: tuple[Shown, ...] = get_args(Shown)


class Wanted(Struct, frozen=True):
    """Which messages; what is "" or None is not asked for.

    q: text anywhere in payload, error, group, trace or id, whatever its case. field, value: the payload's
    field at this dotted path has this value ("5" finds 5 and "5"); without a value: has that field. error:
    exactly that one. origin, origin_step: dead letters that died there. number: what `q` names where it is
    a message's id, for `search` to say.
    """

    q: str = ""
    field: str = ""
    value: str | None = None
    error: str | None = None
    origin: str = ""
    origin_step: str | None = None
    number: int | None = None

    @property
    def is_all(self) -> bool:
        return self == _ALL

    def within(self, store: Store) -> Wanted:
        """What it means in this store. InputError where it is longer than anybody looks for."""
        for name in ("q", "field", "value"):
            if (length := len(getattr(self, name) or "")) > WORD_CHARS_MAX:
                raise InputError(
                    f"{name}: at most {WORD_CHARS_MAX} characters can be looked for, got {length}"
                )
        return structs.replace(self, number=store.number_of(self.q)) if self.q else self

    def __call__(self, message: Waiting) -> bool:
        if self.origin and (message.dead is None or message.dead.topic != self.origin):
            return False
        if self.origin_step is not None and (message.dead is None or message.dead.step != self.origin_step):
            return False
        if self.error is not None and error_of(message) != self.error:
            return False
        if self.q and message.id != self.number and not _has_text(message, self.q.lower()):
            return False
        return not self.field or _has_field(message.payload, self.field, self.value)


_ALL = Wanted()
_INDEX = re.compile("[0-9]{1,9}")


class Place(NamedTuple):
    """A lane's messages in one state."""

    topic: str
    step: str
    state: MessageState


class Found(Struct, frozen=True):
    """`next`: the cursor to go on from, None = that is all."""

    messages: list[Waiting]
    next: str | None
    scanned: int


def error_of(message: Waiting) -> str:
    """Why it died, or why its last attempt failed."""
    return (message.dead.error if message.dead else message.error) or ""


def enqueued_of(message: Waiting) -> int:
    """When it was enqueued, wall clock; a dead letter: when the message that died was."""
    return (message.step == ARCHIVE and message.dead and message.dead.enqueued_ms) or message.enqueued_ms


def places(store: Store, topic: str, *, step: str | None = None, state: Shown | None = None) -> list[Place]:
    """Where a topic's messages may lie: its lanes (or one step's), and the archive of a dead-letter topic."""
    found: list[Place] = []
    wanted = STATES if state is None else (state,)
    for shown in wanted:
        for lane in _lanes(store, topic):
            is_archive = lane.step == ARCHIVE
            if shown == "dead" and is_archive:
                found += [Place(topic, ARCHIVE, "ready"), Place(topic, ARCHIVE, "behind")]
            elif shown != "dead" and not is_archive and step in (None, lane.step):
                found.append(Place(topic, lane.step, shown))
    return found


def archives(store: Store) -> list[Place]:
    """Where every dead letter lies."""
    lanes = [lane for lane in store.stats() if lane.step == ARCHIVE]
    states: tuple[MessageState, ...] = ("ready", "behind")
    return [Place(lane.topic, ARCHIVE, state) for lane in lanes for state in states]


def letters_of(store: Store, topic: str, step: str | None = None) -> tuple[list[Place], Wanted]:
    """The dead letters that `topic` means: those it holds, or else those that came from it."""
    own = places(store, topic, state="dead")
    if own and total(store, own):
        return own, Wanted(origin_step=step)
    return archives(store), Wanted(origin=topic, origin_step=step)


def total(store: Store, where: Iterable[Place]) -> int:
    """How many lie there now."""
    counts = {(lane.topic, lane.step): lane for lane in store.stats()}
    return sum(
        getattr(counts[place.topic, place.step], place.state)
        for place in where
        if (place.topic, place.step) in counts
    )


async def search(
    store: Store,
    where: Sequence[Place],
    wanted: Wanted = _ALL,
    *,
    after: str | None = None,
    limit: int = 50,
    scan_max: int = SCAN_MAX,
) -> Found:
    """Up to `limit` messages, from the cursor `after` on; fewer where scan_max rows were read."""
    wanted = wanted.within(store)
    at, cursor = _decoded(after, where) if after else (0, b"")
    found: list[Waiting] = []
    scanned = 0
    while at < len(where) and scanned < scan_max:
        place = where[at]
        size = min(PAGE, scan_max - scanned, limit - len(found) if wanted.is_all else PAGE)
        page = store.browse(*place, after=cursor, limit=size)
        scanned += page.looked_at
        for cursor, message in page.messages:
            if len(message.payload) > LARGE_BYTES:
                await asyncio.sleep(0)
            if wanted(message):
                found.append(message)
                if len(found) == limit:
                    return Found(found, _next(place, cursor), scanned)
        if page.next is None:
            at, cursor = at + 1, b""
        else:
            cursor = page.next
        await asyncio.sleep(0)
    return Found(found, _next(where[at], cursor) if at < len(where) else None, scanned)


async def messages(
    store: Store, where: Iterable[Place], wanted: Wanted = _ALL, *, scan_max: int | None = None
) -> AsyncIterator[list[Waiting]]:
    """Every match, page by page; the loop goes on in between. Ends where scan_max rows were read."""
    wanted = wanted.within(store)
    left = scan_max
    for place in where:
        cursor: bytes | None = b""
        while cursor is not None and (left is None or left > 0):
            page = store.browse(*place, after=cursor, limit=PAGE)
            left = None if left is None else left - page.looked_at
            fitting = []
            for _, message in page.messages:
                if len(message.payload) > LARGE_BYTES:
                    await asyncio.sleep(0)
                if wanted(message):
                    fitting.append(message)
            yield fitting
            cursor = page.next
            await asyncio.sleep(0)


async def locate(store: Store, number: int) -> Waiting | None:
    """The message with this number, wherever it lies. Among millions of delayed ones that takes a while."""
    message, after = store.find(number)
    while message is None and after is not None:
        await asyncio.sleep(0)
        message, after = store.find(number, after=after)
    return message


async def named(store: Store, message_id: str) -> Waiting | None:
    """The message that is called so, in full or by its number alone."""
    number = store.number_of(message_id)
    return None if number is None else await locate(store, number)


def _lanes(store: Store, topic: str) -> list[LaneStats]:
    return [lane for lane in store.stats() if lane.topic == topic]


def known(store: Store, topic: str, configured: Iterable[str] = ()) -> list[LaneStats]:
    """The lanes of a topic; [] where it, or the topic whose default archive it is, was not used yet.

    InputError names the one that was meant where nobody knows it."""
    lanes = store.stats()
    found = [lane for lane in lanes if lane.topic == topic]
    topics = {lane.topic for lane in lanes if not lane.topic.startswith(kept.TOPICS)}
    if found or not lanes or topic in configured or topic.removesuffix(".failed") in topics:
        return found
    meant = nearest(topic, topics)
    hint = f'did you mean "{meant}"?' if meant else "`iii queue list` shows the known ones"
    raise InputError(f'no topic "{topic}" in this store; {hint}')


# ---------------------------------------------------------------------------------------- matching


def _has_text(message: Waiting, text: str) -> bool:
    told = [error_of(message), message.group or ""]
    if len(text) >= TRACE_CHARS_MIN:
        told.append(message.headers.get("traceparent", ""))
    if any(text in each.lower() for each in told):
        return True
    payload = message.payload.lower()
    if text.isascii():
        return text.encode() in payload
    return text in message.payload.decode(errors="replace").lower()


def _has_field(payload: bytes, path: str, value: str | None) -> bool:
    return uncollected(lambda raw: _says(raw, path, value), payload)


def _says(payload: bytes, path: str, value: str | None) -> bool:
    try:
        there: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    for name in path.split("."):
        if isinstance(there, dict) and name in there:
            there = there[name]
        elif isinstance(there, list) and _INDEX.fullmatch(name) and int(name) < len(there):
            there = there[int(name)]
        else:
            return False
    return value is None or _is(there, value)


def _is(there: object, value: str) -> bool:
    if isinstance(there, str):
        return there == value
    try:
        asked: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return type(asked) is type(there) and asked == there


# ----------------------------------------------------------------------------------------- cursors


def _next(place: Place, cursor: bytes) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([*place, cursor.hex()])).decode().rstrip("=")


def _decoded(after: str, where: Sequence[Place]) -> tuple[int, bytes]:
    try:
        *place, cursor = orjson.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        return where.index(Place(*place)), bytes.fromhex(cursor)
    except (ValueError, TypeError, binascii.Error):
        raise InputError("bad cursor: `after` is what an answer to the same question has as `next`") from None
