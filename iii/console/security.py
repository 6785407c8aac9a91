"""Who may ask the console what: decided on the head of a request alone, before anything is read or done.

    Host       one of our own names: a page elsewhere that rebinds its name to this address is refused
    Origin     where a browser sends one, it is the very host that was asked; never "null"
    token      where one is configured: as a bearer, or as the cookie that /api/login gives for it
    method     with read_only, nothing but GET and HEAD

The cookie holds a keyed digest of the token, so that it can be checked by every instance and says nothing of
it.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from iii.config import ConsoleConfig

__all__ = ["COOKIE", "HEADERS", "Guard", "Refused"]

COOKIE = "iii_console"
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
OPEN_PATHS = (("",), ("health",), ("api", "login"), ("api", "logout"))


class Refused(NamedTuple):
    status: int
    message: str


class Guard:
    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config
        self._any_address = _is_wildcard(config.host)
        names = {"localhost", "127.0.0.1", "::1", config.host, *config.hosts}
        if self._any_address:
            names.add(socket.gethostname())
        self._names = {name.lower().rstrip(".") for name in names}
        token = config.token or ""
        self._token = token.encode()
        self.cookie = hmac.new(self._token, b"iii console session", hashlib.sha256).hexdigest()

    def refusal(self, method: str, path: Sequence[str], headers: Mapping[str, str]) -> Refused | None:
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
        if not self._is_known(headers):
            return Refused(401, "the console asks for its token: log in, or send it as a bearer token")
        if is_change and self._config.read_only:
            return Refused(403, "this console only shows: it was started with read_only")
        return None

    def admits(self, token: str) -> bool:
        """Whether it is the token; takes as long for a wrong one."""
        return hmac.compare_digest(token.encode(), self._token)

    def set_cookie(self, *, secure: bool) -> str:
        return f"{COOKIE}={self.cookie}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        if not self._token:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.admits(token.strip())
        return hmac.compare_digest(_cookie(headers.get("cookie", "")).encode(), self.cookie.encode())

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


def _cookie(header: str) -> str:
    cookies = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
