"""/api/login and /api/logout: how a session begins and ends. Before it began nobody is known, so what may be
sent is small, has little time to arrive, and few may be sending: the one that has been at it longest makes
room. A login that comes at once finds a place, however many others stay in theirs.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from iii.console.answers import error, json
from iii.console.guesses import network_of
from iii.console.means import Means
from iii.console.security import Denied, Guard, Visit
from iii.console.sessions import Sessions
from iii.errors import IIIError
from iii.model import Txn
from iii.store.audit import LOGIN_REFUSED

__all__ = ["ARRIVING_MAX", "ARRIVING_OF_ONE_MAX", "BYTES_MAX", "Logins"]

BYTES_MAX = 4 << 10
ARRIVE_S = 5.0
ARRIVING_MAX, ARRIVING_OF_ONE_MAX = 64, 16
"""Far fewer than a console has connections: others keep a place, whoever takes these."""
SHAPE = 'send {"token": "..."}'
SLOW = Denied(408, f"the login did not arrive within {ARRIVE_S:g} s")
LARGE = Denied(413, f"a login has at most {BYTES_MAX} bytes")
OUTDONE = Denied(503, "too many logins are on their way; try again", 1)

log = logging.getLogger("iii.console")


class _Login(msgspec.Struct):
    token: str


class Logins:
    """Of one console."""

    def __init__(self, guard: Guard, sessions: Sessions, means: Means) -> None:
        self._guard, self._sessions, self._means = guard, sessions, means
        self._arriving: dict[_Arriving, None] = {}  # the oldest first

    async def answer(self, request: Request, visit: Visit, which: str) -> Response:
        if request.method != "POST":
            return error(405, f"{request.method} is not allowed here; allowed: POST", {"allow": "POST"})
        if which == "logout":
            return await self._log_out(request, visit)
        if self._means.config.console.token is None:
            return error(400, "this console has no token: nobody has to log in")
        return await self._log_in(request, visit)

    async def refused(self, denied: Denied, visit: Visit) -> Response:
        """A wrong token is told in the log; in the audit log the first, and the first that is too many."""
        if (guess := denied.guess) is not None:
            log.warning(
                "Console: a wrong token from %s", visit.client, extra={"iii_fields": {"so_far": guess.count}}
            )
            if guess.is_news:
                row = visit.actor.did(self._means.store, LOGIN_REFUSED, wrong_tokens=guess.count)
                with suppress(IIIError):  # a store without room: the log has it
                    await self._means.store.commit(Txn((row,)))
        headers = {"retry-after": str(denied.retry_s)} if denied.retry_s else None
        return error(denied.status, denied.message, headers)

    async def _log_in(self, request: Request, visit: Visit) -> Response:
        if (wait := self._guard.must_wait(visit.client)) is not None:
            return await self.refused(wait, visit)
        body = await self._body(request, visit.client)
        if isinstance(body, Denied):
            return await self.refused(body, visit)
        try:
            token = msgspec.json.decode(body, type=_Login).token
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return error(400, SHAPE)
        if (wrong := self._guard.login(token, visit.client)) is not None:
            return await self.refused(wrong, visit)
        before = self._guard.session(request.headers, visit)
        value = await self._sessions.begin(before, visit.actor.did(self._means.store, "login"))
        return json(200, {"ok": True}, {"set-cookie": self._guard.set_cookie(visit, value)})

    async def _log_out(self, request: Request, visit: Visit) -> Response:
        if (session := self._guard.session(request.headers, visit)) is not None:
            await self._sessions.end(session, visit.actor.did(self._means.store, "logout"))
        return json(200, {"ok": True}, {"set-cookie": self._guard.set_cookie(visit, "")})

    async def _body(self, request: Request, client: str) -> bytes | Denied:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > BYTES_MAX:
            return LARGE
        place = self._place(network_of(client))
        body = b""
        try:
            async with place.limit:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > BYTES_MAX:
                        return LARGE
        except TimeoutError:
            return OUTDONE if place.is_lost else SLOW
        except ClientDisconnect:
            return Denied(400, SHAPE)
        finally:
            self._arriving.pop(place, None)
        return body

    def _place(self, network: str) -> _Arriving:
        of_one = [place for place in self._arriving if place.network == network]
        rivals = of_one if len(of_one) >= ARRIVING_OF_ONE_MAX else list(self._arriving)
        if rivals is of_one or len(rivals) >= ARRIVING_MAX:
            self._arriving.pop(rivals[0])
            rivals[0].lose()
        place = _Arriving(network)
        self._arriving[place] = None
        return place


class _Arriving:
    """Of a login whose body arrives."""

    def __init__(self, network: str) -> None:
        self.network, self.is_lost = network, False
        self.limit = asyncio.timeout(ARRIVE_S)

    def lose(self) -> None:
        self.is_lost = True
        self.limit.reschedule(asyncio.get_running_loop().time())
