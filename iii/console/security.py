"""Who may ask the console what: decided on the head of a request alone, before anything is read or done.

    Host       one of our own names: a page elsewhere that rebinds its name to this address is refused
    Origin     where a browser sends one, it is the very host that was asked; never "null"
    token      where one is configured: as a bearer, or as the cookie that /api/login gives for it; who
               guesses has to wait (guesses.py)
    method     with read_only, nothing but GET and HEAD

A cookie is a random name and a digest of it, keyed by the token: every instance can check it, and it says
nothing of the token. A session that was let in goes on while others of its address (a proxy's) guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from iii.config import ConsoleConfig
from iii.console.guesses import Guess, Guesses
from iii.web.cookies import read_cookies

__all__ = ["COOKIE", "HEADERS", "Guard", "Refused"]

COOKIE = "iii_console"
SESSIONS_MAX = 1_000
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every answer."""

SAFE_METHODS = ("GET", "HEAD")
ASK = "the console asks for its token: log in, or send it as a bearer token"
OPEN_PATHS = (("",), ("health",), ("api", "login"), ("api", "logout"))


class Refused(NamedTuple):
    """retry_s: when to try again. `guess`: the wrong token that was counted for it."""

    status: int
    message: str
    retry_s: int = 0
    guess: Guess | None = None


class Guard:
    """now_ms: the engine's clock of delays."""

    def __init__(self, config: ConsoleConfig, now_ms: Callable[[], int]) -> None:
        self._config, self._now_ms = config, now_ms
        self._guesses = Guesses()
        self._sessions: OrderedDict[str, None] = OrderedDict()  # names in cookies that were let in
        self._any_address = _is_wildcard(config.host)
        names = {"localhost", "127.0.0.1", "::1", config.host, *config.hosts}
        if self._any_address:
            names.add(socket.gethostname())
        self._names = {name.lower().rstrip(".") for name in names}
        token = config.token or ""
        self._token = token.encode()

    def refusal(
        self, method: str, path: Sequence[str], headers: Mapping[str, str], client: str
    ) -> Refused | None:
        """None: go on. `path`: its parts, decoded."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            known = ", ".join(sorted(self._names))
            return Refused(
                403, f"the console is not called {host!r}, but {known}; add other names to console.hosts"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Refused(403, f"a page of {origin!r} may not use this console")
        if headers.get("sec-fetch-site") == "cross-site" and path[0] == "api":
            return Refused(403, "a page of another site may not use this console")
        is_change = method not in SAFE_METHODS
        if (
            is_change
            and headers.get("content-type", "application/json").partition(";")[0] != "application/json"
        ):
            return Refused(415, "send application/json")
        if tuple(path) in OPEN_PATHS or path[0] == "static":
            return None
        if (unknown := self._stranger(headers, client)) is not None:
            return unknown
        if is_change and self._config.read_only:
            return Refused(403, "this console only shows: it was started with read_only")
        return None

    def login(self, token: str, client: str) -> Refused | None:
        """None: it is the token. Takes as long for a wrong one."""
        return self._checked(client, token, hmac.compare_digest(token.encode(), self._token))

    def must_wait(self, client: str) -> Refused | None:
        """Whether this client guessed too often to be listened to now."""
        wait_ms = self._guesses.wait_ms(client, self._now_ms())
        if not wait_ms:
            return None
        seconds = -(-wait_ms // 1000)
        return Refused(429, f"too many wrong tokens from this address; try again in {seconds} s", seconds)

    def new_cookie(self, *, secure: bool) -> str:
        """For who has logged in."""
        name = secrets.token_hex(16)
        self._remember(name)
        value = f"{name}.{self._digest(name)}"
        return f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"

    def _stranger(self, headers: Mapping[str, str], client: str) -> Refused | None:
        if not self._token:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            token = token.strip()
            return self.must_wait(client) or self.login(token, client)
        cookie = read_cookies(headers.get("cookie", "")).get(COOKIE, "")
        if not cookie:
            return Refused(401, ASK)
        name, _, digest = cookie.partition(".")
        if name not in self._sessions and (wait := self.must_wait(client)) is not None:
            return wait
        is_right = hmac.compare_digest(digest.encode(), self._digest(name).encode())
        if is_right:
            self._remember(name)
        return self._checked(client, cookie, is_right)

    def _checked(self, client: str, given: str, is_right: bool) -> Refused | None:
        if is_right:
            return None
        guess = self._guesses.wrong(client, given.encode(), self._now_ms())
        return Refused(401, ASK, guess=guess)

    def _digest(self, name: str) -> str:
        return hmac.new(self._token, b"iii console session " + name.encode(), hashlib.sha256).hexdigest()

    def _remember(self, name: str) -> None:
        self._sessions[name] = None
        self._sessions.move_to_end(name)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def _is_ours(self, host: str) -> bool:
        """The port is not looked at: it may be forwarded."""
        name = _name_of(host)
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback  # an address cannot be rebound to another


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
