"""Tests of steps in milliseconds: a whole engine on a memory store and a clock that the test turns.

    async with harness("steps") as app:
        reply = await app.post("/messages", json={"text": "hello"})
        await app.settle()
        assert await app.state.get("messages", reply.json()["messageId"])
        await app.advance("30d")

Everything is the real thing but the store and the clock: routes, schemas, retries, dead letters, crons, state
triggers. `asyncio.sleep` in a handler takes its time; delays, retries and crons take none.

`make_engine` makes such an engine for an application that starts its own by `lifespan=engine.lifespan`: a
fresh one for each test, of which nothing stays behind.

    engine = make_engine("steps")
    with TestClient(make_app(engine)) as client:
        client.post("/orders", json={"id": "7"})
        client.portal.call(Harness(engine).advance, "30d")
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct, structs

from iii.clock import FakeClock
from iii.config import Config, load, usual_file
from iii.definitions.loader import load_steps
from iii.engine import Engine
from iii.errors import InputError
from iii.formats import codec
from iii.formats.units import duration_ms
from iii.handling.outside import OutsideState
from iii.model import ARCHIVE
from iii.observe.floods import is_own
from iii.observe.messages import told_of
from iii.step import Step
from iii.store.memory import MemoryStore
from iii.web.request import Request
from iii.web.stream import Stream

__all__ = ["DeadMessage", "Harness", "LogLine", "Reply", "WaitingMessage", "harness", "make_engine"]

SETTLE_S = 30.0
EVENTS_MAX = 10_000


class Reply(Struct, frozen=True):
    """An HTTP answer, its body read to the end. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return codec.decode(self.body)


class WaitingMessage(Struct, frozen=True):
    """A message that has not run yet."""

    id: str
    step: str
    data: Any
    priority: int
    attempts: int
    headers: dict[str, str]
    error: str | None


class DeadMessage(Struct, frozen=True):
    """A dead letter: where it came from, what it carried, why it died."""

    id: str
    topic: str
    step: str
    data: Any
    error: str
    attempts: int


class LogLine(Struct, frozen=True):
    """What a handler logged, by `ctx.logger` or by any other logger, or the engine."""

    level: str
    message: str
    fields: dict[str, Any]
    step: str | None


class Harness:
    """An engine of `make_engine` and what a test wants of it. `harness()` starts one, and gathers `logs`."""

    def __init__(self, engine: Engine, logs: Sequence[LogLine] = ()) -> None:
        clock = engine.store.clock
        if not isinstance(clock, FakeClock):
            raise InputError("this engine has no clock that a test can turn; make it with make_engine(…)")
        self.engine, self.clock, self.logs = engine, clock, logs

    @property
    def state(self) -> OutsideState:
        return self.engine.state

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Reply:
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Reply:
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Reply:
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.request("DELETE", path, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | str = b"",
        params: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request through the engine's endpoint; no socket is involved."""
        raw = content.encode() if isinstance(content, str) else content
        fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        if json is not None:
            raw = codec.encode(json)
            fields.append((b"content-type", b"application/json"))
        target, _, query = path.partition("?")
        if params:
            query = "&".join(part for part in (query, urlencode(params, doseq=True)) if part)
        sent = await self.engine.endpoint.answer(Request(method, target, query.encode(), fields, raw))
        names = {name.decode().lower(): value.decode("latin-1") for name, value in sent.headers}
        if not isinstance(sent.body, Stream):
            return Reply(sent.status, names, sent.body)
        try:
            return Reply(sent.status, names, b"".join([chunk async for chunk in sent.body]))
        finally:
            await sent.body.aclose()

    async def enqueue(self, topic: str, data: object = None, **options: Any) -> list[str]:
        """As Engine.enqueue."""
        return await self.engine.enqueue(topic, data, **options)

    async def run_cron(self, step: str) -> str:
        """Run a step's cron trigger now, and everything that follows from it."""
        id = await self.engine.run_cron(step)
        await self.settle()
        return id

    async def redrive(self, topic: str) -> int:
        """Send dead letters back and run them."""
        count = await self.engine.redrive(topic)
        await self.settle()
        return count

    async def settle(self, timeout: float = SETTLE_S) -> None:
        """Run everything that is due now, and what follows from it. Delays and retries wait for `advance`."""
        await self.engine.idle(timeout, due_only=True)

    async def advance(self, duration: int | str, *, events_max: int = EVENTS_MAX) -> None:
        """Let time pass: each cron tick, delay and retry within it happens at its moment, in order.

        InputError where there are more of them than `events_max`.
        """
        end_ms = self.clock.wall_ms() + duration_ms(duration)
        for _ in range(events_max):
            await self.settle()
            left_ms = end_ms - self.clock.wall_ms()
            if left_ms <= 0:
                return
            next_ms = self.engine.next_ms()
            until_ms = left_ms if next_ms is None else next_ms - self.clock.wall_ms()
            self.clock.advance(min(max(until_ms, 1), left_ms))
        raise InputError(f"advance({duration!r}) meets more than {events_max} events: take smaller steps")

    def queued(self, topic: str) -> list[WaitingMessage]:
        """What waits in a topic, dead letters apart."""
        found = self.engine.store.waiting(topic, limit=EVENTS_MAX)
        return [
            WaitingMessage(
                self.engine.store.message_id(each.id),
                each.step,
                codec.decode(each.payload),
                each.priority,
                each.attempts,
                each.headers,
                each.error,
            )
            for each in found
            if each.step != ARCHIVE
        ]

    def dead(self, topic: str) -> list[DeadMessage]:
        """The dead letters of a dead-letter topic, like "orders.failed"."""
        return [
            DeadMessage(
                self.engine.store.message_id(each.id),
                each.dead.topic,
                each.dead.step,
                codec.decode(each.payload),
                each.dead.error,
                each.dead.attempts,
            )
            for each in self.engine.store.waiting(topic, step=ARCHIVE, limit=EVENTS_MAX)
            if each.dead is not None
        ]


class _Collector(logging.Handler):
    def __init__(self, lines: list[LogLine]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        message, fields = told_of(record)
        step = vars(record).get("iii_step")
        self._lines.append(LogLine(record.levelname.lower(), message, dict(fields), step))


def make_engine(
    steps: Path | str | Sequence[Step] = "steps",
    *,
    config: Config | Path | str | None = None,
    clock: FakeClock | None = None,
) -> Engine:
    """A fresh engine that is not started, on a memory store and a clock that the test turns.

    `steps`: a folder, imported anew, or steps made with `make_step`. `config`: a Config or its file; by
    default the iii-config.yaml beside the folder, where there is one. What a file says of spans does not
    hold: tests send none to the collector of a service."""
    if not isinstance(config, Config):
        config = _config(steps, config)
    made = load_steps(Path(steps)) if isinstance(steps, Path | str) else list(steps)
    clock = clock or FakeClock()
    return Engine(config, made, store=MemoryStore(clock), clock=clock)


@asynccontextmanager
async def harness(
    steps: Path | str | Sequence[Step] = "steps",
    *,
    config: Config | Path | str | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[Harness]:
    """A started engine, made as `make_engine` does."""
    engine = make_engine(steps, config=config, clock=clock)
    lines: list[LogLine] = []
    with _collecting(lines, engine.config):
        async with engine:
            yield Harness(engine, lines)


@contextmanager
def _collecting(lines: list[LogLine], config: Config) -> Iterator[None]:
    """All of the engine's lines; of other loggers those of handlers, at the configured level."""
    own, root, ours, others = logging.getLogger("iii"), logging.root, _Collector(lines), _Collector(lines)
    others.addFilter(lambda record: "iii_step" in vars(record) and not is_own(record))
    levels = own.level, root.level
    own.addHandler(ours)
    root.addHandler(others)
    own.setLevel(logging.DEBUG)
    root.setLevel(min(root.level, config.log.threshold))
    try:
        yield
    finally:
        own.removeHandler(ours)
        root.removeHandler(others)
        own.setLevel(levels[0])
        root.setLevel(levels[1])


def _config(steps: Path | str | Sequence[Step], file: Path | str | None) -> Config:
    if file is None and isinstance(steps, Path | str):
        file = usual_file(Path(steps).absolute().parent)
    return structs.replace(load(file), traces=None)
