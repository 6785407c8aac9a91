"""The one door for HTTP: `Endpoint(Request) -> Answer`. Knows routes and limits, no sockets and no ASGI.

Transports (asgi.py) bring the head and the whole body, and send the Answer: by then everything the handler
wrote is on disk. They end a streamed body by `Stream.aclose`, whatever happens to the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from iii.config import HttpConfig
from iii.formats import codec
from iii.running.runner import Runner
from iii.step import Step
from iii.store.contract import Store
from iii.web.cors import Cors
from iii.web.exchange import Exchange, Means
from iii.web.idempotency import KeptAnswers
from iii.web.openapi import describe
from iii.web.refused import Refused
from iii.web.request import Request
from iii.web.response import Answer, failure
from iii.web.router import BadPath, BuiltIn, Router
from iii.web.stream import Stream

__all__ = ["HEALTH", "OPENAPI", "Endpoint"]

HEALTH, OPENAPI = "/health", "/openapi.json"


class Endpoint:
    """Answers requests to the steps' routes, and GET /health and /openapi.json where no step takes them.

    After `drain()` requests are answered 503 with Retry-After, and event streams end.
    """

    def __init__(self, runner: Runner, store: Store, steps: Sequence[Step], config: HttpConfig) -> None:
        self.config = config
        self.drained = asyncio.Event()
        """Set from `drain()` on."""
        self._cors = Cors(config.cors) if config.cors is not None else None
        self._means = Means(
            runner=runner,
            kept=KeptAnswers(store, config.idempotency_ttl_ms),
            timeout_ms=config.timeout_ms,
        )
        pages = BuiltIn(HEALTH, self._health), BuiltIn(OPENAPI, _once(lambda: self._openapi()))
        self.router = Router(steps, pages)

    async def __call__(self, request: Request) -> Answer:
        if self._cors is None:
            return await self._answer(request)
        sent = self._cors.preflight(request) or await self._answer(request)
        self._cors.mark(request, sent)
        return sent

    def refuse(self, request: Request, refused: Refused) -> Answer:
        """The answer of a transport that does not let `request` through."""
        sent = failure(refused.status, refused.message, details=refused.details, headers=refused.headers)
        if self._cors is not None:
            self._cors.mark(request, sent)
        return sent

    def drain(self) -> None:
        """Refuse what comes from now on; requests that have begun go on."""
        self.drained.set()

    async def _answer(self, request: Request) -> Answer:
        try:
            match = self.router.match(request.method, request.raw_path)
        except BadPath as error:
            return failure(400, str(error))
        if match is None:
            return self._unrouted(request)
        request.path, request.path_params = match.path, match.params
        if isinstance(match.route, BuiltIn):
            sent = match.route.answer()
        elif self.drained.is_set():
            sent = failure(503, "shutting down", headers=((b"retry-after", b"1"),))
        else:
            sent = await Exchange(self._means, match.route, request).run()
        if request.method == "HEAD":
            await _leave_out_body(sent)
        return sent

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
        if self.drained.is_set():
            return _json(503, {"status": "draining"})
        return _json(200, {"status": "ok"})

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


async def _leave_out_body(sent: Answer) -> None:
    """HEAD: the headers GET would get, content-length included."""
    if isinstance(sent.body, Stream):
        await sent.body.aclose()
    sent.body = b""
