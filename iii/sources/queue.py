"""Messages: the store grants as many as there is credit for, and each runs in a slot. Owns slots and levels.

    store -deliver-> Dispatcher (lanes x slots) -take-> worker task -> runner -> settled

At most a lane's slots of its handlers run at once. Its level, how many of its messages the store may lease to
this instance, does not follow single settlements; it has two values:

    slots                the lane's concurrency: a message counts until the commit that settles it returned
    QUICK_TIMES slots    while the lane is quick: it used all of its slots anew within QUICK_MS (or within
                         QUICK_COMMITS commits, on a slow disk). What runs next is here when a handler ends

Less what runs on without a lease (the thread of a plain `def` that timed out); 0 while this instance holds
back, because its handlers held the loop and a peer is idle.

A worker is a long-lived task that runs message after message; where a handler waits, as many others as there
are messages go on with the rest, in the next turn of the loop: there are never more than handlers waited at
once and messages waited for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from iii.core import Dispatcher
from iii.errors import IIIError
from iii.model import Lane, Message, Return, Txn
from iii.running.bindings import Binding
from iii.running.runner import Runner
from iii.running.timers import Timers
from iii.store.contract import Store

__all__ = ["QueueSource"]

GIVE_BACK_S = 5.0
TURN_S = 0.01  # handlers that do not wait run so long before the loop looks at its sockets again
LAG_S = TURN_S  # an instance whose handlers held the loop so long leaves work to idle ones, for HELD_BACK_MS
HELD_BACK_MS = 5
QUICK_MS, QUICK_COMMITS, QUICK_TIMES = 50, 10, 5
COMMITS_LOOK_MS = 1_000  # how often it is looked how long a commit takes
WAITING_BYTES_MAX = 32 << 20  # of payloads that wait for a slot: beyond it no lane is quick
RETURNS_MAX = 1_000  # in one Txn

log = logging.getLogger("iii.queue")


class _Lane:
    """One lane here, and the Slot of each of its messages. `ended`, `bytes`: handlers since `since_ms`, when
    it was decided last whether it `is_quick`, and their payloads. `detached`: slots in which a thread runs
    on without a lease."""

    __slots__ = (
        "binding", "bytes", "detached", "ended", "is_quick", "lane", "over", "quick_level", "since_ms",
        "slots", "source",
    )  # fmt: skip

    def __init__(self, source: QueueSource, binding: Binding) -> None:
        self.source, self.binding, self.lane = source, binding, binding.lane
        self.slots = binding.rules.concurrency
        capped = binding.rules.max_in_flight is not None  # what waits here is in flight too
        self.quick_level = self.slots if capped or self.slots == 1 else QUICK_TIMES * self.slots
        self.ended = self.bytes = self.since_ms = self.detached = 0
        self.is_quick = False
        self.over = source.settled

    @property
    def level(self) -> int:
        return (self.quick_level if self.is_quick else self.slots) - self.detached

    def detach(self) -> None:
        self.detached += 1
        self.source.tell([self])

    def attach(self) -> None:
        self.detached -= 1
        self.source.tell([self])


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
        self._lanes: dict[tuple[str, str], _Lane] = {
            lane: _Lane(self, binding) for lane, binding in bindings.items()
        }
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._dispatcher: Dispatcher[Lane, Message] = Dispatcher()
        for lane, binding in bindings.items():
            self._dispatcher.add_lane(lane, binding.rules.concurrency)
        self.delivered = 0  # messages, so far
        self.on_delivery: Callable[[], object] | None = None
        self._here = 0  # messages delivered, and not settled, returned or lost
        self._waiting_bytes = 0  # payloads of those that wait for a slot
        self._ready: deque[tuple[_Lane, Message]] = deque()  # they have a slot and wait for a worker
        self._idle: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._unbegun: set[asyncio.Task[None]] = set()
        self._roused = 0  # workers that will look at `_ready`
        self._quick: set[_Lane] = set()
        self._watches = False  # a timer looks who is slow
        self._quick_ms, self._commits_looked_ms = QUICK_MS, 0
        self._held_back = False
        self._stopping = True
        self._drained = asyncio.Event()

    @property
    def running(self) -> int:
        """Messages that run here or wait for a slot, and threads that run on."""
        return max(self._here, self._dispatcher.running_total)

    def start(self) -> None:
        self._stopping = False
        self._store.on_deliver(self._deliver)
        self.tell(self._lanes.values())

    async def drain(self, timeout_ms: int) -> None:
        """Be granted nothing more, return what has not begun, let handlers finish for `timeout_ms`, then give
        back what still runs."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                with contextlib.suppress(IIIError):  # a store that is closed grants nothing either
                    await self._store.credit({lane.lane: 0 for lane in self._lanes.values()})
                await self._return_unbegun()
                self._look_if_drained()
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

    # -------------------------------------------------------------------------------------- levels

    def tell(self, lanes: Iterable[_Lane]) -> None:
        """Tell the store the levels of these lanes."""
        if self._stopping:
            return
        levels = {lane.lane: 0 if self._held_back else lane.level for lane in lanes}
        with contextlib.suppress(IIIError):  # a store that is closed grants nothing either
            self._store.credit(levels)

    def _used_anew(self, lane: _Lane) -> None:
        """As many handlers of the lane have ended as it has slots."""
        now_ms = self._store.clock.delay_ms()
        took_ms, extra = now_ms - lane.since_ms, lane.quick_level - lane.slots
        extra_bytes = extra * lane.bytes // lane.ended
        lane.ended, lane.bytes, lane.since_ms = 0, 0, now_ms
        fits = self._waiting_bytes <= WAITING_BYTES_MAX and extra_bytes <= WAITING_BYTES_MAX
        self._set_quick(lane, extra > 0 and fits and took_ms <= self._quick_within_ms(took_ms, now_ms))

    def _quick_within_ms(self, took_ms: int, now_ms: int) -> int:
        """QUICK_MS, or what QUICK_COMMITS commits take, where that matters."""
        if took_ms > QUICK_MS and now_ms - self._commits_looked_ms > COMMITS_LOOK_MS:
            self._commits_looked_ms = now_ms
            with contextlib.suppress(IIIError):
                figures = self._store.figures()
                commit_ms = 1000 * figures.commit_s / max(1, figures.commits)
                self._quick_ms = max(QUICK_MS, round(QUICK_COMMITS * commit_ms))
        return self._quick_ms

    def _set_quick(self, lane: _Lane, is_quick: bool) -> None:
        if is_quick is lane.is_quick:
            return
        lane.is_quick = is_quick
        self.tell([lane])
        if not is_quick:
            self._quick.discard(lane)
            return
        self._quick.add(lane)
        self._watch()

    def _watch(self) -> None:
        if self._quick and not self._watches and not self._stopping:
            self._watches = True
            self._timers.after(self._quick_ms, self._look_who_is_slow)

    def _look_who_is_slow(self) -> None:
        """A lane that rests, or whose handlers take longer now, is quick no more."""
        self._watches = False
        now_ms = self._store.clock.delay_ms()
        for lane in tuple(self._quick):
            if now_ms - lane.since_ms > self._quick_ms:
                self._set_quick(lane, False)
        self._watch()

    def _lagged(self) -> None:
        """The loop was held: idle peers go first, for HELD_BACK_MS."""
        if not self._held_back and not self._stopping and self._store.has_idle_peer():
            self._held_back = True
            self.tell(self._lanes.values())
            self._timers.after(HELD_BACK_MS, self._go_on)

    def _go_on(self) -> None:
        self._held_back = False
        self.tell(self._lanes.values())

    # ------------------------------------------------------------------------------------ messages

    def _deliver(self, messages: list[Message]) -> None:
        """See Store.on_deliver."""
        self.delivered += len(messages)
        if self.on_delivery is not None:
            self.on_delivery()
        push, lanes = self._dispatcher.push, self._lanes
        for message in messages:
            push(lanes[message.topic, message.step].lane, message, message.priority)
            self._waiting_bytes += len(message.payload)
        self._here += len(messages)
        if self._waiting_bytes > WAITING_BYTES_MAX:
            for lane in tuple(self._quick):
                self._set_quick(lane, False)
        self._take(len(messages))

    def _take(self, count: int) -> None:
        """Give slots to what waits for one, as far as there are any."""
        if self._stopping:
            return
        for lane, message, _ in self._dispatcher.take(count):
            self._ready.append((self._lanes[lane], message))
        self._rouse()

    async def _return_unbegun(self) -> None:
        """What waits for a slot or for a worker goes back as it was."""
        unbegun = [message for lane in self._lanes.values() for message in self._dispatcher.drain(lane.lane)]
        for lane, message in self._ready:
            self._dispatcher.done(lane.lane)
            unbegun.append(message)
        self._ready.clear()
        self._here -= len(unbegun)
        session = self._store.session
        leases = [message.lease for message in unbegun if message.lease.session == session]
        for at in range(0, len(leases), RETURNS_MAX):
            with contextlib.suppress(IIIError):  # the end of the session gives them back too
                await self._store.commit(Txn([Return(lease) for lease in leases[at : at + RETURNS_MAX]]))

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
                session = self._store.session
                while self._ready and clock() - began < TURN_S and not task.cancelling():
                    lane, message = self._ready.popleft()
                    size = len(message.payload)
                    self._waiting_bytes -= size
                    lane.bytes += size
                    if message.lease.session != session:  # peers have taken it back
                        self.settled()
                        self._free(lane)
                        continue
                    rest = self._runner.start(message, lane.binding, lane)
                    if rest is not None:
                        # The others will wait too: one after the other, each would cost a turn of the loop.
                        self._rouse(len(self._ready))
                        try:
                            await rest
                        finally:
                            self._handled(lane)
                        began, session = clock(), self._store.session
                    else:
                        self._handled(lane)
                if clock() - began > LAG_S:
                    self._lagged()
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

    def _handled(self, lane: _Lane) -> None:
        lane.ended += 1
        if lane.ended >= lane.slots:
            self._used_anew(lane)
        self._free(lane)

    def _free(self, lane: _Lane) -> None:
        self._dispatcher.done(lane.lane)
        if self._dispatcher.queued_total:
            self._take(1)
        if self._stopping:
            self._look_if_drained()

    def settled(self) -> None:
        """Nothing of one message's attempt is left to do."""
        self._here -= 1
        if not self._here:
            self._quiet()
            self._look_if_drained()

    def _look_if_drained(self) -> None:
        if self._stopping and self.running == 0:
            self._drained.set()
