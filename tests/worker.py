"""A worker as small as it can be: what a store delivers comes into its inbox. Made of the contract's verbs.

take_now       as many messages of some lanes as are there now
next_message   one of a lane, as soon as there is one
inbox          where the messages lie that levels set by `Store.credit` itself brought
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from deadline import DEADLINE_S

from iii.model import Lane, Message
from iii.store.contract import Store

__all__ = ["Inbox", "in_flight", "inbox", "next_message", "take_now"]

LEASES_MAX = 1 << 20


class Inbox:
    """Messages that were delivered and that nobody has taken out, in the order in which they came."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._came = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def deliver(self, messages: list[Message]) -> None:
        self._messages += messages
        self._came.set()

    def take(self, *lanes: Lane) -> list[Message]:
        """Take out the messages of these lanes; without any, of all lanes."""
        taken, left = [], []
        for one in self._messages:
            (taken if not lanes or (one.topic, one.step) in lanes else left).append(one)
        self._messages = left
        return taken

    async def all(self, count: int) -> list[Message]:
        """Take out everything, as soon as there are `count`."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self._messages) < count:
                self._came.clear()
                await self._came.wait()
        return self.take()

    async def next(self, lane: Lane) -> Message:
        """Take out the oldest message of the lane; wait for one where there is none."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                self._came.clear()
                for place, message in enumerate(self._messages):
                    if (message.topic, message.step) == lane:
                        return self._messages.pop(place)
                await self._came.wait()


_inboxes: WeakKeyDictionary[Store, Inbox] = WeakKeyDictionary()


def inbox(store: Store) -> Inbox:
    """The store's inbox: from the first call on, everything that is delivered comes into it."""
    found = _inboxes.get(store)
    if found is None:
        found = _inboxes[store] = Inbox()
        store.on_deliver(found.deliver)
    return found


def in_flight(store: Store, lane: Lane) -> int:
    """How many live leases of the lane the store's session has."""
    leased = store.waiting(lane.topic, step=lane.step, states=["leased"], limit=LEASES_MAX)
    return sum(message.session == store.session for message in leased)


async def take_now(store: Store, demand: Mapping[Lane, int]) -> list[Message]:
    """Up to so many messages of each lane: what may be granted now. Afterwards the lanes' levels are 0."""
    box = inbox(store)
    await store.credit({lane: in_flight(store, lane) + count for lane, count in demand.items()})
    await store.credit(dict.fromkeys(demand, 0))
    return box.take(*demand)


async def next_message(store: Store, lane: Lane) -> Message:
    """One message of the lane, as soon as it is granted. Afterwards the lane's level is 0."""
    box = inbox(store)
    await store.credit({lane: in_flight(store, lane) + 1})
    try:
        return await box.next(lane)
    finally:
        await store.credit({lane: 0})
