"""One request on one route: read, checked, handled, committed, answered. In that order, and once.

What a handler returned commits before its answer is handed out, whatever the status; what raised wrote
nothing. A handler that is late is stopped only before its effects are submitted. The refusals of a commit
are answered as the table in model.py says.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, cast

from msgspec import Struct

from iii import trace
from iii.errors import Conflict, Detail, QueueFull, StepError, StoreClosed, StoreFull, ValidationError
from iii.handling.context import Context
from iii.running.runner import Runner
from iii.running.settler import describe
from iii.step import Response
from iii.web.body import read_body
from iii.web.idempotency import KEY_HEADER, Claim, KeptAnswer, KeptAnswers
from iii.web.refused import Refused
from iii.web.request import Request
from iii.web.response import Answer, answer, check_schema, failure, is_stream, open_headers, respond
from iii.web.router import Route
from iii.web.stream import EVENT_STREAM, Stream

__all__ = ["Exchange", "Means"]

RETRY_AFTER = (b"retry-after", b"1")
_ENGINE_MODULES = frozenset({"iii.web.exchange", "iii.running.runner", "iii.running.invoke"})


class Late(Exception):
    """The handler took longer than http.timeout."""


class Means(Struct, frozen=True):
    """What all exchanges of an endpoint share."""

    runner: Runner
    kept: KeptAnswers
    timeout_ms: int


class Exchange:
    __slots__ = (
        *("_claim", "_ctx", "_kept", "_means", "_request", "_route", "_waiting"),
        *("cancellations", "own_timeout"),
    )

    _ctx: Context

    def __init__(self, means: Means, route: Route, request: Request) -> None:
        self._means, self._route, self._request = means, route, request
        self._claim: Claim | None = None
        self._kept: KeptAnswer | None = None
        self.own_timeout: TimeoutError | None = None
        self.cancellations = _OwnCancellations()
        self._waiting = False  # for another request with the same Idempotency-Key
        request.step = route.step.name
        parent = request.fields.get(b"traceparent")
        request.trace = trace.child({"traceparent": parent.decode("latin-1")}) if parent else trace.new()

    async def run(self) -> Answer:
        try:
            self._read()
            sent = await self._handled()
        except ValidationError as error:
            sent = failure(400, error.message, details=error.details)
        except Refused as error:
            sent = failure(error.status, error.message, details=error.details, headers=error.headers)
        sent.headers.append((b"traceparent", self._request.trace.traceparent.encode()))
        return sent

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
        if request.raw or schemas.body is not None:
            request.body = read_body(request, schemas.body)

    async def _handled(self) -> Answer:
        request, means = self._request, self._means
        ctx = self._ctx = means.runner.open(self._route.step, self._route.started_by, request.trace)
        sent: Answer | None = None
        try:
            sent = await self._commit(await self._in_time())
        except (Refused, GeneratorExit):
            raise
        except BaseException as error:  # whatever a handler raises, SystemExit too, fails its request alone
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            sent = self._failed(error)
        finally:
            if sent is None or not isinstance(sent.body, Stream):
                ctx.drop()
            if self._claim is not None:
                means.kept.release(self._claim)
        return sent

    # ------------------------------------------------------------------------------ up to the response

    async def _in_time(self) -> Response:
        """What the handler answers, within http.timeout."""
        means = self._means
        try:
            within = await means.runner.call(_respond, self._ctx, (self,), timeout_ms=means.timeout_ms)
            return cast(Response, within)
        except TimeoutError as error:
            if error is self.own_timeout:
                raise
        finally:
            if self.cancellations.count:
                await self.cancellations.take_back()
        if self._waiting:
            message = "the first request with this Idempotency-Key is still running; try again"
            raise Refused(409, message, headers=(RETRY_AFTER,))
        self._ctx.logger.warning("No answer within http.timeout", timeout_ms=means.timeout_ms)
        raise Late

    async def respond(self) -> Response:
        trigger, request, ctx = self._route.trigger, self._request, self._ctx
        condition = trigger.condition
        if condition is not None and not await self._means.runner.call(condition, ctx, (request, ctx)):
            raise Refused(404, "not found")
        if trigger.middleware:
            return await self._through(0)
        return respond(await self._innermost())

    async def _through(self, index: int) -> Response:
        """The answer of the middleware at `index`, or of the handler behind the last."""
        middleware = self._route.trigger.middleware
        if index == len(middleware):
            return respond(await self._innermost())
        name = getattr(middleware[index], "__name__", repr(middleware[index]))
        called = False

        async def next() -> Response:
            nonlocal called
            if called:
                raise StepError(f"middleware {name} called next() twice")
            called = True
            return open_headers(await self._through(index + 1))

        value = await self._means.runner.call(middleware[index], self._ctx, (self._request, self._ctx, next))
        if value is None:
            raise StepError(f"middleware {name} returned None; return a response, or `return await next()`")
        return respond(value)

    async def _innermost(self) -> Any:
        """The handler's value, or the answer kept for the Idempotency-Key: behind the middleware, which may
        be what checks who asks."""
        request, ctx = self._request, self._ctx
        if request.method == "POST" and KEY_HEADER in request.fields:
            self._waiting = True
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
            return self._kept.replay()
        sent = answer(response)
        if is_stream(response.body):
            sent.body = self._stream(response.body, sent)
        check_schema(self._route.schemas.responses, sent)
        op = self._means.kept.op(self._claim, sent) if self._claim is not None else None
        try:
            await self._ctx.settle(*([op] if op else ()), keep_open=isinstance(sent.body, Stream))
        except Conflict:
            winner = self._means.kept.winner(self._claim) if self._claim is not None else None
            if winner is None:
                raise
            return winner.replay()
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

    def _failed(self, error: BaseException) -> Answer:
        """What a client is told of an error; the log has the rest."""
        at = self._request.trace
        if isinstance(error, Late):
            return failure(504, "the step took too long", trace=at)
        if isinstance(error, Conflict):
            return failure(409, "what this request builds on has changed; read it again and retry")
        if isinstance(error, StoreFull | QueueFull | StoreClosed):
            self._ctx.logger.warning("Request refused", error=str(error))
            return failure(503, "no room for more work now; try again", headers=(RETRY_AFTER,), trace=at)
        self._ctx.logger.error(f"Request failed: {describe(error)}", exc_info=_without_engine_frames(error))
        return failure(500, "internal error", trace=at)


async def _respond(exchange: Exchange) -> Response:
    """What runs under the deadline. Remembers a TimeoutError of the handler's own, which is no 504."""
    try:
        return await exchange.cancellations.during(exchange.respond())
    except TimeoutError as error:
        exchange.own_timeout = error
        raise


def _without_engine_frames(error: BaseException) -> BaseException:
    """The traceback as the step's author reads it: from the handler on; whole where no handler is in it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _ENGINE_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback) if traceback is not None else error


class _OwnCancellations:
    """Tells a handler that cancels its own task, which fails its request, from a server that cancels it.

    What is asked for while the handler runs is the handler's; while it waits, somebody else's.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    @types.coroutine
    def during(self, work: Coroutine[Any, Any, Response]) -> Generator[Any, Any, Response]:
        """Await `work`, counting."""
        task = asyncio.current_task()
        assert task is not None
        resume, value = cast(Any, work.send), cast(Any, None)
        while True:
            before = task.cancelling()
            try:
                awaited = resume(value)
            except StopIteration as stop:
                return cast(Response, stop.value)
            finally:
                self.count += max(0, task.cancelling() - before)
            try:
                value = yield awaited
                resume = work.send
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                resume, value = work.throw, error

    async def take_back(self) -> None:
        """Leave others' cancellations alone. CancelledError where the handler has not met its own."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(0)
        finally:
            for _ in range(min(self.count, task.cancelling())):
                task.uncancel()
