"""Messages: claims as many as there are free slots and runs each in one. Owns the slots and the parked claim.

    store -claim-> Dispatcher (lanes x slots) -take-> worker task -> runner -> settled -> slot free -> claim

At most one claim is out; it is replaced when the free slots are twice what it asks for in some lane, decided
once per turn of the loop. For quick lanes what is left of it stands until the next one is there, which may
ask for nothing where one of them is quick no more.

A worker is a long-lived task that runs message after message; where a handler waits, as many others as there
are messages go on with the rest, in the next turn of the loop: there are never more than handlers waited at
once and messages waited for one.

An instance that is busy does not hoard: it claims nothing just after its handlers held the loop, where a peer
is idle.

A slot is free when the commit that settled its message returned. A lane with more than one slot runs ahead of
its commits: AHEAD times as many settlements as it has slots may be under way while they are in use again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from iii.core import Dispatcher
from iii.errors import IIIError, StoreClosed, StoreDamaged
from iii.model import Lane, Message
from iii.running.bindings import Binding
from iii.running.runner import Runner
from iii.running.timers import Timers
from iii.store.contract import Store

__all__ = ["QueueSource"]

CLAIM_AGAIN_MS = 200
GIVE_BACK_S = 5.0
LAG_S = 0.02  # an instance whose handlers held the loop so long leaves work to idle ones, for HELD_BACK_MS
HELD_BACK_MS = 5
QUICK_S = 0.05
AHEAD = 4
"""Times its slots: what a quick lane claims beyond them, and the settlements that any may have under way."""
TURN_S = 0.01  # handlers that do not wait run so long before the loop looks at its sockets again

log = logging.getLogger("iii.queue")


class _Slots:
    """The slots of one lane: one is taken while its handler runs, and by settlements beyond `ahead_max`.
    `ended`: handlers that ended since `since`, when it was last decided whether it `is_quick`."""

    __slots__ = (
        "ahead_max", "binding", "ended", "is_quick", "lane", "over", "prefetch_max", "running",
        "since", "taken", "unsettled",
    )  # fmt: skip

    def __init__(self, binding: Binding, settled: Callable[[_Slots], None]) -> None:
        self.binding, self.lane = binding, binding.lane
        self.over = partial(settled, self)
        self.running = self.unsettled = self.taken = self.ended = 0
        self.since = 0.0
        self.is_quick = False
        slots = binding.rules.concurrency
        self.ahead_max = AHEAD * slots if slots > 1 else 0
        # what waits here counts as in flight
        self.prefetch_max = self.ahead_max if binding.rules.max_in_flight is None else 0

    def excess(self) -> bool:
        """Whether more are taken than anything needs."""
        taken = self.taken
        return taken > self.running and taken > self.unsettled - self.ahead_max


class QueueSource:
    """`quiet` is called whenever no message runs here any more."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        timers: Timers,
        bindings: Mapping[Lane, Binding],
        quiet: Callable[[], object],
    ) -> None:
        self._store, self._runner, self._timers = store, runner, timers
        # looked up by plain tuples, which equal lanes and are quicker to make
        self._slots: dict[tuple[str, str], _Slots] = {
            lane: _Slots(binding, self._settled) for lane, binding in bindings.items()
        }
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._dispatcher: Dispatcher[Lane, Message] = Dispatcher()
        for lane, binding in bindings.items():
            self._dispatcher.add_lane(lane, binding.rules.concurrency)
        self._unsettled = 0
        self._ready: deque[tuple[_Slots, Message]] = deque()  # they have a slot and wait for a worker
        self._idle: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._unbegun: set[asyncio.Task[None]] = set()
        self._roused = 0  # workers that will look at `_ready`
        self._claim: asyncio.Future[list[Message]] | None = None
        self._claims: set[asyncio.Future[list[Message]]] = set()  # and those it replaced
        self._asked: dict[Lane, int] = {}
        self._quick: list[_Slots] = []
        self._standing: set[Lane] = set()  # lanes that the newest claim stands for
        self._looking = self._lags = self._held_back = False
        self._stopping = True
        self._drained = asyncio.Event()

    @property
    def running(self) -> int:
        """Messages that run here, and those that wait for a slot."""
        dispatcher = self._dispatcher
        return max(self._unsettled, dispatcher.running_total) + dispatcher.queued_total

    def start(self) -> None:
        self._stopping = False
        self._look()

    async def drain(self, timeout_ms: int) -> None:
        """Claim nothing more, let handlers finish for `timeout_ms`, then give back what still runs."""
        self._stopping = True
        for claim in self._claims:
            claim.cancel()
        with contextlib.suppress(IIIError):  # a store that is closed grants nothing either
            self._store.ask({}).add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._look_if_drained()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                await self._drained.wait()
        if self.running:
            log.warning("%d handlers did not finish in time: their messages are given back", self.running)
        left = self._runner.drain() | self._workers
        for worker in self._workers:
            worker.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=GIVE_BACK_S)
            if stuck:
                log.error("%d handlers ignore their cancellation", len(stuck))

    # ------------------------------------------------------------------------------------- claiming

    def _look(self) -> None:
        """Claim for the free slots, once what this turn of the loop frees is free."""
        if not self._looking and not self._stopping:
            self._looking = True
            self._loop.call_soon(self._ask)

    def _ask(self) -> None:
        self._looking = False
        if self._stopping:
            return
        if self._lags and self._hold_back():
            return
        demand = self._dispatcher.demand()
        asked = self._asked
        if self._claim is not None and all(asked.get(lane, 0) * 2 > free for lane, free in demand.items()):
            return
        quick = [slots.lane for slots in self._quick]
        if not demand and self._standing <= set(quick):
            return
        try:
            claim = self._store.ask(demand, quick if demand else ())
        except IIIError as error:
            self._claim = None
            self._ask_again(error)
            return
        self._claim, self._asked, self._standing = claim, demand, set(quick) if demand else set()
        self._claims.add(claim)
        claim.add_done_callback(self._answered)

    def _look_who_is_quick(self) -> None:
        """A lane that used all of its slots anew within QUICK_S asks for more than it has slots: else that
        would be all that a commit brings it. Decided anew when it has, or when that time is over."""
        now = time.perf_counter()
        for slots in self._slots.values():
            used_anew, is_late = slots.ended >= slots.binding.rules.concurrency, now - slots.since > QUICK_S
            if not (used_anew or is_late):
                continue
            is_quick = used_anew and not is_late and slots.prefetch_max > 0
            slots.ended, slots.since = 0, now
            if is_quick is not slots.is_quick:
                slots.is_quick = is_quick
                self._dispatcher.set_ahead(slots.lane, slots.prefetch_max if is_quick else 0)
                self._quick = [each for each in self._slots.values() if each.is_quick]

    def _hold_back(self) -> bool:
        """Whether idle peers go first; called once, it is so for HELD_BACK_MS."""
        if not self._held_back:
            if not self._store.has_idle_peer():
                self._lags = False
                return False
            self._held_back = True
            self._timers.after(HELD_BACK_MS, self._go_on)
        return True

    def _go_on(self) -> None:
        self._held_back = self._lags = False
        self._look()

    def _ask_again(self, error: IIIError) -> None:
        """After a while, unless the store is closed."""
        if not isinstance(error, StoreClosed | StoreDamaged):
            log.warning("cannot claim, trying again: %s", error)
            self._timers.after(CLAIM_AGAIN_MS, self._look)

    def _answered(self, claim: asyncio.Future[list[Message]]) -> None:
        """A replaced claim returns nothing, and the one that replaced it goes on."""
        self._claims.discard(claim)
        current = self._claim is claim
        if current:
            self._claim, self._asked = None, {}
        if claim.cancelled():
            return
        error = claim.exception()
        if error is None:
            self._look_who_is_quick()
            self._accept(claim.result())
        elif current:
            self._ask_again(cast(IIIError, error))
            return
        if self._claim is None:
            self._look()

    def _accept(self, messages: list[Message]) -> None:
        push, slots = self._dispatcher.push, self._slots
        for message in messages:
            push(slots[message.topic, message.step].lane, message, message.priority)
        self._take(len(messages))

    def _take(self, count: int) -> None:
        """Give slots to what waits for one, as far as there are any."""
        taken = self._dispatcher.take(count)
        for lane, message, _ in taken:
            slots = self._slots[lane]
            slots.taken += 1
            slots.running += 1
            slots.unsettled += 1
            self._ready.append((slots, message))
        self._unsettled += len(taken)
        self._rouse()

    # ------------------------------------------------------------------------------------- running

    def _rouse(self, count: int = 1) -> None:
        """See that up to `count` workers go on with what waits for one, beside those that will anyway."""
        for _ in range(min(count, len(self._ready) - self._roused)):
            self._roused += 1
            idle = self._idle_worker()
            if idle is not None:
                idle.set_result(None)
                continue
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            self._unbegun.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        """One that a handler cancelled before its first step never began: what it was to go on with waits."""
        self._workers.discard(worker)
        if worker in self._unbegun:
            self._unbegun.discard(worker)
            self._roused -= 1
            if not self._stopping:
                self._rouse()

    def _idle_worker(self) -> asyncio.Future[None] | None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                return idle
        return None

    async def _work(self) -> None:
        """A worker: one message after the other, until it is cancelled."""
        task = asyncio.current_task()
        assert task is not None
        clock = time.perf_counter
        began = clock()
        self._unbegun.discard(task)
        self._roused -= 1
        while True:
            try:
                while self._ready and clock() - began < TURN_S and not task.cancelling():
                    slots, message = self._ready.popleft()
                    rest = self._runner.start(message, slots.binding, slots.over)
                    if rest is not None:
                        # The others will wait too: one after the other, each would cost a turn of the loop.
                        self._rouse(len(self._ready))
                        try:
                            await rest
                        finally:
                            self._handled(slots)
                        began = clock()
                    else:
                        self._handled(slots)
                self._lags |= clock() - began > LAG_S
                if self._stopping and task.cancelling():  # its handler swallowed the cancellation
                    self._rouse()
                    return
                await self._turn()
            except asyncio.CancelledError:
                if not self._runner.forget_cancellation(task):
                    raise
            began = clock()

    async def _turn(self) -> None:
        """Wait for work, or let the loop have its turn."""
        if self._ready:
            await asyncio.sleep(0)
        else:
            idle: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(idle)
            try:
                await idle
            finally:
                self._roused -= not idle.cancelled()

    def _handled(self, slots: _Slots) -> None:
        slots.running -= 1
        slots.ended += 1
        if slots.excess():
            self._free(slots)

    def _settled(self, slots: _Slots) -> None:
        slots.unsettled -= 1
        self._unsettled -= 1
        if slots.excess():
            self._free(slots)
        if not self._unsettled:
            self._quiet()
            self._look_if_drained()

    def _free(self, slots: _Slots) -> None:
        slots.taken -= 1
        self._dispatcher.done(slots.lane)
        if self._dispatcher.queued_total:
            self._take(1)
        self._look()
        if self._stopping:
            self._look_if_drained()

    def _look_if_drained(self) -> None:
        if self._stopping and self.running == 0:
            self._drained.set()
