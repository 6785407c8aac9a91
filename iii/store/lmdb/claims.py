"""The claim of this process: at most one is out. Handed to the writer, answered when that grants something.

Owns what becomes of messages that are granted to a claim nobody waits for any more: its successor gets them,
or they go back as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from iii.clock import Clock
from iii.errors import StoreDamaged
from iii.model import Lane, Lease, Message
from iii.store.lmdb.group import Claim
from iii.store.lmdb.waiting import Deadline

__all__ = ["Claims"]


class Claims:
    """Used on the event loop. `submit(claim)` hands it to the writer, `give_back(leases)` says that nobody
    saw these messages."""

    def __init__(
        self, clock: Clock, submit: Callable[[Claim], object], give_back: Callable[[list[Lease]], object]
    ) -> None:
        self._clock, self._submit, self._give_back = clock, submit, give_back
        self._loop = asyncio.get_running_loop()
        self._parked: Claim | None = None
        self._deadline: Deadline | None = None

    async def wait(self, demand: Mapping[Lane, int], wait_ms: int | None) -> list[Message]:
        """See Store.claim."""
        claim = self._claim(demand, once=wait_ms == 0)
        if wait_ms:
            self._deadline = Deadline(self._clock, wait_ms, claim.drop)
        future = claim.future
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back([message.lease for message in future.result()])
            raise

    def ask(self, demand: Mapping[Lane, int]) -> asyncio.Future[list[Message]]:
        """See Store.ask."""
        return self._claim(demand, once=False).future

    def answer(self, claim: Claim, messages: list[Message]) -> None:
        """The writer granted these. A claim that was replaced meanwhile leaves them to its successor."""
        successor = self._parked
        if claim.future.done() and successor is not None and successor.wants(messages):
            claim = successor
            claim.dropped = True
        if not claim.future.done():
            claim.future.set_result(messages)
        elif messages:
            self._give_back([message.lease for message in messages])

    def fail(self, error: StoreDamaged) -> None:
        if self._parked is not None and not self._parked.future.done():
            self._parked.future.set_exception(error)

    def drop(self) -> None:
        """Nobody waits any more."""
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.drop()
            self._cancel_deadline()

    def check_deadline(self) -> None:
        """The clock was turned."""
        if self._deadline is not None:
            self._deadline.check()

    def _claim(self, demand: Mapping[Lane, int], *, once: bool) -> Claim:
        self.drop()
        claim = Claim(dict(demand), self._loop.create_future(), once=once)
        self._submit(claim)
        if not once:
            self._parked = claim
        claim.future.add_done_callback(partial(self._ended, claim))
        return claim

    def _ended(self, claim: Claim, future: asyncio.Future[list[Message]]) -> None:
        if future.cancelled():
            claim.dropped = True
        if self._parked is claim:
            self._parked = None
            self._cancel_deadline()

    def _cancel_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
