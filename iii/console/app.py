"""The console as an ASGI application: guards each request, finds its page, turns what it returns into an
answer.

Pages are modules with `ROUTES`: (method, path, function). A function takes an Ask and returns what is
encoded as JSON, or a Response. Routes are matched on the encoded path, part by part: `a%2Fb` is one part.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

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
from iii.console.answers import error, json, refusal, refused
from iii.console.asks import Ask, path_of
from iii.console.bodies import Arriving, Drops, arriving_body
from iii.console.files import file
from iii.console.login import Logins
from iii.console.means import Means
from iii.console.security import HEADERS, Denied, Guard, Visit
from iii.console.sessions import Sessions
from iii.errors import IIIError, StoreError

__all__ = ["App", "app", "refused"]

PAGES = (
    audit_page, config_page, crons, dead, events, flow, health, instances, logs, messages, overview, queues,
    routes, runs, state, steps, traces,
)  # fmt: skip

Handler: TypeAlias = Callable[[Ask], Any]
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

log = logging.getLogger("iii.console")


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
    """The application over a running engine. `open` comes first."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._sessions = Sessions(means.store, (means.config.console.token or "").encode())
        self._guard = Guard(means.config.console, self._sessions, means.store.clock.delay_ms)
        self.hosts = self._guard.hosts
        self._logins = Logins(self._guard, self._sessions, means)
        self.hub = events.hub(means)
        self._table, self._drops = list(_routes()), Drops()

    async def open(self) -> None:
        if self._means.config.console.token is None:
            return
        try:
            await self._sessions.open()
        except StoreError as reason:
            log.warning(
                "The console begins without its sessions, they are read at the next login: %s", reason
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            body = Arriving(scope, receive)
            response = await self._answered(Request(scope, body.receive))
            await response(scope, body.receive, _finished(send, scope, body, self._drops))

    async def _answered(self, request: Request) -> Response:
        """Whatever was sent: what is wrong with it is an InputError, raised where it is read (asks.py); all
        other errors are ours."""
        try:
            return await self._answer(request)
        except IIIError as reason:
            return refusal(reason)
        except Exception:
            log.exception("The console could not answer %s %s", request.method, request.scope["path"])
            return error(500, "the console failed at this; the log says why")

    async def _answer(self, request: Request) -> Response:
        parts = path_of(request.scope)
        peer = request.client.host if request.client else "unknown"
        visit = self._guard.visit(request.headers, peer, request.scope["scheme"])
        judged = self._guard.judge(request.method, parts, request.headers, visit)
        if isinstance(judged, Denied):
            return await self._logins.refused(judged, visit)
        if parts in (["api", "login"], ["api", "logout"]):
            return await self._logins.answer(request, judged, parts[1])
        if request.method in ("GET", "HEAD") and (parts == [""] or parts[:1] == ["static"]):
            found = file(request, ["index.html"] if parts == [""] else parts[1:])
            return found or error(404, "no such file")
        response = await self._page(request, parts, judged)
        if judged.session is not None and (cookie := self._sessions.renewed(judged.session)) is not None:
            response.headers.append("set-cookie", self._guard.set_cookie(judged, cookie))
        return response

    async def _page(self, request: Request, parts: list[str], visit: Visit) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        matches = [(route, found) for route in self._table if (found := route.match(parts)) is not None]
        if not matches:
            return error(404, "no such page; docs/api.md lists what there is")
        chosen = next(((route, found) for route, found in matches if route.method == method), None)
        if chosen is None:
            allowed = ", ".join(sorted({route.method for route, _ in matches}))
            return error(405, f"{method} is not allowed here; allowed: {allowed}", {"allow": allowed})
        route, found = chosen
        body = b"" if method == "GET" else await arriving_body(request)
        lives = partial(self._lives, visit)
        ask = Ask(self._means, self.hub, request, found, body, visit, lives)
        answer = route.handler(ask)
        if inspect.isawaitable(answer):
            answer = await answer
        return answer if isinstance(answer, Response) else json(200, answer)

    def _lives(self, visit: Visit) -> bool:
        """Whether who was let in would still be."""
        try:
            return visit.session is None or self._sessions.lives(visit.session)
        except StoreError:  # it closes
            return False


def app(means: Means) -> App:
    return App(means)


def _routes() -> Iterable[Route]:
    for page in PAGES:
        for method, path, handler in page.ROUTES:
            yield Route(method, tuple(path.split("/")[1:]), handler)


def _finished(send: Send, scope: Scope, body: Arriving, drops: Drops) -> Send:
    """`send` with what every answer has; where not all of its request has come, it ends the connection."""
    lasts = body.ended

    async def wrapped(event: Any) -> None:
        nonlocal lasts
        if event["type"] == "http.response.start":
            headers = [*event.get("headers", ()), *HEADERS]
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            lasts = body.ended
            if not lasts and scope.get("http_version", "1.1").startswith("1"):
                headers.append((b"connection", b"close"))
            await send({**event, "headers": headers})
        elif lasts or event.get("more_body", False):
            await send(event)
        else:
            await send({**event, "more_body": True})
            await drops.drop(body)
            await send({"type": "http.response.body", "body": b""})

    return wrapped
