"""Messages: claims as many as there are free slots and runs each in one. Owns the slots and the parked claim.

    store -claim-> Dispatcher (lanes x slots) -take-> worker task -> runner -> settled -> slot free -> claim

At most one claim is out; it is replaced when the free slots are twice what it asks for in some lane, decided
once per turn of the loop. A worker is a long-lived task: there are never more than messages ran at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import cast

from iii.core import Dispatcher
from iii.errors import IIIError, StoreClosed
from iii.model import Lane, Message
from iii.running.bindings import Binding
from iii.running.runner import Runner
from iii.running.timers import Timers
from iii.store.contract import Store

__all__ = ["QueueSource"]

CLAIM_AGAIN_MS = 200
GIVE_BACK_S = 5.0

log = logging.getLogger("iii.queue")


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
        self._bindings = cast("Mapping[tuple[str, str], Binding]", bindings)
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._dispatcher: Dispatcher[Lane, Message] = Dispatcher()
        for lane, binding in bindings.items():
            self._dispatcher.add_lane(lane, binding.rules.concurrency)
        self._idle: list[asyncio.Future[Message]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._claim: asyncio.Task[None] | None = None
        self._claims: set[asyncio.Task[None]] = set()  # it, and those it replaced until they return
        self._asked: dict[Lane, int] = {}
        self._looking = False
        self._stopping = True
        self._drained = asyncio.Event()

    @property
    def running(self) -> int:
        """Messages that run here, and those that wait for a slot."""
        return self._dispatcher.running_total + self._dispatcher.queued_total

    def start(self) -> None:
        self._stopping = False
        self._look()

    async def drain(self, timeout_ms: int) -> None:
        """Claim nothing more, let handlers finish for `timeout_ms`, then give back what still runs."""
        self._stopping = True
        for claim in self._claims:
            claim.cancel()
        self._look_if_drained()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                await self._drained.wait()
        if self.running:
            log.warning("%d handlers did not finish in time: their messages are given back", self.running)
        self._runner.drain()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            _, stuck = await asyncio.wait(self._workers, timeout=GIVE_BACK_S)
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
        demand = self._dispatcher.demand()
        asked = self._asked
        if self._claim is not None and all(asked.get(lane, 0) * 2 > free for lane, free in demand.items()):
            return
        if demand:
            self._asked = demand
            self._claim = self._loop.create_task(self._pull(demand))
            self._claims.add(self._claim)
            self._claim.add_done_callback(self._claims.discard)

    async def _pull(self, demand: dict[Lane, int]) -> None:
        """One claim. A replaced one returns nothing, and the one that replaced it goes on."""
        try:
            messages = await self._store.claim(demand, None)
        except StoreClosed:
            return
        except IIIError as error:
            log.warning("cannot claim, trying again: %s", error)
            await self._timers.sleep(CLAIM_AGAIN_MS)
            messages = []
        if self._claim is asyncio.current_task():
            self._claim, self._asked = None, {}
        self._accept(messages)
        if self._claim is None:
            self._look()

    def _accept(self, messages: list[Message]) -> None:
        dispatcher, bindings = self._dispatcher, self._bindings
        for message in messages:
            dispatcher.push(bindings[message.topic, message.step].lane, message, message.priority)
        for _, message, _ in dispatcher.take(len(messages)):
            if self._idle:
                self._idle.pop().set_result(message)
            else:
                worker = self._loop.create_task(self._work(message))
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)

    # ------------------------------------------------------------------------------------- running

    async def _work(self, message: Message) -> None:
        """A worker: one message after the other, until it is cancelled."""
        dispatcher = self._dispatcher
        while True:
            binding = self._bindings[message.topic, message.step]
            try:
                await self._runner.run(message, binding)
            except Exception:
                log.exception("message %d could not be settled: given back", message.lease.id)
                await self._runner.give_back(message, binding.rules.retry_delay_max_ms)
            finally:
                dispatcher.done(binding.lane)
                self._freed()
            if taken := dispatcher.take(1):
                message = taken[0][1]
                continue
            waiting: asyncio.Future[Message] = self._loop.create_future()
            self._idle.append(waiting)
            message = await waiting

    def _freed(self) -> None:
        if self._dispatcher.running_total == 0:
            self._quiet()
            self._look_if_drained()
        self._look()

    def _look_if_drained(self) -> None:
        if self._stopping and self.running == 0:
            self._drained.set()
