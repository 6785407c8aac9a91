"""The engine: what is made of a config and its steps, in which order it starts, and in which it drains.

    start    listen -> store -> session -> tail -> cron -> queues -> HTTP
    stop     HTTP and queues drain together -> cron, tail -> session -> store

The embedding API. It owns no rule: everything it does is done by the parts it puts together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import Any

from iii import trace
from iii.clock import Clock
from iii.config import Config, load
from iii.definitions.loader import check_steps, load_steps
from iii.errors import IIIError, InputError
from iii.handling.context import Runtime
from iii.handling.outbox import NORMAL, Delay, Outbox, Priority, UniqueKey
from iii.handling.outside import OutsideState
from iii.model import Txn
from iii.report import Report, report
from iii.running.bindings import bind, inputs, policies
from iii.running.invoke import Invoker
from iii.running.runner import Runner
from iii.running.timers import Timers
from iii.sources.changes import ChangeSource
from iii.sources.cron import CronSource, manual_tick
from iii.sources.queue import QueueSource
from iii.step import Step
from iii.store import operations
from iii.store.contract import Limits, Store
from iii.web.asgi import AsgiApp, app
from iii.web.door import Door
from iii.web.idempotency import idempotency_policies

__all__ = ["Engine"]

LOOK_AGAIN_S = 0.05  # idle(): for what other processes do, which nobody tells
HTTP_THREADS = 32

log = logging.getLogger("iii.engine")


class Engine:
    """Runs steps on a store.

        async with Engine.from_config("iii-config.yaml") as engine:
            await engine.enqueue("mail", {"to": "ada"})
            await engine.idle()

    `serve`: also listen on config.http. `store` and `clock` replace those the config asks for (tests).
    """

    def __init__(
        self,
        config: Config,
        steps: Sequence[Step],
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        serve: bool = False,
    ) -> None:
        check_steps(steps, config)
        self.config, self.steps = config, tuple(steps)
        self.store: Store = store if store is not None else _store(config, clock)
        self.state = OutsideState(self.store)
        self.endpoint = Door(self.steps, config.http, self._progressed)
        self.asgi: AsgiApp = app(self.endpoint, startup=self.start, shutdown=self.stop)
        self._bindings = bind(self.steps, config)
        self._inputs = inputs(self.steps)
        self._serves = serve
        self._address: tuple[str, int] | None = None
        self._progress = asyncio.Event()
        self._running: AsyncExitStack | None = None
        self._stopping = asyncio.Event()
        self.failed = asyncio.Event()  # set when what was started has died: stop the engine

    @classmethod
    def from_config(
        cls,
        file: Path | str | None = None,
        *,
        serve: bool = False,
        store: Store | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> Engine:
        """Load the config (./iii-config.yaml) and its steps. `overrides`: those of config.load.

        ConfigError and StepError name file, field and remedy.
        """
        config = load(file, **overrides)
        return cls(config, load_steps(config.steps), store=store, clock=clock, serve=serve)

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
            raise IIIError("an engine runs once: it is started already, or was stopped; make a new one")
        async with AsyncExitStack() as stack:
            sockets = self._listen(stack) if self._serves else []
            await self.store.open()
            stack.push_async_callback(self.store.close)
            await self._start_sources(stack)
            if sockets:
                self._start_server(stack, sockets)
            self._running = stack.pop_all()

    async def stop(self, timeout_ms: int | None = None) -> None:
        """Drain: handlers have `timeout_ms` (config.shutdown_timeout) to finish, then their messages are
        given back. Idempotent."""
        running, self._running = self._running, None
        if running is None:
            return
        self._stopping.set()
        self.endpoint.drain()
        drain_ms = self.config.shutdown_timeout_ms if timeout_ms is None else timeout_ms
        try:
            await asyncio.gather(self._answer_last(drain_ms), self._queues.drain(drain_ms))
        finally:
            await running.aclose()

    async def _start_sources(self, stack: AsyncExitStack) -> None:
        lanes = policies(self._bindings.values(), self.config)
        kept = idempotency_policies(self.steps, self.config.http.idempotency_ttl_ms)
        timers = Timers(self.store.clock)
        stack.callback(timers.close)
        threads = ThreadPoolExecutor(self._threads(), thread_name_prefix="iii-step")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        http_threads = ThreadPoolExecutor(HTTP_THREADS, thread_name_prefix="iii-http")
        stack.callback(http_threads.shutdown, wait=False, cancel_futures=True)
        self._outbox = Outbox(self.store.limits, self._inputs)
        runtime = Runtime(self.store, self._outbox)
        invoker = Invoker(timers, threads, http_threads, self.store.clock)
        runner = Runner(runtime, timers, invoker, keeps_runs=self.config.history.keep > 0)
        self._changes = ChangeSource(
            self.store, timers, self.steps, self._progressed, on_failure=self.failed.set
        )
        self._cron = CronSource(self.store, timers, self.steps, on_failure=self.failed.set)
        self._queues = QueueSource(self.store, runner, timers, self._bindings, self._progressed)
        await self.store.open_session([*lanes, *kept])
        stack.push_async_callback(self.store.close_session)
        stack.push_async_callback(self._changes.stop)
        await self._changes.start()
        stack.push_async_callback(self._cron.stop)
        await self._cron.start()
        self.endpoint.open(runner, self.store)
        self._queues.start()

    def _require_started(self) -> None:
        if self._running is None:
            raise IIIError(
                "the engine is not running: use it inside `async with engine:`, or call start() first"
            )

    def _threads(self) -> int:
        """One for each slot whose step, or a condition of it, may be a plain `def`; started when needed."""
        slots = (
            each.rules.concurrency
            for each in self._bindings.values()
            if not each.step.is_async or any(start.condition for start in each.starts.values())
        )
        return max(1, sum(slots))

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
        self._require_started()
        origin = trace.new()
        if headers and "traceparent" in headers:
            origin = trace.child(headers)
            headers = {name: value for name, value in headers.items() if name != "traceparent"}
        op = self._outbox.op(
            topic,
            data,
            origin.headers(),
            priority=priority,
            delay=delay,
            group=group,
            unique=unique,
            headers=headers,
        )
        committed = await self.store.commit(Txn((op,)))
        return [str(id) for id in committed.ids[0]]

    async def run_cron(self, step: str) -> str:
        """Run a step's cron trigger now; the id of its message."""
        self._require_started()
        tick = manual_tick(self.steps, step, self.store.clock.wall_ms())
        if tick is None:
            known = ", ".join(sorted({job.step for job in self._cron.jobs})) or "none"
            raise InputError(f"no step {step!r} with a cron trigger; those with one: {known}")
        committed = await self.store.commit(Txn((tick,)))
        return str(committed.ids[0][0])

    async def redrive(self, topic: str) -> int:
        """Send dead letters back to where they came from; see operations.redrive."""
        self._require_started()
        return await operations.redrive(self.store, topic)

    async def idle(self, timeout: float | None = None, *, due_only: bool = False) -> None:
        """Wait until nothing is left to run: no message unsettled, no request being handled, no change that
        triggers have not seen. TimeoutError after `timeout` seconds.

        due_only: what waits for its time (a delay, a retry, a cron) or is paused may wait on.
        """
        self._require_started()
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
        host, port = self._address or ("", 0)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}" if self._address else None
        wall_ms = self.store.clock.wall_ms()
        return report(self.steps, self._bindings.values(), self._cron.jobs, wall_ms, path, address)

    def next_ms(self) -> int | None:
        """Wall clock of the next thing that happens by itself: a cron tick, or a message that becomes due."""
        wall_ms, delay_ms = self.store.clock.wall_ms(), self.store.clock.delay_ms()
        times = [] if (tick := self._cron.next_ms()) is None else [tick]
        for lane in self.store.stats():
            if lane.later and lane.served:
                first = self.store.waiting(lane.topic, step=lane.step, states=("later",), limit=1)
                times += [wall_ms + message.due_ms - delay_ms for message in first if message.due_ms]
        return min(times, default=None)

    async def _is_idle(self, due_only: bool) -> bool:
        if self._queues.running or self.endpoint.in_flight or not await self._changes.caught_up():
            return False
        if not due_only:
            return self.store.unsettled() == 0
        lanes = [lane for lane in self.store.stats() if lane.served]
        running = any(lane.leased or (lane.ready and not lane.paused) for lane in lanes)
        return not running and self._cron.waits

    def _progressed(self) -> None:
        self._progress.set()

    # ----------------------------------------------------------------------------------------- HTTP

    def _listen(self, stack: AsyncExitStack) -> list[socket]:
        from iii.web.port import address_of, listen

        sockets = listen(self.config.http.host, self.config.http.port)
        for each in sockets:
            stack.callback(each.close)
        self._address = address_of(sockets)
        return sockets

    def _start_server(self, stack: AsyncExitStack, sockets: list[socket]) -> None:
        from iii.web.server import serve

        drain_ms = self.config.shutdown_timeout_ms
        work = serve(self.asgi, self.config.http, sockets, self._stopping, drain_ms=drain_ms)
        self._server = asyncio.get_running_loop().create_task(work)
        self._server.add_done_callback(self._server_ended)
        stack.push_async_callback(_ended, self._server)

    def _server_ended(self, server: asyncio.Task[None]) -> None:
        """A server ends when it is told to; one that fails takes the engine's owner with it."""
        if not self._stopping.is_set() and not server.cancelled() and server.exception() is not None:
            log.critical("HTTP failed: nobody answers any more", exc_info=server.exception())
            self.failed.set()

    async def _answer_last(self, timeout_ms: int) -> None:
        """Wait for the requests being handled, by our server or by one that this engine is mounted in."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self.endpoint.in_flight:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            log.warning("%d requests did not finish in time", self.endpoint.in_flight)


async def _ended(server: asyncio.Task[None]) -> None:
    """Wait for a server that was told to stop, or stop one whose engine did not start."""
    if not server.done():
        await asyncio.wait((server,))


def _store(config: Config, clock: Clock | None) -> Store:
    limits = Limits(runs_max=config.history.keep)
    if config.store.kind == "memory":
        from iii.store.memory import MemoryStore

        return MemoryStore(clock, limits)
    from iii.store.lmdb import LmdbStore

    kept = config.store
    return LmdbStore(kept.path, clock=clock, limits=limits, fsync=kept.fsync, map_bytes=kept.map_bytes)
