"""/health and /metrics: for whoever watches over the engine from outside."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from iii.console.asks import Ask
from iii.observe.exposition import CONTENT_TYPE
from iii.observe.health import health

__all__ = ["ROUTES"]


def told(ask: Ask) -> Response:
    means = ask.means
    others = [row for row in means.roster() if row.session != means.store.session]
    status, body = health(draining=means.stopping.is_set(), others=others)
    return JSONResponse(body, status)


def metrics(ask: Ask) -> Response:
    return Response(ask.means.metering.render(), headers={"content-type": CONTENT_TYPE})


ROUTES = (
    ("GET", "/health", told),
    ("GET", "/metrics", metrics),
)
