"""Engines for tests: real steps on a memory store that remembers its Txns, and a clock turned by hand."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from iii.clock import Clock, FakeClock
from iii.config import Config, HistoryConfig, QueueConfig, StoreConfig
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.handling.context import Context, Runtime, StartedBy
from iii.handling.outbox import Outbox
from iii.model import ARCHIVE, Committed, Txn, Waiting
from iii.running.invoke import Invoker
from iii.running.timers import Timers
from iii.step import Step, queue
from iii.store.memory import MemoryStore, MemoryTables

QUEUES = {"retry_delay": 1000}


class RecordingStore(MemoryStore):
    """Remembers each Txn handed over, and refuses the next ones as told."""

    def __init__(self, clock: Clock | None = None, *, tables: MemoryTables | None = None) -> None:
        super().__init__(clock, tables=tables)
        self.txns: list[Txn] = []
        self.refuse: list[Exception] = []

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        if self.refuse:
            future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            future.set_exception(self.refuse.pop(0))
            return future
        self.txns.append(txn)
        return super().submit(txn)

    def kinds(self, start: int = 0) -> list[list[str]]:
        """The ops of each Txn, by name; the engine's own marks left out."""
        named = [[type(op).__name__ for op in txn.ops] for txn in self.txns[start:]]
        return [names for names in named if set(names) != {"Mark"}]


def config(queues: Mapping[str, QueueConfig] | None = None, **changes: Any) -> Config:
    here = Path(".").absolute()
    store = StoreConfig(path=here / "unused", kind="memory")
    changes.setdefault("history", HistoryConfig(keep=0))
    return Config(root=here, steps=here, store=store, queues=dict(queues or {}), **changes)


def step(handler: Callable[..., Any], *triggers: dict[str, Any], name: str = "Work", **more: Any) -> Step:
    return make_step({"name": name, "triggers": list(triggers), **more}, handler)


class Running:
    def __init__(self, engine: Engine, store: RecordingStore, clock: FakeClock) -> None:
        self.engine, self.store, self.clock = engine, store, clock

    async def settle(self) -> None:
        await self.engine.idle(20, due_only=True)

    async def send(self, topic: str, data: object = None, **options: Any) -> str:
        return (await self.engine.enqueue(topic, data, **options))[0]

    async def value(self, namespace: str, key: str) -> Any:
        return await self.engine.state.get(namespace, key)

    def letters(self, topic: str) -> list[Waiting]:
        return self.store.waiting(topic, step=ARCHIVE)

    def waiting(self, topic: str) -> list[Waiting]:
        return [each for each in self.store.waiting(topic) if each.step != ARCHIVE]

    async def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)
        await self.settle()


@asynccontextmanager
async def running(
    *steps: Step,
    tables: MemoryTables | None = None,
    clock: FakeClock | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A started engine; at the end its store's invariants hold."""
    clock = clock or FakeClock()
    store = RecordingStore(clock, tables=tables)
    async with Engine(config(**changes), steps, store=store) as engine:
        yield Running(engine, store, clock)
    assert store.verify() == []


class Gate:
    """Handlers wait in it; the test sees how many are inside."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self.most = 0
        self._open = asyncio.Event()
        self._entered = asyncio.Condition()

    async def __call__(self, data: Any) -> None:
        self.inside.append(data)
        self.most = max(self.most, len(self.inside))
        async with self._entered:
            self._entered.notify_all()
        try:
            await self._open.wait()
        finally:
            self.inside.remove(data)

    async def entered(self, count: int) -> None:
        async with asyncio.timeout(10), self._entered:
            await self._entered.wait_for(lambda: len(self.inside) >= count)

    def open(self) -> None:
        self._open.set()


class Outlives:
    """A handler's thread that is on its way to a call of ctx when its engine stops, and goes on then."""

    def __init__(self) -> None:
        self._inside, self._release, self._ended = threading.Event(), threading.Event(), threading.Event()

    def wait(self) -> None:
        """The handler's, before its call."""
        self._inside.set()
        self._release.wait(10)

    def ended(self) -> None:
        """The handler's, after its call."""
        self._ended.set()

    def run(self, handler: Callable[..., Any], *, closed: str) -> None:
        """From the start to the end of the handler; the loop is closed "before" its call, or "meanwhile"."""

        async def main() -> None:
            steps = [step(handler, queue("in"))]
            async with Engine(config(shutdown_timeout_ms=1), steps, store=RecordingStore()) as engine:
                await engine.enqueue("in")
                assert await asyncio.to_thread(self._inside.wait, 10)

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
            if closed == "before":
                loop.close()
            self._release.set()
            assert self._ended.wait(10), "it waits for a loop that turns no more"
        finally:
            self._release.set()
            loop.close()


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def garbage_of(app: Running, topic: str, count: int) -> int:
    """How many objects `count` messages of `topic` leave that only the garbage collector can free."""

    async def run() -> None:
        for number in range(count):
            await app.send(topic, number)
        await app.settle()

    await run()
    gc.collect()
    gc.disable()
    try:
        await run()
        return gc.collect()
    finally:
        gc.enable()


class OneCall:
    """Calls functions as an engine with one thread for them does."""

    def __init__(self, threads: ThreadPoolExecutor, timeout_ms: int | None = 1_000) -> None:
        self.clock, self._timeout_ms = FakeClock(), timeout_ms
        self.invoker = Invoker(Timers(self.clock), threads, clock=self.clock)
        work = step(lambda: None, queue("in"))
        self.ctx = Context(Runtime(MemoryStore(self.clock), Outbox({})), work, StartedBy("queue"), 0)

    def __call__(self, function: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.invoker.call(function, self.ctx, (1, self.ctx), self._timeout_ms))


@asynccontextmanager
async def one_thread(timeout_ms: int | None = 1_000) -> AsyncIterator[OneCall]:
    with ThreadPoolExecutor(1) as threads:
        yield OneCall(threads, timeout_ms)
