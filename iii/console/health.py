"""/health and /metrics: for whoever watches over the engine from outside."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from iii.console.asks import Ask
from iii.observe.exposition import CONTENT_TYPE

__all__ = ["ROUTES"]


def health(ask: Ask) -> Response:
    if ask.means.stopping.is_set():
        return JSONResponse({"status": "draining"}, 503)
    return JSONResponse({"status": "ok"})


def metrics(ask: Ask) -> Response:
    return Response(ask.means.metering.render(), headers={"content-type": CONTENT_TYPE})


ROUTES = (
    ("GET", "/health", health),
    ("GET", "/metrics", metrics),
)
