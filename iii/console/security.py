"""Who may ask the console what: decided on the head of a request alone, before anything is read or done.

    Host            one of our own names: a page elsewhere that rebinds its name to this address is refused
    Origin          where a browser sends one, it is the very host that was asked; never "null"
    Sec-Fetch-Site  where a browser sends it, no other site's and no other port's page asks the API
    Content-Type    where what changes something has one it is JSON: forms and texts may come from any page
    token           where one is configured: as a bearer, or as the cookie of a session that /api/login began
    method          with read_only, nothing but GET and HEAD

Who guesses the token waits (guesses.py), at the login above all: there even the right one waits, or it would
tell each guess whether it is the one. A right bearer is let in whoever guesses, and so is a session
(sessions.py): what keeps guesses of bearers hopeless is the length that a token must have.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from starlette.datastructures import Headers

from iii.config import ConsoleConfig
from iii.console.guesses import Guess, Guesses
from iii.console.sessions import Session, Sessions
from iii.store.audit import Actor
from iii.web.cookies import cookie_pairs
from iii.web.forwarded import Forwarded
from iii.web.hosts import Hosts

__all__ = ["COOKIE", "HEADERS", "Denied", "Guard", "Visit"]

COOKIE = "iii_console"
HTTPS_COOKIE = f"__Host-{COOKIE}"
"""Both with the tag of the store behind. Browsers take the latter from this very host by HTTPS alone."""
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
OWN_PAGES = ("same-origin", "none")  # none: typed, or a bookmark
PORTS = {"http": ":80", "https": ":443"}
ASK = "the console asks for its token: log in, or send it as a bearer token"
OPEN_PATHS = (("",), ("health",), ("api", "login"), ("api", "logout"))


class Denied(NamedTuple):
    """retry_s: when to try again. `guess`: the wrong token that was counted for it."""

    status: int
    message: str
    retry_s: int = 0
    guess: Guess | None = None


class Visit(NamedTuple):
    """client: the address it is asked from; is_https: by the browser; host: as this names it; session: it has
    come with."""

    client: str
    is_https: bool
    host: str
    session: Session | None = None

    @property
    def actor(self) -> Actor:
        """As the audit log has it."""
        return Actor(f"console {self.client}")


class Guard:
    """now_ms: the engine's clock of delays. hosts: our names; they are asked on the head already, before a
    client is told to go on with its body."""

    def __init__(self, config: ConsoleConfig, sessions: Sessions, now_ms: Callable[[], int]) -> None:
        self._config, self._sessions, self._now_ms = config, sessions, now_ms
        self._forwarded = Forwarded(config.trusted_proxies)
        self._guesses = Guesses()
        is_wildcard = _is_wildcard(config.host)
        names = (socket.gethostname() if is_wildcard else config.host, *config.hosts)
        self.hosts = Hosts(names, key="console.hosts", any_address=is_wildcard)
        self._key = secrets.token_bytes(32)
        self._token = self._digest((config.token or "").encode())

    def visit(self, headers: Headers, peer: str, scheme: str) -> Visit:
        """Who asks, by a connection from `peer`: what it says of others counts where it is trusted."""
        said = self._forwarded.said(peer, headers.raw)
        is_https = self._config.https or (said.scheme or scheme) == "https"
        return Visit(said.client or peer, is_https, said.host or headers.get("host", ""))

    def judge(self, method: str, path: Sequence[str], headers: Headers, visit: Visit) -> Denied | Visit:
        """`path`: its parts, decoded. Refused: 421 for a Host that is not ours, 400 for what is none."""
        if (foreign := self._foreign(path, headers, visit)) is not None:
            return foreign
        is_change = method not in SAFE_METHODS
        if is_change and not all(map(_is_json, headers.getlist("content-type"))):
            return Denied(415, "send application/json")
        if tuple(path) in OPEN_PATHS or path[:1] == ["static"]:
            return visit
        known = self._known(headers, visit)
        if isinstance(known, Visit) and is_change and self._config.read_only:
            return Denied(403, "this console only shows: it was started with read_only")
        return known

    def login(self, token: str, client: str) -> Denied | None:
        """None: it is the token. Judged and counted in one step: however many come at once, each counts
        before it is compared, and takes as long for a wrong one."""
        if (wait := self.must_wait(client)) is not None:
            return wait
        given, now_ms = token.encode(errors="surrogatepass"), self._now_ms()
        counted = self._guesses.wrong(client, given, now_ms)
        if not self._is_token(given):
            return Denied(401, ASK, guess=counted)
        self._guesses.right(client, counted)
        return None

    def must_wait(self, client: str) -> Denied | None:
        """Whether this client, or all together, guessed too often to be listened to now."""
        now_ms = self._now_ms()
        wait_ms = self._guesses.wait_ms(client, now_ms)
        if wait_ms <= 0:
            return None
        whose = " from this address" if wait_ms == self._guesses.own_wait_ms(client, now_ms) else ""
        seconds = -(-wait_ms // 1000)
        return Denied(429, f"too many wrong tokens{whose}; try again in {seconds} s", seconds)

    def session(self, headers: Headers, visit: Visit) -> Session | None:
        """The one that its cookies are of, whatever others of this host's cookies look like."""
        name, header = self._cookie_name(visit), ";".join(headers.getlist("cookie"))
        if name not in header:
            return None
        return self._sessions.of(value for given, value in cookie_pairs(header) if given == name)

    def set_cookie(self, visit: Visit, value: str) -> str:
        """The header; "" takes it back."""
        ends = "" if value else "; Max-Age=0"
        secure = "; Secure" if visit.is_https else ""
        return f"{self._cookie_name(visit)}={value}; Path=/{ends}; HttpOnly; SameSite=Strict{secure}"

    def _cookie_name(self, visit: Visit) -> str:
        return f"{HTTPS_COOKIE if visit.is_https else COOKIE}_{self._sessions.tag}"

    # -------------------------------------------------------------------------------- whose page it is

    def _foreign(self, path: Sequence[str], headers: Headers, visit: Visit) -> Denied | None:
        for host in (
            headers.get("host", ""),
            visit.host,
        ):  # a proxy may pass on what a page wrote into either
            self.hosts.check(host.encode("latin-1"))
        for origin in headers.getlist("origin"):
            if not _is_same(origin, visit.host, by_https=visit.is_https):
                return Denied(403, f"a page of {origin!r} may not use this console")
        sites = headers.getlist("sec-fetch-site")
        if path[:1] == ["api"] and any(site not in OWN_PAGES for site in sites):
            return Denied(403, "a page of another site may not use this console")
        return None

    # ------------------------------------------------------------------------------------- who it is

    def _known(self, headers: Headers, visit: Visit) -> Denied | Visit:
        if self._config.token is None:
            return visit
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._bearer(token.strip().encode("latin-1"), visit)
        session = self.session(headers, visit)
        return Denied(401, ASK) if session is None else visit._replace(session=session)

    def _bearer(self, token: bytes, visit: Visit) -> Denied | Visit:
        if self._is_token(token):
            self._guesses.right(visit.client)
            return visit
        if (wait := self.must_wait(visit.client)) is not None:
            return wait
        return Denied(401, ASK, guess=self._guesses.wrong(visit.client, token, self._now_ms()))

    def _is_token(self, given: bytes) -> bool:
        return self._config.token is not None and hmac.compare_digest(self._digest(given), self._token)

    def _digest(self, token: bytes) -> bytes:
        """Of one length, whatever the token's, with a key that nobody has."""
        return hmac.digest(self._key, token, "sha256")


def _is_same(origin: str, host: str, *, by_https: bool) -> bool:
    """Whether a page of `origin` is one of ours. A port that its scheme implies may be left out by either."""
    scheme, _, authority = origin.lower().partition("://")
    if scheme not in PORTS or (by_https and scheme != "https"):
        return False
    port = PORTS[scheme]
    return bool(authority) and authority.removesuffix(port) == host.lower().removesuffix(port)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
