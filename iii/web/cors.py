"""Cross-origin requests (WHATWG Fetch, "CORS protocol"): which browsers' pages may call and read answers."""

from __future__ import annotations

from iii.config import CorsConfig
from iii.web.request import Request
from iii.web.response import Answer

__all__ = ["Cors"]


class Cors:
    def __init__(self, config: CorsConfig) -> None:
        self._any = "*" in config.origins
        self._origins = frozenset(origin.encode() for origin in config.origins)
        self._credentials = config.credentials
        self._methods = ", ".join(config.methods).encode()
        self._any_header = "*" in config.headers
        self._headers = ", ".join(config.headers).encode()
        self._max_age = str(config.max_age).encode()

    def preflight(self, request: Request) -> Answer | None:
        """The answer to a browser that asks before it calls; None where `request` is none of these."""
        if request.method != "OPTIONS" or b"origin" not in request.fields:
            return None
        if b"access-control-request-method" not in request.fields:
            return None
        sent = Answer(204, [(b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers")])
        if self._allows(request.fields[b"origin"]):
            asked = request.fields.get(b"access-control-request-headers", b"")
            headers = asked if self._any_header else self._headers
            sent.headers += [
                (b"access-control-allow-methods", self._methods),
                (b"access-control-max-age", self._max_age),
            ]
            if headers:
                sent.headers.append((b"access-control-allow-headers", headers))
        return sent

    def mark(self, request: Request, sent: Answer) -> None:
        """Let the page that sent `request` read the answer, where its origin is allowed."""
        if not self._any:
            sent.headers.append((b"vary", b"Origin"))
        origin = request.fields.get(b"origin")
        if origin is None or not self._allows(origin):
            return
        sent.headers.append((b"access-control-allow-origin", b"*" if self._any else origin))
        if self._credentials:
            sent.headers.append((b"access-control-allow-credentials", b"true"))

    def _allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins
