"""HTTP on listening sockets: the lane and Hypercorn behind one accept loop, and their drain.

Hypercorn's own `serve` closes idle connections in the face of a client that is just sending, waits without
end for open streams and knows none of our limits: so accepting and draining are here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from iii.config import HttpConfig
from iii.web.accept import Acceptor
from iii.web.asgi import AsgiApp, app
from iii.web.endpoint import Endpoint
from iii.web.lane.lane import Lane
from iii.web.tcp_server import Hypercorn

__all__ = ["serve", "serve_app"]

IDLE_LAST_S = 1.0  # an idle connection's last second, for the request that is on its way


async def serve(
    endpoint: Endpoint,
    sockets: Sequence[socket.socket],
    shutdown: asyncio.Event,
    *,
    drain_ms: int = 10_000,
) -> None:
    """Serve `endpoint` on listening sockets (port.listen) until `shutdown`; closes them.

    Then nothing new is accepted, requests that run have `drain_ms` to end, and what is left is cut off.
    """
    hypercorn = Hypercorn(app(endpoint), endpoint.config)
    lane = Lane(endpoint, hypercorn.take_over)
    acceptor = Acceptor(sockets, lane.connection if endpoint.config.lane else hypercorn.protocol)
    try:
        await shutdown.wait()
    finally:
        acceptor.close()
        await acceptor.settled()
        await _drain(lane, hypercorn, drain_ms / 1000)


async def serve_app(
    app: AsgiApp,
    http: HttpConfig,
    sockets: Sequence[socket.socket],
    shutdown: asyncio.Event,
    *,
    drain_ms: int = 10_000,
) -> None:
    """As `serve`, for an ASGI application that is no Endpoint: by Hypercorn alone. `http`: limits and
    timeouts; how large a body may be is the application's to say."""
    hypercorn = Hypercorn(app, http)
    acceptor = Acceptor(sockets, hypercorn.protocol)
    try:
        await shutdown.wait()
    finally:
        acceptor.close()
        await acceptor.settled()
        ended = asyncio.ensure_future(hypercorn.ended())
        await hypercorn.close_idle()
        await asyncio.wait((ended,), timeout=drain_ms / 1000)
        ended.cancel()
        await hypercorn.abort()
        await asyncio.wait((ended,))


async def _drain(lane: Lane, hypercorn: Hypercorn, drain_s: float) -> None:
    ended = [asyncio.ensure_future(each.ended()) for each in (lane, hypercorn)]
    await asyncio.wait(ended, timeout=min(IDLE_LAST_S, drain_s))
    lane.close_idle()
    await hypercorn.close_idle()
    await asyncio.wait(ended, timeout=max(0.0, drain_s - IDLE_LAST_S))
    for each in ended:
        each.cancel()
    await lane.abort()
    await hypercorn.abort()
    await asyncio.wait(ended)
