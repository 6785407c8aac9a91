"""/api/queues/{topic}/messages and /api/messages/{id}: browse, search, one message and why it waits; send
again, enqueue.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from iii.console.asks import Ask, BadField, Missing, json_of, preview, value_of
from iii.console.runs import RunView, of_message
from iii.formats.codec import uncollected
from iii.formats.units import duration_ms, shown
from iii.handling.outbox import priority_of
from iii.model import ARCHIVE, Txn, Waiting
from iii.store import bulk
from iii.store.contract import Store
from iii.store.message_ids import SHAPE, is_message_id
from iii.store.reasons import Reason, why
from iii.store.search import (
    STATES,
    Shown,
    Wanted,
    enqueued_of,
    error_of,
    letters_of,
    locate,
    named,
    places,
    search,
    total,
)

__all__ = ["ROUTES", "MessageView", "message_view"]

BULK_LIMIT_MAX = 500
IDS_MAX = 10_000
DELAY_MS_MAX = 30 * 86_400_000


class Died(Struct, frozen=True):
    topic: str
    step: str
    error: str
    attempts: int
    at_ms: int


class MessageView(Struct, frozen=True):
    """due_ms: wall clock. size: of the payload, bytes."""

    id: str
    topic: str
    step: str
    state: Shown
    priority: int
    attempts: int
    group: str | None
    error: str | None
    enqueued_ms: int
    due_ms: int | None
    size: int
    preview: str
    trace_id: str
    dead: Died | UnsetType = UNSET


class WholeMessage(MessageView, frozen=True, kw_only=True):
    payload: Any
    headers: dict[str, str]
    runs: list[RunView]
    why: Reason


def message_view(store: Store, message: Waiting) -> MessageView:
    """As a row of a list."""
    ahead_ms = store.clock.wall_ms() - store.clock.delay_ms()
    dead = message.dead if message.step == ARCHIVE else None
    parts = message.headers.get("traceparent", "").split("-")
    return MessageView(
        id=store.message_id(message.id),
        topic=message.topic,
        step="" if dead else message.step,
        state="dead" if dead else message.state,
        priority=message.priority,
        attempts=dead.attempts if dead else message.attempts,
        group=message.group,
        error=error_of(message) or None,
        enqueued_ms=enqueued_of(message),
        due_ms=None if message.due_ms is None else ahead_ms + message.due_ms,
        size=len(message.payload),
        preview=preview(message.payload),
        trace_id=parts[1] if len(parts) == 4 else "",
        dead=Died(dead.topic, dead.step, dead.error, dead.attempts, dead.died_ms) if dead else UNSET,
    )


async def messages(ask: Ask) -> dict[str, Any]:
    store, topic = ask.means.store, ask.path["topic"]
    state, step = ask.choice("state", STATES), ask.given("step")
    wanted = Wanted(q=ask.text("q"), field=ask.text("field"), value=ask.given("value"))
    where = places(store, topic, step=step, state=state)  # type: ignore[arg-type]
    if state == "dead" and not where:
        where, from_there = letters_of(store, topic, step)
        wanted = msgspec.structs.replace(wanted, origin=from_there.origin, origin_step=from_there.origin_step)
    limit = ask.whole("limit", 50, 1, BULK_LIMIT_MAX)
    found = await search(store, where, wanted, after=ask.given("after"), limit=limit)
    return {
        "messages": [message_view(store, each) for each in found.messages],
        "next": found.next,
        "scanned": found.scanned,
        "total": total(store, where) if wanted.is_all else None,
    }


async def message(ask: Ask) -> WholeMessage:
    store = ask.means.store
    found = await _located(ask)
    near = {found.id: found}
    if found.state == "behind" and found.group is not None:
        head = store.head(found.topic, found.step, found.group)
        if head is not None and (other := await locate(store, head)) is not None:
            near[head] = other
    return WholeMessage(
        **msgspec.structs.asdict(message_view(store, found)),
        payload=value_of(found.payload),
        headers=found.headers,
        runs=await of_message(store, found.id),
        why=why(store, found, ask.means.caps, near.get),
    )


async def _located(ask: Ask) -> Waiting:
    id = ask.path["id"]
    found = await named(ask.means.store, id)
    if found is None:
        raise Missing(f"no message {id} in the store: done ones leave it, and so do expired dead letters")
    return found


class _Resend(Struct, frozen=True):
    payload: Raw | UnsetType = UNSET
    priority: str | int | None = None
    delay_ms: int = 0


async def resend(ask: Ask) -> dict[str, str]:
    given = ask.read(_Resend)
    payload = json_of(given.payload, "payload")
    if not 0 <= given.delay_ms <= DELAY_MS_MAX:
        raise BadField("delay_ms", f"expected 0 to {DELAY_MS_MAX} ms, got {given.delay_ms}")
    store = ask.means.store
    number = await bulk.resend(
        store,
        await _located(ask),
        payload,
        ask.by,
        priority=None if given.priority is None else priority_of(given.priority),
        delay_ms=given.delay_ms,
    )
    return {"id": store.message_id(number)}


class _Enqueue(Struct, frozen=True):
    topic: str
    data: Raw | UnsetType = UNSET
    priority: str | int = "normal"
    delay: str | int = 0
    group: str | None = None


async def enqueue(ask: Ask) -> dict[str, list[str]]:
    given, means = ask.read(_Enqueue), ask.means
    payload = json_of(given.data, "data") if given.data is not UNSET else b"null"
    try:
        delay_ms = duration_ms(given.delay)
    except ValueError as error:
        raise BadField("delay", str(error)) from None
    op = means.outbox.op(
        given.topic,
        uncollected(orjson.loads, payload),
        means.sampler.root_headers(),
        priority=given.priority,
        delay=delay_ms,
        group=given.group,
    )
    op = msgspec.structs.replace(op, payload=payload)  # digit for digit
    told = ask.by.did(means.store, "enqueue", topic=given.topic, bytes=len(payload))
    committed = await means.store.commit(Txn((op, told)))
    means.figures.sent(op.topic)
    return {"ids": [means.store.message_id(number) for number in committed.ids[0]]}


# ------------------------------------------------------------------------------------------------ bulk


class _Filter(Struct, frozen=True):
    q: str = ""
    field: str = ""
    value: str | None = None
    error: str | None = None
    state: Shown | None = None


class _Bulk(Struct, frozen=True):
    topic: str
    step: str | None = None
    ids: Annotated[list[str], Meta(max_length=IDS_MAX)] | None = None
    filter: _Filter = _Filter()
    dry_run: bool = False


async def redrive(ask: Ask) -> dict[str, int]:
    given = ask.read(_Bulk)
    what = _selection(ask, given, dead=True)
    if given.dry_run:
        return {"count": await what.count(ask.means.store)}
    return {"count": await bulk.redrive(ask.means.store, what, ask.by, **_told(given))}


async def discard(ask: Ask) -> dict[str, int]:
    return await _remove(ask, "discard")


async def purge(ask: Ask) -> dict[str, int]:
    return await _remove(ask, "purge")


async def _remove(ask: Ask, verb: str) -> dict[str, int]:
    given = ask.read(_Bulk)
    what = _selection(ask, given, dead=given.filter.state == "dead")
    if given.dry_run:
        return {"count": await what.count(ask.means.store)}
    return {"count": await bulk.discard(ask.means.store, what, ask.by, verb, **_told(given))}


def _selection(ask: Ask, given: _Bulk, *, dead: bool) -> bulk.Selection:
    wanted = Wanted(
        q=given.filter.q, field=given.filter.field, value=given.filter.value, error=given.filter.error
    )
    if given.ids is not None:
        if bad := next((id for id in given.ids if not is_message_id(id)), None):
            raise BadField("ids", f"expected ids of messages, like {SHAPE}; got {shown(bad)}")
        wanted = Wanted()
    what = bulk.select(ask.means.store, given.topic, step=given.step, dead=dead, wanted=wanted, ids=given.ids)
    if given.filter.state not in (None, "dead"):
        named = places(ask.means.store, given.topic, step=given.step, state=given.filter.state)
        where = [place for place in what.where if place in named]
        what = msgspec.structs.replace(what, where=where)
    return what


def _told(given: _Bulk) -> dict[str, Any]:
    """What was asked for, for the audit log."""
    told = {
        "topic": given.topic,
        "step": given.step,
        "filter": {name: value for name, value in msgspec.structs.asdict(given.filter).items() if value},
    }
    return {name: value for name, value in told.items() if value}


ROUTES = (
    ("GET", "/api/queues/{topic}/messages", messages),
    ("GET", "/api/messages/{id}", message),
    ("POST", "/api/messages/{id}/resend", resend),
    ("POST", "/api/enqueue", enqueue),
    ("POST", "/api/queues/redrive", redrive),
    ("POST", "/api/queues/discard", discard),
    ("POST", "/api/queues/purge", purge),
)
