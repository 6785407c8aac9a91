"""The engine: what is made of a config and its steps, in which order it starts, and in which it drains.

    start    log -> spans -> listen -> store -> session -> tail -> cron -> queues -> HTTP
    stop     HTTP and queues drain together -> cron, tail -> session -> store -> spans -> log

The embedding API. It owns no rule: everything it does is done by the parts it puts together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iii.clock import Clock
from iii.config import Config, load
from iii.definitions.loader import load_steps
from iii.definitions.together import check_steps
from iii.errors import IIIError, InputError, StoreDamaged
from iii.handling.context import Runtime
from iii.handling.log_records import logging_of
from iii.handling.outbox import NORMAL, Delay, Outbox, Priority, UniqueKey
from iii.handling.outside import OutsideState
from iii.model import Suspects, Txn
from iii.observe.metering import Metering
from iii.observe.meters import Figures
from iii.observe.redaction import Redaction
from iii.report import Report, next_due_ms, report
from iii.running.bindings import bind, inputs, policies, unserved
from iii.running.last_resort import LastResort
from iii.running.recording import Recorder
from iii.running.runner import Runner
from iii.running.threads import Threads
from iii.running.timers import Timers
from iii.running.tracing import invoker_of, spans_of
from iii.running.watchdog import Stuck, Watchdog
from iii.sources.changes import ChangeSource
from iii.sources.cron import CronSource
from iii.sources.cron_jobs import manual_tick
from iii.sources.queue import QueueSource
from iii.step import Step
from iii.store import bulk
from iii.store.contract import Store
from iii.stores import limits_of, roster_of, store_of
from iii.trace import Sampler
from iii.web.asgi import AsgiApp, app
from iii.web.door import Door
from iii.web.duty import HttpServer
from iii.web.idempotency import idempotency_policies
from iii.web.lifespan import Lifespan

if TYPE_CHECKING:
    from iii.console.means import InstanceRow, Means
    from iii.console.server import Console

__all__ = ["Engine"]

LOOK_AGAIN_S = 0.05  # idle(): for what other processes do, which nobody tells
DAMAGED_DRAIN_MS = 1_000  # what handlers still do then cannot be settled

log = logging.getLogger("iii.engine")


class Engine:
    """Runs steps on a store.

        async with Engine.from_config("iii-config.yaml") as engine:
            await engine.enqueue("mail", {"to": "ada"})
            await engine.idle()

    `serve`: also listen on config.http, or on `sockets` that listen already (an instance's, from its
    supervisor). `console`: serve the console too, where config.console has it, or on such sockets.
    `number`: which of its supervisor's instances it is. `suspects`: see store.contract; with "only" it is a
    quarantine, whose queues alone begin. `store` and `clock` replace the config's (tests).
    """

    def __init__(
        self,
        config: Config,
        steps: Sequence[Step],
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        serve: bool = False,
        sockets: Sequence[socket] = (),
        console: bool | Sequence[socket] = False,
        number: int = 0,
        suspects: Suspects = "one",
    ) -> None:
        check_steps(steps, config)
        self.config, self.steps = config, tuple(steps)
        self.store: Store = store if store is not None else store_of(config, clock, number)
        self._data = config.store.path if store is None and config.store.kind == "lmdb" else None
        self.figures = Figures()
        self.spans = spans_of(config)
        is_told = config.history.keep > 0 or self.spans is not None
        self._sampler = Sampler(config.history.traces_per_second if is_told else 0)
        self.state = OutsideState(self.store, self._sampler)
        self._progress = asyncio.Event()
        self.endpoint = Door(self.steps, config.http, self._progress.set, self._others)
        self.lifespan = Lifespan(self.start, self.stop)
        self.asgi: AsgiApp = app(self.endpoint, self.lifespan)
        self._bindings = bind(self.steps, config)
        self._inputs = inputs(self.steps)
        self._serves, self._sockets, self.suspects = serve, sockets, suspects
        self._console = console if config.console.enabled else False
        self._served: Console | None = None
        self._http: HttpServer | None = None
        self._address: str | None = None
        self._running: AsyncExitStack | None = None
        self._stopping = asyncio.Event()
        self.failed = asyncio.Event()  # set when what was started has died: stop the engine
        self.failure: IIIError | None = None  # why, where the log alone does not say it
        self.last_resort: LastResort | None = None  # in a process that is the engine's alone

    @classmethod
    def from_config(
        cls,
        file: Path | str | None = None,
        *,
        serve: bool = False,
        console: bool = False,
        store: Store | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> Engine:
        """Load the config (./iii-config.yaml) and its steps. `overrides`: those of config.load.

        ConfigError and StepError name file, field and remedy.
        """
        config = load(file, **overrides)
        return cls(config, load_steps(config.steps), store=store, clock=clock, serve=serve, console=console)

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # ------------------------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Everything up, or nothing: what had started is stopped again where something cannot."""
        if self._running is not None or self._stopping.is_set():
            raise IIIError(
                "an engine runs once: it is started already, or was stopped; make a new one "
                "(an application that starts again, as in tests, comes with its engine from a function)"
            )
        self.state.loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            stack.enter_context(logging_of(self.config))
            if self.spans is not None:
                self.spans.start()
                stack.push_async_callback(self.spans.close)
            sockets = self._listen(stack) if self._serves else []
            await self.store.open()
            stack.push_async_callback(self.store.close)
            self.store.on_damage(self._damaged)
            self._sampler.now_ms = self.store.clock.delay_ms
            await self._start_sources(stack)
            stack.callback(self.endpoint.shut)
            if sockets:
                self._start_server(stack, sockets)
            self._running = stack.pop_all()
            self.store.show("ready", lambda: self.endpoint.in_flight)
            if self._served is not None:
                self._served.start(self._means())

    async def stop(self, timeout_ms: int | None = None) -> None:
        """Drain: handlers have `timeout_ms` (config.shutdown_timeout) to finish, then their messages are
        given back. Idempotent."""
        running, self._running = self._running, None
        if running is None:
            return
        self._stopping.set()
        if self._http is not None:
            self._http.close()  # before anybody sees that this one drains
        self.store.show("draining", lambda: self.endpoint.in_flight)
        self.endpoint.drain()
        if not self._serves:  # whoever serves it may go on sending requests
            self.endpoint.shut()
        drain_ms = self.config.shutdown_timeout_ms if timeout_ms is None else timeout_ms
        if isinstance(self.failure, StoreDamaged):
            drain_ms = min(drain_ms, DAMAGED_DRAIN_MS)
        try:
            await asyncio.gather(self.endpoint.finish(drain_ms, self._progress), self.queues.drain(drain_ms))
        finally:
            await running.aclose()

    async def _start_sources(self, stack: AsyncExitStack) -> None:
        lanes = policies(self._bindings.values(), self.config)
        kept = idempotency_policies(self.steps, self.config.http.idempotency_ttl_ms)
        store, timers = self.store, Timers(self.store.clock)
        stack.callback(timers.close)
        threads, self._watchdog = Threads(self._bindings.values()), Watchdog()
        stack.callback(threads.close)
        stack.callback(self._watchdog.stop)
        self._outbox = Outbox(self._inputs, unserved(self._bindings.values(), store).notice)
        limits, redaction = limits_of(self.config), Redaction(self.config.log.redact)
        captures = self.config.log.threshold if limits.runs_max or limits.runs_failed_max else None
        runtime = Runtime(store, self._outbox, self._sampler, captures, self.figures)
        invoker = invoker_of(self.spans, timers, threads, store.clock)
        recorder = Recorder(
            store, timers, limits=limits, redaction=redaction, figures=self.figures, spans=self.spans
        )
        stack.push_async_callback(recorder.close)
        self._measure(stack)
        runner = Runner(runtime, timers, invoker, recorder=recorder, redaction=redaction)
        self._changes = ChangeSource(store, timers, self.steps, self._progress.set, on_failure=self._fail)
        self._cron = CronSource(store, timers, self.steps, on_failure=self._fail, sampler=self._sampler)
        self.queues = QueueSource(store, runner, timers, self._bindings, self._progress.set)
        await store.open_session([*lanes, *kept], self.suspects)
        stack.push_async_callback(store.close_session)
        if self.suspects != "only":
            self._take_console(stack)
            stack.push_async_callback(self._changes.stop)
            await self._changes.start()
            stack.push_async_callback(self._cron.stop)
            await self._cron.start()
        self.endpoint.open(runner, store)
        for each in self.endpoint.router.routes:
            self.figures.routes[each.trigger.method, each.trigger.path, each.step.name] = each.meter
        self._watchdog.arm(self.config.health.stuck_after_ms, self._stuck)
        if self.last_resort is not None:
            self.last_resort.arm()
        self.queues.start()

    def _measure(self, stack: AsyncExitStack) -> None:
        """Count from here on, together with the other instances on the data folder."""
        self.figures.steps = {lane: each.meter for lane, each in self._bindings.items()}
        self.metering = Metering(self.store, self.figures, self._data)
        self.metering.start()
        stack.push_async_callback(self.metering.stop)

    def _require_started(self) -> None:
        if self._running is None:
            raise IIIError(
                "the engine is not running: use it inside `async with engine:`, give your application "
                "lifespan=engine.lifespan, or call start() first"
            )

    def _require_here(self) -> None:
        self._require_started()
        self.state.require_loop()

    # ------------------------------------------------------------------------------------------ use

    async def enqueue(
        self,
        topic: str | Mapping[str, Any],
        data: object = None,
        *,
        priority: Priority = NORMAL,
        delay: Delay = 0,
        group: str | None = None,
        unique: UniqueKey | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Send a message; the ids of its copies, one for each subscribed step. It is on disk on return.

        As `ctx.enqueue`. A `traceparent` among the headers is the parent of the message's trace.
        """
        self._require_here()
        if headers and "traceparent" in headers:
            origin = self._sampler.carried_headers(headers)
            headers = {name: value for name, value in headers.items() if name != "traceparent"}
        else:
            origin = self._sampler.root_headers()
        op = self._outbox.op(
            topic,
            data,
            origin,
            priority=priority,
            delay=delay,
            group=group,
            unique=unique,
            headers=headers,
        )
        self._outbox.notice(op.topic)
        committed = await self.store.commit(Txn((op,)))
        self.figures.sent(op.topic)
        return [self.store.message_id(number) for number in committed.ids[0]]

    async def run_cron(self, step: str) -> str:
        """Run a step's cron trigger now; the id of its message."""
        self._require_here()
        tick = manual_tick(self.steps, step, self.store.clock.wall_ms())
        if tick is None:
            known = ", ".join(sorted({job.step for job in self._cron.jobs})) or "none"
            raise InputError(f"no step {step!r} with a cron trigger; those with one: {known}")
        committed = await self.store.commit(Txn((tick,)))
        return self.store.message_id(committed.ids[0][0])

    async def redrive(self, topic: str) -> int:
        """Send dead letters back to where they came from; see bulk.redrive."""
        self._require_here()
        return await bulk.redrive(self.store, bulk.select(self.store, topic, dead=True), topic=topic)

    async def idle(self, timeout: float | None = None, *, due_only: bool = False) -> None:
        """Wait until nothing is left to run: no message unsettled, no request being handled, no change that
        triggers have not seen. TimeoutError after `timeout` seconds.

        due_only: what waits for its time (a delay, a retry, a cron) or is paused may wait on.
        """
        self._require_here()
        async with asyncio.timeout(timeout):
            while not await self._is_idle(due_only):
                self._progress.clear()
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._progress.wait()
                except TimeoutError:
                    continue

    def report(self) -> Report:
        """The steps, routes, topics, schedules, store and address of a started engine."""
        self._require_started()
        path = self.config.store.path if self.config.store.kind == "lmdb" else None
        at = self._address, self._served.address if self._served is not None else None
        return report(self.steps, self._bindings.values(), self._cron.jobs, self.store, path, *at)

    def next_ms(self) -> int | None:
        """Wall clock of the next thing that happens by itself: a cron tick, or a message that becomes due."""
        times = [self._cron.next_ms(), next_due_ms(self.store)]
        return min((each for each in times if each is not None), default=None)

    async def _is_idle(self, due_only: bool) -> bool:
        if self.queues.running or self.endpoint.in_flight or not await self._changes.caught_up():
            return False
        if not due_only:
            return self.store.unsettled() == 0
        lanes = [lane for lane in self.store.stats() if lane.served]
        running = any(lane.leased or (lane.ready and not lane.paused) for lane in lanes)
        return not running and self._cron.waits

    def _damaged(self, error: StoreDamaged) -> None:
        """Nothing can be settled any more: messages stay with the store as they were."""
        log.critical("%s", error)
        self._fail(error)

    def _fail(self, reason: IIIError) -> None:
        self.failure = self.failure or reason
        self.failed.set()

    def _stuck(self, stuck: Stuck) -> None:
        """In the watchdog's thread. A host that embeds the engine is told, and never ended."""
        self.failure = stuck.error
        if self.last_resort is None:
            self._watchdog.loop.call_soon_threadsafe(self.failed.set)
        else:
            self.last_resort.end(stuck, self.store.blame)

    # ----------------------------------------------------------------------------------------- HTTP

    def _listen(self, stack: AsyncExitStack) -> list[socket]:
        from iii.web.port import listen, url_of

        http, file = self.config.http, str(self.config.file or "")
        sockets = list(self._sockets) or listen(http.host, http.port, file=file)
        for each in sockets:
            stack.callback(each.close)
        self._address = url_of(sockets)
        return sockets

    def _start_server(self, stack: AsyncExitStack, sockets: list[socket]) -> None:
        drain_ms, console = self.config.shutdown_timeout_ms, bool(self._console)
        self._http = HttpServer(self.endpoint, sockets, self._stopping, drain_ms, self._fail, console=console)
        stack.push_async_callback(self._http.end)

    def _take_console(self, stack: AsyncExitStack) -> None:
        """Once our session is on record: who else wants the port then sees that we are one of them."""
        from iii.console.server import take

        self._served = take(self.config, self._console, self._roster, self.store.session)
        if self._served is not None:
            stack.push_async_callback(self._served.stop)

    def _roster(self) -> Sequence[InstanceRow]:
        return roster_of(self._data, self.config.store.stale_after_ms)

    def _others(self) -> Sequence[InstanceRow]:
        return [row for row in self._roster() if row.session != self.store.session]

    def _means(self) -> Means:
        from iii import __version__
        from iii.console.means import Means, Pulse

        return Means(
            self.config, self.store, self.steps, self._bindings, self._cron.jobs, self.endpoint, self._outbox,
            self._sampler, self._roster, self.report().address, self.store.clock.wall_ms(), self._stopping,
            self.metering, self.figures, Pulse(self.store, self.metering), __version__,
        )  # fmt: skip
