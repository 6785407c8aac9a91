"""What is done to many messages at once: redrive, discard, purge, pause; each with its row in the audit log.

The row lies in the Txn that does it. A message that moves meanwhile (an engine works on the same store) is
left to whoever moved it: a Txn that is refused for it is split until the others have landed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from msgspec import Struct, structs

from iii.errors import Conflict, InputError, QueueFull, TooLarge
from iii.model import ARCHIVE, Discard, Enqueue, Op, Pause, Record, Txn, Waiting
from iii.store.audit import Actor
from iii.store.contract import Store
from iii.store.search import Place, Wanted, known, letters_of, messages, places, total
from iii.trace import anew

__all__ = ["Selection", "discard", "redrive", "resend", "select", "set_paused"]

CHUNK = 200
CHUNK_BYTES_MAX = 1 << 20

ENGINE = Actor()


class Selection(Struct, frozen=True):
    """What an act is about: the messages with these numbers, or all that lie in these places and match."""

    where: list[Place]
    wanted: Wanted = Wanted()
    numbers: tuple[int, ...] | None = None

    async def pages(self, store: Store) -> AsyncIterator[list[Waiting]]:
        if self.numbers is None:
            async for page in messages(store, self.where, self.wanted):
                yield page
            return
        left = set(self.numbers)
        for number in self.numbers:
            await asyncio.sleep(0)  # a look-up takes milliseconds where there are a thousand lanes
            message, _ = store.find(number, limit=0)
            if message is not None and number in left:
                left.discard(number)
                if Place(message.topic, message.step, message.state) in self.where:
                    yield [message]
        slow = [place for place in self.where if place.state in ("later", "behind")]
        if left:
            async for page in messages(store, slow):
                yield [message for message in page if message.id in left]

    async def count(self, store: Store) -> int:
        if self.numbers is None and self.wanted.is_all:
            return total(store, self.where)
        return sum([len(page) async for page in self.pages(store)])


class _Part(Struct, frozen=True):
    """One message's share of a Txn. Removals come first: those behind their group's head before the heads."""

    removed: Discard
    sent: Enqueue | None
    size: int  # of what it writes


# ------------------------------------------------------------------------------------ what it is about


def select(
    store: Store,
    topic: str,
    *,
    step: str | None = None,
    dead: bool = False,
    wanted: Wanted | None = None,
    ids: Iterable[str] | None = None,
) -> Selection:
    """dead: the letters that `topic` holds or that came from it, `step` being where they died. Else what
    waits in the lanes of `topic` (in a dead-letter topic: its letters). ids: of messages, in either form."""
    numbers = None if ids is None else tuple(numbers_of(store, ids))
    where, only = letters_of(store, topic, step) if dead else _waiting_in(store, topic, step)
    wanted = wanted or Wanted()
    return Selection(where, _both(wanted, only), numbers)


def numbers_of(store: Store, ids: Iterable[str]) -> list[int]:
    """Those that can be of this store."""
    return [number for id in ids if (number := store.number_of(id)) is not None]


def _waiting_in(store: Store, topic: str, step: str | None) -> tuple[list[Place], Wanted]:
    """What is behind comes first, so that no head lets the next one go meanwhile."""
    steps = {lane.step for lane in store.stats() if lane.topic == topic}
    if step is not None and step not in steps and ARCHIVE in steps:  # the step that its letters died in
        return places(store, topic, state="dead"), Wanted(origin_step=step)
    found = [place for place in places(store, topic, step=step) if place.state != "leased"]
    if step is not None:
        found = [place for place in found if place.step == step]
    order = ("behind", "later", "ready")
    return sorted(found, key=lambda place: order.index(place.state)), Wanted()


def _both(one: Wanted, other: Wanted) -> Wanted:
    return Wanted(one.q, one.field, one.value, one.error, other.origin, other.origin_step)


# ------------------------------------------------------------------------------------------------ acts


async def redrive(store: Store, what: Selection, by: Actor = ENGINE, /, **told: object) -> int:
    """Send dead letters back to the lanes they died in, with a fresh count of attempts; returns how many.

    Id, headers, group and priority stay, the counts of its chain begin anew; older ones go first. Each goes
    once, although it may fail again at once. A refusal of the lane (QueueFull) ends it; what is back stays
    back.
    """

    async def parts() -> AsyncIterator[_Part]:
        grouped: list[tuple[int, str, Waiting]] = []
        async for page in what.pages(store):
            for letter in page:
                if letter.step != ARCHIVE or letter.dead is None:
                    continue
                if letter.group is None:
                    yield _back(letter)
                else:
                    grouped.append((letter.id, letter.group, letter))
        for id, group, letter in sorted(grouped, key=lambda each: each[0]):
            heads = store.head(letter.topic, ARCHIVE, group) == id  # it may have come to, since it was seen
            yield _back(structs.replace(letter, state="ready" if heads else "behind"))

    told = _named(store, what, told)
    return await _act(store, parts(), lambda count: by.did(store, "redrive", **told, count=count))


async def discard(
    store: Store, what: Selection, by: Actor = ENGINE, /, verb: str = "discard", **told: object
) -> int:
    """Remove messages that wait; returns how many. What runs is left to end.

    At most as many go as were there at first, so that a producer that keeps sending does not keep this from
    returning.
    """
    left = total(store, what.where)
    if not left:
        return 0

    async def parts() -> AsyncIterator[_Part]:
        async for page in what.pages(store):
            for message in page:
                if message.state != "leased":
                    yield _Part(_discard(message), None, 0)

    told = _named(store, what, told)
    return await _act(store, parts(), lambda count: by.did(store, verb, **told, count=count), left)


async def resend(
    store: Store, message: Waiting, payload: bytes, by: Actor, *, priority: int | None, delay_ms: int
) -> int:
    """Put a message with this payload in the place of one that waits or died; the new one's number.

    It goes to the step that the old one was for, in its trace and group. Conflict: the old one has moved.
    """
    id = store.message_id(message.id)
    if message.state == "leased":
        raise Conflict(f"message {id} is running; what it becomes is its step's to say")
    lane = message.dead if message.step == ARCHIVE and message.dead else message
    rank = message.priority if priority is None else priority
    again = Enqueue(
        topic=lane.topic,
        step=lane.step or None,
        payload=payload,
        priority=rank,
        delay_ms=delay_ms,
        group=message.group,
        headers=anew(message.headers),
    )
    told = by.did(store, "resend", topic=lane.topic, step=lane.step, id=id, bytes=len(payload))
    committed = await store.commit(Txn((_discard(message), again, told)))
    return committed.ids[-1][0]


async def set_paused(
    store: Store, topic: str, paused: bool, by: Actor = ENGINE, *, step: str | None = None
) -> list[str]:
    """Pause or resume the lanes of a topic (or one), over all instances and restarts; returns their steps."""
    steps = [lane.step for lane in known(store, topic) if lane.step != ARCHIVE]
    if not steps:
        raise InputError(
            f"{topic} is no queue that runs: there is nothing to {'pause' if paused else 'resume'}"
        )
    if step is not None:
        if step not in steps:
            raise InputError(
                f'no step "{step}" takes {topic}; those that do: {", ".join(filter(None, steps))}'
            )
        steps = [step]
    verb = "pause" if paused else "resume"
    ops: list[Op] = [Pause(topic, each, paused) for each in steps]
    await store.commit(Txn([*ops, by.did(store, verb, topic=topic, steps=steps)]))
    return steps


def _named(store: Store, what: Selection, told: dict[str, object]) -> dict[str, object]:
    """And which messages, where they were named."""
    if what.numbers is None:
        return told
    return {**told, "ids": [store.message_id(number) for number in what.numbers]}


async def _act(
    store: Store, parts: AsyncIterator[_Part], told: Callable[[int], Record], most: int | None = None
) -> int:
    """Commit the parts, CHUNK by CHUNK; how many landed."""
    landed, chunk, size = 0, list[_Part](), 0
    async for part in parts:
        chunk.append(part)
        size += part.size
        if (
            len(chunk) == CHUNK
            or size > CHUNK_BYTES_MAX
            or (most is not None and landed + len(chunk) >= most)
        ):
            landed += await _land(store, chunk, told)
            chunk, size = [], 0
            if most is not None and landed >= most:
                break
    return landed + (await _land(store, chunk, told) if chunk else 0)


async def _land(store: Store, parts: Sequence[_Part], told: Callable[[int], Record]) -> int:
    """All in one Txn, or those of them that have not moved."""
    removed = sorted((part.removed for part in parts), key=lambda op: op.state != "behind")
    sent = [part.sent for part in parts if part.sent is not None]
    try:
        await store.commit(Txn([*removed, *sent, told(len(parts))]))
    except (Conflict, QueueFull, TooLarge) as refusal:
        now_ms = store.clock.delay_ms()
        left = [part for part in parts if part.removed.state != "later" or part.removed.due_ms > now_ms]
        if len(parts) == len(left) == 1:
            if isinstance(refusal, Conflict):
                return 0
            raise
        halves = left[: len(left) // 2], left[len(left) // 2 :]
        if all(part.removed.state == "later" for part in left):
            halves = halves[::-1]  # the first come due next: the others are not to wait for them
        return sum([await _land(store, half, told) for half in halves if half])
    return len(parts)


def _back(letter: Waiting) -> _Part:
    assert letter.dead is not None, "an archive holds dead letters alone"
    sent = Enqueue(
        topic=letter.dead.topic,
        step=letter.dead.step,
        payload=letter.payload,
        priority=letter.priority,
        group=letter.group,
        headers=anew(letter.headers),
        id=letter.id,
    )
    return _Part(_discard(letter), sent, len(letter.payload))


def _discard(message: Waiting) -> Discard:
    return Discard(
        topic=message.topic,
        step=message.step,
        state=message.state,
        priority=message.priority,
        id=message.id,
        due_ms=message.due_ms or 0,
    )
