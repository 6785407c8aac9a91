"""/health and /metrics: for whoever watches over the engine from outside."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from iii.console.asks import Ask
from iii.observe.exposition import CONTENT_TYPE
from iii.observe.health import health
from iii.threads import in_thread

__all__ = ["ROUTES"]


def told(ask: Ask) -> Response:
    means = ask.means
    others = [row for row in means.roster() if row.session != means.store.session]
    status, body = health(draining=means.stopping.is_set(), others=others)
    return JSONResponse(body, status)


async def metrics(ask: Ask) -> Response:
    text = await in_thread(ask.means.metering.rendering())  # a thousand topics take longer than the loop may
    return Response(text, headers={"content-type": CONTENT_TYPE})


ROUTES = (
    ("GET", "/health", told),
    ("GET", "/metrics", metrics),
)
