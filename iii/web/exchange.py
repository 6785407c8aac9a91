"""One request on one route: read, checked, handled, committed, answered. In that order, and once.

What a handler returned commits before its answer is handed out, whatever the status; what raised wrote
nothing. A handler that is late is stopped only before its effects are submitted. The refusals of a commit
are answered as the table in model.py says.

A handler that never waits is answered without a coroutine of ours, and one with effects takes the outcome of
its commit itself (store.contract.Answer): neither costs a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import perf_counter
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from iii.errors import Conflict, Detail, StepError, StoreFull, ValidationError
from iii.handling.context import Context
from iii.model import Committed, Op, Txn
from iii.observe.capture import told_traceback
from iii.running.invoke import Late, Waiting
from iii.running.returned import yes
from iii.running.runner import Runner
from iii.running.settler import describe
from iii.step import Response
from iii.store.contract import Store
from iii.web.blame import of_request
from iii.web.body import read_body, require_storable
from iii.web.failing import refusal, told, told_blamed, without_engine_frames
from iii.web.idempotency import KEY_HEADER, Claim, KeptAnswer, KeptAnswers
from iii.web.middleware import Next
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.request import Request
from iii.web.response import Answer, answer, check_schema, failure, is_stream, respond
from iii.web.router import Route
from iii.web.stream import EVENT_STREAM, Stream

__all__ = ["Exchange", "Means"]


class Means(Struct, frozen=True):
    """What all exchanges of an endpoint share."""

    runner: Runner
    store: Store
    kept: KeptAnswers
    timeout_ms: int
    loop: asyncio.AbstractEventLoop


class Exchange(Struct, eq=False):
    """`cancelled`: how often the handler cancelled its own task, which fails its request. A server that does
    ends it. What is asked for while the handler runs is its own; while it waits, somebody else's.

    `answered` is to be set when `begin` gives None."""

    _means: Means
    _route: Route
    _request: Request
    _ctx: Context
    _began_s: float  # perf_counter()
    answered: Callable[[Answer], object] | None = None
    _posted: tuple[Answer, Txn] | None = None  # while what it wrote is committed
    _claim: Claim | None = None
    _kept: KeptAnswer | None = None
    _waiting: bool = False  # for another request with the same Idempotency-Key
    _error: BaseException | None = None
    _is_plain: bool = True  # nothing is to be taken back, to be released or to be answered from the store
    _is_recorded: bool = False
    cancelled: int = 0

    def begin(self, posts: bool) -> Answer | Coroutine[Any, Any, Answer] | None:
        """The answer, where nothing has to be waited for; else what returns it. None, if it `posts`:
        `answered` gets it when its effects are on disk. To be called, and the rest awaited, inside a task."""
        request, route, ctx = self._request, self._route, self._ctx
        if request.raw or request.query_string or route.is_checked:
            try:
                refusal = self._refusal()
            except Exception as error:  # of a validator that a step brought along
                return self._closed(self._failed(error))
            if refusal is not None:
                return self._told(refusal)
        try:
            value = self._begin()
            if type(value) is Waiting or not self._is_plain:
                return self._rest(value)
            response = respond(value)
            if not ctx.has_effects:
                return self._closed(self._encode(response))
            if posts and ctx.flight is None and not ctx.clears_ahead and not is_stream(response.body):
                return self._post(response)
            return self._rest(response)
        except BaseException as error:  # whatever a handler raises, SystemExit too, fails its request alone
            return self._closed(self._failed(error)) if self._is_plain else self._rest(error=error)

    async def _rest(self, value: Any = None, error: BaseException | None = None) -> Answer:
        """The answer, from what the handler returned or raised, or from a Waiting."""
        try:
            if error is not None:
                raise error
            if isinstance(value, Waiting):
                value = await self._in_time(value)
            if self.cancelled:
                await self._take_back()
            if self._ctx.calls:
                await self._ctx.arrived()
            response = respond(value)
            if self._kept is None and self._claim is None and not self._ctx.has_effects:
                return self._closed(self._encode(response))
            return self._closed(await self._commit(response))
        except GeneratorExit:
            self._ctx.drop()
            raise
        except BaseException as raised:
            return self._closed(await self._failed_late(raised))
        finally:
            if self._claim is not None:
                self._means.kept.release(self._claim)

    def _closed(self, sent: Answer) -> Answer:
        """`sent`, there being nothing left to do but for a streamed body."""
        if type(sent.body) is not Stream:
            self._ctx.drop()
        if self._means.runner.recorder.keeps and not self._is_recorded:
            self._record_apart(sent.status)
        if self._ctx.span is not None:
            self._means.runner.recorder.export(self._ctx.span)
        return self._told(sent)

    def _told(self, sent: Answer) -> Answer:
        self._route.meter.add(sent.status, perf_counter() - self._began_s)
        sent.headers.append((b"traceparent", self._request.trace.traceparent.encode()))
        return sent

    def _refusal(self) -> Answer | None:
        """The answer to a request whose body or query is not what the schemas want; None where it is."""
        try:
            self._read()
        except ValidationError as error:
            return failure(400, error.message, details=error.details)
        except Refused as error:
            return refusal(error)
        return None

    def _read(self) -> None:
        """Body and query as their schemas want them. ValidationError or Refused."""
        request, schemas = self._request, self._route.schemas
        if request.query_string or schemas.query is not None:
            try:
                query = request.query
            except ValueError as error:
                reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                raise ValidationError("invalid query string", (Detail("query", reason),)) from None
            if schemas.query is not None:
                request.query_params = schemas.query.validate_query(query.lists())
                require_storable(request.query_params, query.lists, request.query_string)
        if request.raw or schemas.body is not None:
            request.body = read_body(request, schemas.body)

    # ------------------------------------------------------------------------------ up to the response

    def _begin(self) -> Any:
        """What the handler returns, or a Waiting. What stands before it makes one chain with it."""
        route, ctx, runner = self._route, self._ctx, self._means.runner
        try:
            if route.is_direct and (self._request.method != "POST" or not self._has_key()):
                return runner.begin(route.step.handler, (self._request, ctx)[: route.step.arity], ctx)
            return runner.begin(self.respond, (), ctx)
        finally:  # nothing was awaited since the request was whole: nobody else can have cancelled it
            task = asyncio.current_task(self._means.loop)
            if task is not None and task.cancelling():
                self.cancelled, self._is_plain = task.cancelling(), False

    async def _in_time(self, waiting: Waiting) -> Any:
        """What a handler that waits returns, within http.timeout."""
        means = self._means
        try:
            work = cast(Coroutine[Any, Any, Any], _Counted(self, waiting.work))
            return await means.runner.finish(replace(waiting, work=work), means.timeout_ms)
        except Late:
            if self._waiting:
                message = "the first request with this Idempotency-Key is still running; try again"
                raise Refused(409, message, headers=(RETRY_AFTER,)) from None
            told = {"timeout_ms": means.timeout_ms}
            self._ctx.logger.tell(logging.WARNING, "No answer within http.timeout", told)
            raise

    async def _take_back(self) -> None:
        """Take the handler's own cancellations back, but leave others' alone. CancelledError where it has not
        met its own yet."""
        task = asyncio.current_task()
        assert task is not None
        count, self.cancelled = self.cancelled, 0
        try:
            await asyncio.sleep(0)
        finally:
            for _ in range(min(count, task.cancelling())):
                task.uncancel()

    def _has_key(self) -> bool:
        return self._request.method == "POST" and KEY_HEADER in self._request.fields

    async def respond(self) -> Response:
        condition, request, ctx = self._route.condition, self._request, self._ctx
        if condition is not None and not yes(await self._means.runner.call(condition, ctx, (request, ctx))):
            raise Refused(404, "not found")
        if self._route.middleware:
            return await self._through(0)
        return respond(await self._innermost())

    async def _through(self, index: int) -> Response:
        """The answer of the middleware at `index`, or of the handler behind the last."""
        if index == len(self._route.middleware):
            return respond(await self._innermost())
        middleware = self._route.middleware[index]
        behind = Next(middleware.function, self._ctx, partial(self._through, index + 1))
        try:
            value = await self._means.runner.call(middleware, self._ctx, (self._request, self._ctx, behind))
        finally:
            behind.end()
        if value is None:
            raise StepError(f"{behind} returned None; return a response, or `return await next()`")
        return respond(value)

    async def _innermost(self) -> Any:
        """The handler's value, or the answer kept for the Idempotency-Key: behind the middleware, which may
        be what checks who asks."""
        request, ctx = self._request, self._ctx
        if self._has_key():
            self._waiting, self._is_plain = True, False
            found = await self._means.kept.claim(request)
            self._waiting = False
            if isinstance(found, KeptAnswer):
                self._kept = found
                return found.response()
            self._claim = found
        return await self._means.runner.call(self._route.step, ctx, (request, ctx))

    # ----------------------------------------------------------------------------- from the response on

    async def _commit(self, response: Response) -> Answer:
        """The answer to send, its effects being on disk. A Refusal of the store wrote nothing."""
        if self._kept is not None and response.status == self._kept.status:
            await self._ctx.settle()  # what the middleware wrote
            return self._kept.replay(response)
        sent = self._encode(response)
        op = self._means.kept.op(self._claim, sent) if self._claim is not None else None
        try:
            await self._ctx.settle(
                *([op] if op else ()),
                keep_open=isinstance(sent.body, Stream),
                recorded=lambda buffered: self._recorded(buffered, sent.status),
            )
        except Conflict:
            winner = self._means.kept.winner(self._claim) if self._claim is not None else None
            if winner is None:
                raise
            return winner.replay()
        return sent

    def _post(self, response: Response) -> Coroutine[Any, Any, Answer] | None:
        """As `_commit`, but this takes the outcome itself. A coroutine where the store has no room yet."""
        sent = self._encode(response)
        effects = self._ctx.end()
        records = self._recorded(effects.ops, sent.status)
        txn = Txn((*effects.ops, *records), self._ctx.trace_headers, effects.checked)
        self._posted = sent, txn
        try:
            self._means.store.post(txn, self)
        except StoreFull:
            return self._posted_late(sent, txn)
        return None

    async def _posted_late(self, sent: Answer, txn: Txn) -> Answer:
        try:
            await self._means.store.commit(txn)
            self._means.runner.count(txn.ops)
        except Exception as error:
            sent = self._failed(error)
        return self._closed(sent)

    # ------------------------------------------------------------------- store.contract.Answer

    def done(self) -> bool:
        return False

    def set_result(self, _: Committed) -> None:
        assert self.answered is not None and self._posted is not None
        sent, txn = self._posted
        self._means.runner.count(txn.ops)
        self.answered(self._closed(sent))

    def set_exception(self, error: Exception) -> None:
        assert self.answered is not None
        self.answered(self._closed(self._failed(error)))

    # ------------------------------------------------------------------------------ the answer

    def _encode(self, response: Response) -> Answer:
        sent = answer(response)
        if not sent.body and is_stream(response.body):
            sent.body = self._stream(response.body, sent)
        if self._route.schemas.responses:
            check_schema(self._route.schemas.responses, sent)
        return sent

    def _stream(self, source: Any, sent: Answer) -> Stream:
        events = sent.header(b"content-type").partition(b";")[0].strip().lower() == EVENT_STREAM
        if events and not sent.header(b"cache-control"):
            sent.headers.append((b"cache-control", b"no-cache"))
        runner, ctx = self._means.runner, self._ctx
        return Stream(
            source,
            events=events,
            call=lambda function: runner.call(function, ctx, (source,)),
            ended=ctx.drop,
            logger=ctx.logger,
        )

    def _recorded(self, buffered: Sequence[Op], status: int) -> tuple[Op, ...]:
        """The record of this run, for the commit of its effects; nothing where it is not kept."""
        self._is_recorded = True
        recorder = self._means.runner.recorder
        if not recorder.keeps or not (self._request.trace.sampled or status >= 500):
            return ()
        seconds = perf_counter() - self._began_s
        return recorder.of_request(self._ctx, buffered, seconds=seconds, status=status)

    def _record_apart(self, status: int) -> None:
        """Of a run that commits nothing: it had no effects, or wrote none of them."""
        recorder, error = self._means.runner.recorder, self._error
        if not (error or status >= 500 or self._request.trace.sampled):
            return
        records = recorder.of_request(
            self._ctx,
            (),
            seconds=perf_counter() - self._began_s,
            status=status,
            failed=error is not None,
            error=describe(error) if error else "",
            traceback=told_traceback(without_engine_frames(error)) if error else "",
        )
        recorder.later(*records)

    async def _failed_late(self, error: BaseException) -> Answer:
        """As `_failed`, after others had their turn. Raises again what cancels the request."""
        if self.cancelled:
            try:
                await self._take_back()
            except asyncio.CancelledError as cancelled:
                error = cancelled
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            self._ctx.drop()
            raise error
        return self._failed(error)

    def _failed(self, error: BaseException) -> Answer:
        self._is_recorded = False
        if (blamed := of_request(error, self._request)) is not None:
            self._error = error
            return told_blamed(blamed, error, self._ctx)
        if not isinstance(error, Refused):
            self._error = error
        return told(error, self._ctx, self._request.trace)


class _Counted:
    """A handler's coroutine; counts how often it cancels its own task while it runs."""

    __slots__ = ("_exchange", "_task", "_work")

    def __init__(self, exchange: Exchange, work: Coroutine[Any, Any, Any]) -> None:
        self._exchange, self._work = exchange, work
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    def send(self, value: Any) -> Any:
        return self._run(self._work.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._run(self._work.throw, error)

    def close(self) -> None:
        self._work.close()

    def _run(self, resume: Callable[[Any], Any], value: Any) -> Any:
        before = self._task.cancelling()
        try:
            return resume(value)
        finally:
            self._exchange.cancelled += max(0, self._task.cancelling() - before)
