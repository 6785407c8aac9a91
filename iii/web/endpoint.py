"""The one door for HTTP: `await endpoint.answer(Request)` is an Answer. Knows routes, no sockets and no ASGI.

Transports (asgi.py) bring the head and the whole body, and send the Answer: by then everything the handler
wrote is on disk. They end a streamed body by `Stream.aclose`, whatever happens to the connection. One that
can do without a task for each request (lane/) calls `begin` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from iii.config import HttpConfig
from iii.formats import codec
from iii.observe.health import Instance, health
from iii.running.runner import Runner
from iii.step import Step
from iii.store.contract import Store
from iii.web.cors import Cors
from iii.web.exchange import Exchange, Means
from iii.web.forwarded import Forwarded
from iii.web.idempotency import KeptAnswers
from iii.web.openapi import describe
from iii.web.refused import RETRY_AFTER, Refused
from iii.web.request import Request
from iii.web.response import Answer, failure
from iii.web.router import BadPath, BuiltIn, Route, Router
from iii.web.stream import Stream

__all__ = ["HEALTH", "OPENAPI", "Endpoint"]

Answered: TypeAlias = Callable[[Answer], object]
Begun: TypeAlias = Answer | Coroutine[Any, Any, Answer] | None
Begin: TypeAlias = Callable[[Request, Answered | None], Begun]

HEALTH, OPENAPI = "/health", "/openapi.json"
LOOK_S = 0.5


class Endpoint:
    """Answers requests to the steps' routes, and GET /health and /openapi.json where no step takes them.

    After `drain()` event streams end and /health answers 503; requests that still arrive, on connections that
    were open, are answered. After `shut()` they get 503 with Retry-After.
    """

    def __init__(
        self,
        runner: Runner,
        store: Store,
        steps: Sequence[Step],
        config: HttpConfig,
        answered: Callable[[], object] | None = None,
        others: Callable[[], Iterable[Instance]] = tuple,
    ) -> None:
        """`answered` is called whenever no request is being handled any more. `others`: the other instances,
        for /health."""
        self._others, self._seen, self._look_s = others, _json(503, {}), 0.0
        self.config = config
        self.in_flight = 0
        self._answered = answered
        self.drained, self.is_drained = asyncio.Event(), False
        """Set from `drain()` on: transports end a connection with the answer to its next request."""
        self._is_shut = False
        self._cors = Cors(config.cors) if config.cors is not None else None
        self._means = Means(
            runner=runner,
            store=store,
            kept=KeptAnswers(store, config),
            timeout_ms=config.timeout_ms,
            loop=asyncio.get_running_loop(),
        )
        self._forwarded = Forwarded(config.trusted_proxies)
        self._begin_inside: Begin = self._begin if self._cors is None else self._begin_with_cors
        self.begin: Begin = self._begin_forwarded if config.trusted_proxies else self._begin_inside
        pages = BuiltIn(HEALTH, self._health), BuiltIn(OPENAPI, _once(lambda: self._openapi()))
        self.router = Router(steps, pages)

    def refuse(self, request: Request, refused: Refused) -> Answer:
        """The answer of a transport that does not let `request` through."""
        sent = failure(refused.status, refused.message, details=refused.details, headers=refused.headers)
        if self._cors is not None:
            self._cors.mark(request, sent)
        return sent

    def reads(self, method: str, raw_path: str) -> bool:
        """Whether the answer depends on a body: a step takes the request."""
        if self._is_shut:
            return False
        try:
            match = self.router.match(method, raw_path)
        except BadPath:
            return False
        return match is not None and not isinstance(match[0], BuiltIn)

    def drain(self) -> None:
        """The engine stops soon."""
        self.is_drained = True
        self.drained.set()

    def shut(self) -> None:
        """Refuse what comes from now on; requests that have begun go on."""
        self._is_shut = True
        self.drain()

    async def answer(self, request: Request) -> Answer:
        begun = self.begin(request, None)
        if isinstance(begun, Answer):
            return begun
        assert begun is not None
        return await begun

    def _begin(self, request: Request, answered: Answered | None) -> Begun:
        """The answer, where nothing has to be waited for. Else a coroutine that returns it; or None:
        `answered`, if there is one, is called with it later.

        To be called, and the rest awaited, inside a task: the handler sees it as its own.
        """
        try:
            match = self.router.match(request.method, request.raw_path)
        except BadPath as error:
            return _for_method(request, failure(400, str(error)))
        if match is None:
            return _for_method(request, self._unrouted(request))
        route, request.path, params = match
        if isinstance(route, BuiltIn):
            return _for_method(request, route.answer())
        if self._is_shut:
            return _for_method(request, failure(503, "shutting down", headers=(RETRY_AFTER,)))
        if params:
            request.path_params = params
        exchange = self._exchange(route, request)
        begun = exchange.begin(answered is not None)
        if type(begun) is Answer and type(begun.body) is not Stream:
            return begun if request.method != "HEAD" else _for_method(request, begun)
        self.in_flight += 1
        if begun is not None:
            return self._rest(request, begun)
        assert answered is not None
        exchange.answered = partial(self._committed, request, answered)
        return None

    def _exchange(self, route: Route, request: Request) -> Exchange:
        """One on this route, and in the trace of who asks."""
        runner = self._means.runner
        parent = request.fields.get(b"traceparent")
        if parent is None:
            trace = runner.sampler.root()
        else:
            trace = runner.sampler.child({"traceparent": parent.decode("latin-1")})
        request.step, request.trace = route.step.name, trace
        ctx = runner.open(route.step, route.started_by, trace)
        return Exchange(self._means, route, request, ctx, perf_counter())

    async def _rest(self, request: Request, begun: Answer | Coroutine[Any, Any, Answer]) -> Answer:
        try:
            sent = begun if isinstance(begun, Answer) else await begun
            if request.method == "HEAD" and isinstance(sent.body, Stream):
                await sent.body.aclose()
            return _for_method(request, sent)
        finally:
            self._one_less()

    def _committed(self, request: Request, answered: Answered, sent: Answer) -> None:
        self._one_less()
        answered(_for_method(request, sent))

    def _one_less(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and self._answered is not None:
            self._answered()

    def _begin_forwarded(self, request: Request, answered: Answered | None) -> Begun:
        self._forwarded.apply(request)
        return self._begin_inside(request, answered)

    def _begin_with_cors(self, request: Request, answered: Answered | None) -> Begun:
        cors = self._cors
        assert cors is not None

        def mark(sent: Answer) -> Answer:
            cors.mark(request, sent)
            return sent

        async def rest(begun: Coroutine[Any, Any, Answer]) -> Answer:
            return mark(await begun)

        marked = None if answered is None else lambda sent: answered(mark(sent))
        begun = cors.preflight(request) or self._begin(request, marked)
        if begun is None:
            return None
        return mark(begun) if isinstance(begun, Answer) else rest(begun)

    def _unrouted(self, request: Request) -> Answer:
        allowed = self.router.allowed(request.raw_path)
        allow = ((b"allow", ", ".join(allowed).encode()),)
        if request.method == "OPTIONS" and allowed:
            return Answer(204, list(allow))
        if allowed:
            return failure(
                405, f"{request.method} is not allowed here; allowed: {', '.join(allowed)}", headers=allow
            )
        return failure(404, "not found")

    def _health(self) -> Answer:
        """Looks at the others' boards twice a second at most, however often it is asked."""
        draining, now_s = self.drained.is_set(), self._means.loop.time()
        if draining or now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._seen = _json(*health(draining=draining, others=self._others()))
        return Answer(self._seen.status, list(self._seen.headers), self._seen.body)

    def _openapi(self) -> Answer:
        return _json(200, describe(self.router.routes))


def _json(status: int, body: object) -> Answer:
    encoded = codec.encode(body)
    length = str(len(encoded)).encode()
    return Answer(status, [(b"content-type", b"application/json"), (b"content-length", length)], encoded)


def _once(make: Callable[[], Answer]) -> Callable[[], Answer]:
    """`make` called when first needed; each caller gets an Answer of its own."""
    made: list[Answer] = []

    def answer() -> Answer:
        if not made:
            made.append(make())
        return Answer(made[0].status, list(made[0].headers), made[0].body)

    return answer


def _for_method(request: Request, sent: Answer) -> Answer:
    """HEAD: the headers GET would get, content-length included."""
    if request.method == "HEAD":
        sent.body = b""
    return sent
