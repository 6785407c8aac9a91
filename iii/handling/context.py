"""What a handler gets: `ctx` (blocking.py has its twin for plain `def` handlers).

Owns one attempt from its start to its settlement. Effects are buffered in a Draft; `settle` commits them
with the ops of whoever settles and ends the context: later use raises HandlerEnded. Knows no source, no
retry rule and no engine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct, field

from iii import trace
from iii.errors import IIIError, UndeclaredTopic
from iii.handling.draft import Draft
from iii.handling.loops import done
from iii.handling.outbox import NORMAL, Delay, Outbox, Priority, UniqueKey
from iii.handling.state import State
from iii.model import NO_EFFECTS, Committed, Enqueue, Hold, Message, Op, Txn
from iii.observe.capture import CapturedLines, NamedEffects
from iii.observe.meters import Figures
from iii.observe.step_logger import StepLogger
from iii.step import Step
from iii.store.contract import Store
from iii.store.patience import Sleep, may_land, patiently
from iii.trace import GENERATIONS_MANY, Sampler, Trace

if TYPE_CHECKING:
    from iii.observe.spans import RunSpan

__all__ = ["Context", "Runtime", "StartedBy"]

Recorded: TypeAlias = Callable[[Sequence[Op]], Sequence[Op]]
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
NOTHING = Committed(0, [])
_first = threading.Lock()
"""Several threads may make an attempt's first call from a loop of their own."""


class StartedBy(Struct, frozen=True):
    """`ctx.trigger`: which of the step's triggers started this run."""

    type: str  # http | queue | cron | state
    index: int = 0
    topic: str | None = None
    method: str | None = None
    path: str | None = None
    expression: str | None = None
    namespace: str | None = None


class Runtime(Struct, frozen=True):
    """What all contexts of an engine share. `captures`: log lines of this level and above are kept for
    the run's record; None: none. `loop`: the one that it is made on, and that the store is read on."""

    store: Store
    outbox: Outbox
    sampler: Sampler = field(default_factory=Sampler)
    captures: int | None = None
    figures: Figures = field(default_factory=Figures)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def count(self, ops: Iterable[Op]) -> None:
        """The messages among what was committed."""
        for op in ops:
            if type(op) is Enqueue:
                self.figures.sent(op.topic)


class Context(Struct, eq=False):
    """One attempt of one step. Its public part is what a handler may use.

    _sleep: how a flush waits for room in a full store; None: it is refused at once, as a request wants it.
    """

    _runtime: Runtime
    _step: Step
    trigger: StartedBy
    started_ms: int
    _trace: Trace | None = None
    _message: Message | None = None
    _sleep: Sleep | None = None
    attempt: int = 1
    headers: Mapping[str, str] = NO_HEADERS
    captured: CapturedLines | None = None  # what it logged so far
    flushed: NamedEffects | None = None  # what it committed before its end
    span: RunSpan | None = None  # where runs are exported as spans
    _draft: Draft | None = None
    _ended: bool = False
    flight: asyncio.Future[Committed] | None = None  # the flush under way
    calls: set[Future[Any]] | None = None  # from loops other than the engine's, under way
    _trace_headers: dict[str, str] | None = None
    _state: State | None = None
    _logger: StepLogger | None = None

    # ------------------------------------------------------------------------- what a handler uses

    @property
    def state(self) -> State:
        """Reads and buffered writes of the durable state."""
        if self._state is None:
            self._state = State(self, self.draft)
        return self._state

    @property
    def logger(self) -> StepLogger:
        """Logs with the step, the attempt and the trace id: `ctx.logger.info("Sent", {"to": name})`."""
        if self._logger is None:
            level = self._runtime.captures
            if level is not None and self.captured is None:
                self.captured = CapturedLines(self._runtime.store.clock.wall_ms, level)
            self._logger = StepLogger(self._step.name, self.attempt, self._told_trace_id, self.captured)
        return self._logger

    @property
    def message_id(self) -> str:
        """The same on every attempt, different for each subscriber's copy, never given again: the idempotency
        key."""
        if self._message is None:
            return f"http-{self.trace.span_id}"
        return self._runtime.store.message_id(self._message.lease.id)

    @property
    def trace_id(self) -> str:
        """32 hex digits, the same from the request to the last message it led to."""
        return self.trace.trace_id

    def now(self) -> datetime:
        """The time on the engine's clock, UTC: the one that tests turn."""
        return datetime.fromtimestamp(self._runtime.store.clock.wall_ms() / 1000, UTC)

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
    ) -> None:
        """Buffer a message for `topic`; it leaves when this attempt's outcome commits.

        Also `enqueue({"topic": …, "data": …, …})`. priority: low, normal, high or 0-255, higher first.
        delay: ms or "5s". group: one at a time, in order; each waits for the commit of the one before (some
        170 a second, see README). unique: a key, or (key, ttl): an equal one still known is not enqueued
        again. UndeclaredTopic, ValidationError, InputError, TooLarge at the call.
        """
        draft, declared = self.draft, self._step.enqueues
        draft.check_open()
        op = self._runtime.outbox.op(
            topic,
            data,
            self.trace_headers,
            priority=priority,
            delay=delay,
            group=group,
            unique=unique,
            headers=headers,
        )
        if declared is not None and op.topic not in declared:
            raise UndeclaredTopic(
                f"{self._step.name} enqueues {op.topic!r}, which its config's enqueues does not name: "
                f"{', '.join(sorted(declared)) or 'none'}",
                file=self._step.file,
                field="enqueues",
            )
        draft.enqueue(op)
        if declared is None:
            self._runtime.outbox.notice(op.topic)
        if self._trace is not None and self._trace.generation >= GENERATIONS_MANY and not op.delay_ms:
            self._descends(self._trace.generation, op.topic)

    def _descends(self, generation: int, topic: str) -> None:
        """Tell, once in a while, of messages that follow from each other without delay, on and on."""
        message = self._message
        assert message is not None, "only messages have generations"
        lane = message.topic, message.step
        if self._runtime.figures.descended(lane, generation, self._runtime.store.clock.wall_ms()):
            self.logger.warning(
                "Messages follow from each other without delay, on and on: a loop, unless the work ends",
                {"generation": generation, "topic": topic},
            )

    async def flush(self) -> None:
        """Commit what is buffered so far, at least once: progress that others must see before the end.

        Returns when all that was written before the call is durable, whichever flush took it along; raises
        when one of them is refused.
        """
        while self.flight is not None:
            await asyncio.shield(self.flight)
        self.draft.check_open()
        while self.clears_ahead:
            await self.clear_ahead()
            while self.flight is not None:
                await asyncio.shield(self.flight)
            self.draft.check_open()
        if ops := self.draft.take().ops:
            await self.commit_apart(ops)

    # ------------------------------------------------------------------- what runs a handler uses

    @property
    def step(self) -> Step:
        return self._step

    @property
    def message(self) -> Message | None:
        return self._message

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._runtime.loop

    @property
    def ended(self) -> bool:
        """Whether its attempt has settled."""
        return self._ended

    @property
    def draft(self) -> Draft:
        """Made when first asked for: many handlers write nothing."""
        if self._draft is None:
            self._draft = Draft(self._runtime.store, ended=self._ended)
        return self._draft

    @property
    def enqueued(self) -> int:
        """How many enqueues are buffered."""
        return 0 if self._draft is None else self._draft.enqueued

    @property
    def has_effects(self) -> bool:
        """Whether `settle` has something to commit, or a flush to wait for."""
        return self.flight is not None or (self._draft is not None and self._draft.buffered)

    @property
    def clears(self) -> bool:
        """Whether something is cleared that is not committed."""
        return self._draft is not None and self._draft.clears

    @property
    def clears_ahead(self) -> bool:
        """Whether `clear_ahead` is needed before `settle` or `end`."""
        return self._draft is not None and self._draft.clears_ahead

    def _told_trace_id(self) -> str:
        return self.trace.trace_id

    def end(self, *, enqueues: bool = True, clears: bool = True) -> Txn:
        """Take what is buffered, with or without the enqueues and what is cleared. Later use: HandlerEnded.

        Lets go of what refers back to this context, so that its memory is free at once: left to the garbage
        collector, thousands of ended contexts push those that run out of the processor's caches.
        """
        draft = self._draft
        self._ended = True
        self._draft = self._state = self._logger = None
        if draft is None:
            return NO_EFFECTS
        draft.ended = True
        return draft.take(enqueues=enqueues, clears=clears)

    @property
    def trace(self) -> Trace:
        """Made when first asked for: most messages neither log nor enqueue."""
        if self._trace is None:
            self._trace = trace.child(self.headers) if self.span is None else self.span.trace
        return self._trace

    @property
    def trace_headers(self) -> dict[str, str]:
        """What this run's messages and changes carry."""
        if self._trace_headers is None:
            self._trace_headers = self.trace.headers()
        return self._trace_headers

    async def settle(self, *ops: Op, keep_open: bool = False, recorded: Recorded | None = None) -> Committed:
        """Commit what is buffered together with `ops` and end the context; no ops at all, no commit.

        A Refusal goes to the caller; nothing was written then. keep_open: the context stays usable (a
        streamed body), `drop()` ends it; what is written later needs `flush()`. recorded: what to commit
        besides, given what was buffered.
        """
        if self.flight is not None:
            if not keep_open:
                self.draft.ended = True
            await self.landed()
        if self.clears_ahead:
            self.draft.ended = not keep_open
            await self.clear_ahead()
        buffered = (self.draft.take() if keep_open else self.end()).ops
        if not buffered and not ops:
            return NOTHING
        headers = self.trace_headers if buffered else {}
        record = recorded(buffered) if recorded is not None else ()
        committed = await self._runtime.store.commit(Txn((*buffered, *ops, *record), headers))
        self._runtime.count(buffered)
        return committed

    def drop(self) -> None:
        """End the context and discard what is buffered; a flush under way waits for room no longer."""
        self._sleep = None
        if self._draft is None and self._state is None and self._logger is None:
            self._ended = True
        else:
            self.end()

    async def clear_ahead(self) -> None:
        """Commit what is cleared beyond what the Txn of the outcome may hold."""
        for ops in self.draft.ahead():
            await self.commit_apart(ops)

    async def commit_apart(self, ops: Iterable[Op]) -> None:
        """Commit `ops` now, apart from what is buffered, provided the attempt still holds its lease."""
        while self.flight is not None:
            await self.landed()
            self.draft.check_open()
        held = () if self._message is None else (Hold(self._message.lease),)
        self.flight = asyncio.ensure_future(self._commit(Txn((*ops, *held), self.trace_headers)))
        self.flight.add_done_callback(self._land)
        await asyncio.shield(self.flight)

    async def landed(self) -> None:
        """Wait until no flush is under way any more; a refusal is for whoever flushed."""
        while self.flight is not None:
            await asyncio.wait((self.flight,))

    def expect(self, call: Future[Any]) -> None:
        """A loop other than the engine's has begun this call, and need not await it."""
        if self.calls is None:
            with _first:
                self.calls = self.calls or set()
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)

    async def arrived(self) -> None:
        """Wait until what other loops have begun so far is done; how it ended is for whoever began it."""
        for call in list(self.calls or ()):
            await done(call)

    def _land(self, flight: asyncio.Future[Committed]) -> None:
        if self.flight is flight:
            self.flight = None
        if not flight.cancelled():
            flight.exception()  # seen, although a cancelled handler no longer waits for it

    async def _commit(self, txn: Txn) -> Committed:
        store, sleep = self._runtime.store, self._sleep
        if sleep is None:
            committed = await store.commit(txn)
        else:
            committed = await patiently(lambda: store.commit(txn), sleep, self._waits)
        if self.flushed is None:
            self.flushed = NamedEffects()
        self.flushed.note(txn.ops)
        self._runtime.count(txn.ops)
        return committed

    def _waits(self, error: IIIError) -> bool:
        return self._sleep is not None and may_land(error)
