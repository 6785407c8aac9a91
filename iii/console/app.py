"""The console as an ASGI application: guards each request, finds its page, turns what it returns into an
answer.

Pages are modules with `ROUTES`: (method, path, function). A function takes an Ask and returns what is
encoded as JSON, or a Response. Routes are matched on the encoded path, part by part: `a%2Fb` is one part.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from iii.console import (
    audit_page,
    config_page,
    crons,
    dead,
    events,
    flow,
    health,
    instances,
    logs,
    messages,
    overview,
    queues,
    routes,
    runs,
    state,
    steps,
    traces,
)
from iii.console.asks import Ask, BadField, Missing, Stale, client_of, path_of, read_body
from iii.console.files import file
from iii.console.means import Means
from iii.console.security import COOKIE, HEADERS, Guard, Refused
from iii.errors import Conflict, IIIError, InputError, QueueFull, StepError, StoreError, TooLarge
from iii.model import Txn
from iii.store.audit import LOGIN_REFUSED, Actor

__all__ = ["App", "app"]

PAGES = (
    audit_page, config_page, crons, dead, events, flow, health, instances, logs, messages, overview, queues,
    routes, runs, state, steps, traces,
)  # fmt: skip

GONE = f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"

Handler: TypeAlias = Callable[[Ask], Any]
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

log = logging.getLogger("iii.console")

STATUSES: tuple[tuple[type[IIIError], int], ...] = (
    (Missing, 404), (Stale, 409), (Conflict, 409), (TooLarge, 413), (QueueFull, 503), (StoreError, 503),
    (InputError, 400), (StepError, 400),
)  # fmt: skip
"""By the first that fits."""


class Route(NamedTuple):
    method: str
    parts: tuple[str, ...]
    handler: Handler

    def match(self, parts: list[str]) -> dict[str, str] | None:
        if len(parts) != len(self.parts):
            return None
        found: dict[str, str] = {}
        for pattern, part in zip(self.parts, parts, strict=True):
            if pattern[:1] == "{":
                found[pattern[1:-1]] = part
            elif pattern != part:
                return None
        return found


class App:
    """The application over a running engine."""

    def __init__(self, means: Means) -> None:
        self._means, self._guard = means, Guard(means.config.console, means.store.clock.delay_ms)
        self.hub = events.hub(means)
        self._table = list(_routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, _with_headers(send, scope["path"]))

    async def _answer(self, request: Request) -> Response:
        parts = path_of(request.scope)
        refused = self._guard.refusal(request.method, parts, request.headers, client_of(request))
        if refused is not None:
            return await self._refused(request, refused)
        if parts in (["api", "login"], ["api", "logout"]):
            return await self._log_in_or_out(request, parts[1])
        if request.method in ("GET", "HEAD") and (parts == [""] or parts[0] == "static"):
            found = file(request, ["index.html"] if parts == [""] else parts[1:])
            return found or _error(404, "no such file")
        return await self._page(request, parts)

    async def _log_in_or_out(self, request: Request, which: str) -> Response:
        if request.method != "POST":
            return _error(405, f"{request.method} is not allowed here; allowed: POST", {"allow": "POST"})
        if which == "logout":
            return _json(200, {"ok": True}, {"set-cookie": GONE})
        if (refused := self._guard.must_wait(client_of(request))) is None:
            try:
                given = msgspec.json.decode(await read_body(request), type=_Login)
            except (msgspec.DecodeError, InputError):
                return _error(400, 'send {"token": "..."}')
            refused = self._guard.login(given.token, client_of(request))
        if refused is not None:
            return await self._refused(request, refused)
        cookie = self._guard.new_cookie(secure=request.url.scheme == "https")
        return _json(200, {"ok": True}, {"set-cookie": cookie})

    async def _refused(self, request: Request, refused: Refused) -> Response:
        """A wrong token is told in the log; in the audit log the first, and the first that is too many."""
        if (guess := refused.guess) is not None:
            client = client_of(request)
            log.warning("Console: a wrong token from %s", client, extra={"fields": {"so_far": guess.count}})
            if guess.is_news:
                row = Actor(f"console {client}").did(
                    self._means.store, LOGIN_REFUSED, wrong_tokens=guess.count
                )
                with suppress(IIIError):  # a store without room: the log has it
                    await self._means.store.commit(Txn((row,)))
        headers = {"retry-after": str(refused.retry_s)} if refused.retry_s else None
        return _error(refused.status, refused.message, headers)

    async def _page(self, request: Request, parts: list[str]) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        matches = [(route, found) for route in self._table if (found := route.match(parts)) is not None]
        if not matches:
            return _error(404, "no such page; docs/api.md lists what there is")
        chosen = next(((route, found) for route, found in matches if route.method == method), None)
        if chosen is None:
            allowed = ", ".join(sorted({route.method for route, _ in matches}))
            return _error(405, f"{method} is not allowed here; allowed: {allowed}", {"allow": allowed})
        route, found = chosen
        try:
            body = b"" if method == "GET" else await read_body(request)
            answer = route.handler(Ask(self._means, self.hub, request, found, body))
            if inspect.isawaitable(answer):
                answer = await answer
            return answer if isinstance(answer, Response) else _json(200, answer)
        except IIIError as error:
            return _refusal(error)
        except Exception:
            log.exception("The console could not answer %s %s", request.method, request.scope["path"])
            return _error(500, "the console failed at this; the log says why")


def app(means: Means) -> App:
    return App(means)


def _routes() -> Iterable[Route]:
    for page in PAGES:
        for method, path, handler in page.ROUTES:
            yield Route(method, tuple(path.split("/")[1:]), handler)


class _Login(msgspec.Struct):
    token: str


# -------------------------------------------------------------------------------------------- answers


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None, **more: object) -> Response:
    return _json(status, {"error": {"message": message}, **more}, headers)


def _refusal(error: IIIError) -> Response:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, BadField):
        return _json(status, {"error": {"message": str(error), "field": error.field}})
    if isinstance(error, Stale):
        return _error(status, str(error), current=error.current)
    return _error(status, str(error))


def _with_headers(send: Send, path: str) -> Send:
    async def wrapped(event: Any) -> None:
        if event["type"] == "http.response.start":
            headers = [*event.get("headers", ()), *HEADERS]
            if path.startswith("/api/") or path == "/metrics":
                headers.append((b"cache-control", b"no-store"))
            event = {**event, "headers": headers}
        await send(event)

    return wrapped
