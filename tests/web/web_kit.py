"""A site for tests: real steps, runner and memory store behind a real Endpoint, on a clock turned by hand."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from iii.clock import FakeClock
from iii.config import HttpConfig
from iii.definitions.step_config import make_step
from iii.errors import StoreFull
from iii.handling.context import Runtime
from iii.handling.outbox import Outbox
from iii.model import Committed, LanePolicy, Txn, Waiting
from iii.running.invoke import Invoker
from iii.running.runner import Runner
from iii.running.timers import Timers
from iii.step import Step, http
from iii.store.contract import Answer as TakesOutcome
from iii.store.contract import Limits
from iii.store.memory import MemoryStore, MemoryTables
from iii.web.endpoint import Endpoint
from iii.web.idempotency import idempotency_policies
from iii.web.request import Request
from iii.web.response import Answer
from iii.web.stream import Stream

REQUEST_THREADS = 4


class Reply:
    """An Answer with its body read to the end."""

    def __init__(self, sent: Answer, chunks: Sequence[bytes]) -> None:
        self.status, self.raw_headers, self.chunks = sent.status, sent.headers, list(chunks)
        self.body = b"".join(chunks)

    def header(self, name: str) -> str | None:
        found = [value.decode("latin-1") for key, value in self.raw_headers if key == name.encode()]
        assert len(found) < 2, f"{name} was sent {len(found)} times"
        return found[0] if found else None

    def headers(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.raw_headers if key == name.encode()]

    def json(self) -> Any:
        assert self.header("content-type") == "application/json"
        return jsonlib.loads(self.body)


class HoldingStore(MemoryStore):
    """Commits what came between `hold` and `go_on` when it goes on; `post` has no room while it `is_full`."""

    is_full = False
    _held: list[tuple[Txn, asyncio.Future[Committed]]] | None = None

    def hold(self) -> None:
        self._held = []

    def go_on(self) -> None:
        held, self._held = self._held, None
        for txn, future in held or ():
            super().submit(txn).add_done_callback(lambda done, future=future: _copy(done, future))

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        if self._held is None:
            return super().submit(txn)
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._held.append((txn, future))
        return future

    def overtake(self, txn: Txn) -> None:
        """Commit before what is held."""
        super().submit(txn).result()

    def post(self, txn: Txn, answer: TakesOutcome) -> None:
        if self.is_full:
            raise StoreFull("full")
        super().post(txn, answer)

    async def commit(self, txn: Txn) -> Committed:
        future = self.submit(txn)
        await asyncio.sleep(0)
        return await future


def _copy(done: asyncio.Future[Committed], future: asyncio.Future[Committed]) -> None:
    if (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


class Site:
    def __init__(self, endpoint: Endpoint, store: HoldingStore, clock: FakeClock) -> None:
        self.endpoint, self.store, self.clock = endpoint, store, clock

    def request(
        self,
        method: str,
        target: str,
        *,
        json: object = None,
        content: bytes | str = b"",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Request:
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        raw = content.encode() if isinstance(content, str) else content
        if json is not None:
            raw = jsonlib.dumps(json).encode()
            pairs.append(("content-type", "application/json"))
        path, _, query = target.partition("?")
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        return Request(method, path, query.encode(), encoded, raw)

    async def send(self, method: str, target: str, **options: Any) -> Reply:
        sent = await self.endpoint.answer(self.request(method, target, **options))
        if not isinstance(sent.body, Stream):
            return Reply(sent, [sent.body])
        chunks = []
        try:
            async for chunk in sent.body:
                chunks.append(chunk)
        finally:
            await sent.body.aclose()
        return Reply(sent, chunks)

    def value(self, namespace: str, key: str) -> Any:
        entry = self.store.get(namespace, key)
        return jsonlib.loads(entry.value) if entry is not None else None

    def queued(self, topic: str) -> list[Waiting]:
        return self.store.waiting(topic)

    @property
    def is_untouched(self) -> bool:
        """Nothing was ever stored or enqueued."""
        counts = [(lane.ready, lane.later, lane.behind, lane.leased) for lane in self.store.stats()]
        return self.store.version() == 0 and set(counts) <= {(0, 0, 0, 0)}


def step(
    handler: Callable[..., Any], *triggers: dict[str, Any], name: str = "Answering", **config: Any
) -> Step:
    return make_step({"name": name, "triggers": list(triggers), **config}, handler)


def get(path: str, handler: Callable[..., Any], name: str = "Answering", **options: Any) -> Step:
    return step(handler, http("GET", path, **options), name=name)


def post(path: str, handler: Callable[..., Any], name: str = "Answering", **options: Any) -> Step:
    return step(handler, http("POST", path, **options), name=name)


@asynccontextmanager
async def site(
    *steps: Step,
    config: HttpConfig | None = None,
    limits: Limits | None = None,
    tables: MemoryTables | None = None,
    policies: Sequence[LanePolicy] = (),
) -> AsyncIterator[Site]:
    """`tables`: share the state of another site's store, as a second instance would."""
    clock = FakeClock()
    config = config or HttpConfig()
    store = HoldingStore(clock, limits, tables=tables)
    await store.open()
    await store.open_session([*idempotency_policies(steps, config.idempotency_ttl_ms), *policies])
    timers = Timers(clock)
    with ThreadPoolExecutor(REQUEST_THREADS) as threads:
        runner = Runner(Runtime(store, Outbox({})), timers, Invoker(timers, threads))
        yield Site(Endpoint(runner, store, steps, config), store, clock)
    assert store.verify() == []
    timers.close()
    await store.close()
