"""The claim of this process: at most one is out. Handed to the writer, answered when that grants something.

A claim that stands (parked.py) is granted more after its answer: the next one gets that, and asks the writer
for so much less. Owns what becomes of messages that nobody waits for any more: they go back as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
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
        self._parked: Claim | None = None  # while somebody waits for it
        self._deadline: Deadline | None = None
        self._stands = False  # the newest claim may be granted more after its answer
        self._early: list[Message] = []  # granted to it since
        self._seen = 0  # the newest commit whose grants have come here

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

    def ask(self, demand: Mapping[Lane, int], standing: Collection[Lane]) -> asyncio.Future[list[Message]]:
        """See Store.ask."""
        return self._claim(demand, standing=standing).future

    def answer(self, claim: Claim, messages: list[Message]) -> None:
        """The writer granted these. A claim that was replaced or answered leaves them to its successor."""
        if messages:
            self._seen = messages[0].lease.token
        if not claim.future.done():
            claim.future.set_result(messages)
            return
        waiting = self._parked
        if waiting is not None and not waiting.future.done():
            # The writer has counted these against what it demands: what it can take, it must be given.
            wanted, _ = self._divide(messages, waiting.demand)
            if wanted:
                waiting.dropped = not waiting.standing
                waiting.future.set_result(wanted)
        elif self._stands and not claim.future.cancelled():
            self._early += messages
        elif messages:
            self._give_back([message.lease for message in messages])

    def fail(self, error: StoreDamaged) -> None:
        if self._parked is not None and not self._parked.future.done():
            self._parked.future.set_exception(error)

    def end(self) -> None:
        """The session ends, and its leases with it."""
        self._replace()
        self._stands, self._early = False, []

    def buried(self) -> None:
        """Peers took the session's leases back: who asks next is not to run what was granted early."""
        self._early = []

    def check_deadline(self) -> None:
        """The clock was turned."""
        if self._deadline is not None:
            self._deadline.check()

    def _claim(
        self, demand: Mapping[Lane, int], *, once: bool = False, standing: Collection[Lane] = ()
    ) -> Claim:
        self._replace()
        granted, self._early = self._early, []
        early, left = self._divide(granted, demand)
        future = self._loop.create_future()
        claim = Claim(left, future, once=once, standing=standing, seen=self._seen)
        self._stands = bool(standing)
        if early or not demand:
            claim.dropped = not standing
            future.set_result(early)
        elif not once:
            self._parked = claim
        self._submit(claim)
        future.add_done_callback(partial(self._ended, claim))
        return claim

    def _replace(self) -> None:
        """Nobody waits for the claim that is out any more."""
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.drop()
            self._cancel_deadline()

    def _divide(
        self, granted: list[Message], demand: Mapping[Lane, int]
    ) -> tuple[list[Message], dict[Lane, int]]:
        """Of what was granted as much as is demanded, and what is left of the demand; the rest goes back."""
        left = dict(demand)
        wanted: list[Message] = []
        unwanted: list[Lease] = []
        for message in granted:
            lane = Lane(message.topic, message.step)
            if left.get(lane, 0) > 0:
                left[lane] -= 1
                wanted.append(message)
            else:
                unwanted.append(message.lease)
        if unwanted:
            self._give_back(unwanted)
        return wanted, left

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
