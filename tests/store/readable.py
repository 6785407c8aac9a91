"""All that can be read of a store, in a form in which two stores compare."""

from __future__ import annotations

from typing import Any

from intents import TOPICS

from iii.model import Lane, Message, Waiting
from iii.store.contract import Store


def seen(message: Message) -> tuple[Any, ...]:
    """All of a message but the token, which counts commits and grants in each store's own way."""
    return (
        message.lease[:2],
        (message.topic, message.step, message.payload, message.priority, message.attempt),
        (message.crashes, message.alone),
        (message.group, message.headers, message.enqueued_ms, message.error, message.dead),
    )


async def readable(store: Store) -> dict[str, Any]:
    def by_age(one: Waiting) -> tuple[str, str, int]:
        return one.state, one.step, one.id

    lanes = [Lane(row.topic, row.step) for row in store.stats()]
    return {
        "version": store.version(),
        "state": [(name, store.scan(name)) for name in ("ns", "ns2", "$own")],
        "namespaces": store.namespaces(),
        "stats": store.stats(),
        "waiting": {topic: sorted(store.waiting(topic, limit=1000), key=by_age) for topic in TOPICS},
        "order of grants": {
            lane: store.waiting(lane.topic, step=lane.step, states=["ready"]) for lane in lanes
        },
        "known": [store.known(*lane, key) for lane in lanes for key in ("one", "two")],
        "marks": store.marks(""),
        "history": [store.records("run"), store.records("audit")],
        "changes": await store.changes(0, 1000, 0),
        "sessions": [(row.id, sorted(map(tuple, row.lanes)), row.suspects) for row in store.sessions()],
        "unsettled": store.unsettled(),
    }
