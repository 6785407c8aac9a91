"""HTTP on listening sockets: the lane and Hypercorn behind one accept loop, and their drain.

Hypercorn's own `serve` closes idle connections in the face of a client that is just sending, waits without
end for open streams and knows none of our limits: so accepting and draining are here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from iii.config import HttpConfig
from iii.web.accept import Acceptor
from iii.web.asgi import AsgiApp, app
from iii.web.crowd import Crowd, Serves, connections_max, console_connections_max
from iii.web.endpoint import Endpoint
from iii.web.hosts import Hosts
from iii.web.http1.protocol import Saying
from iii.web.lane.lane import Lane
from iii.web.tcp_server import Hypercorn

__all__ = ["Server", "serve"]

IDLE_LAST_S = 1.0  # an idle connection's last second, for the request that is on its way


class Server:
    """Serves on listening sockets (port.listen) from construction to `close`, which closes them."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocol: Callable[[str], asyncio.BaseProtocol],
        hypercorn: Hypercorn,
        lane: Lane | None,
        connections_max: int,
    ) -> None:
        self._hypercorn, self._lane = hypercorn, lane
        servers: list[Serves] = [hypercorn] if lane is None else [lane, hypercorn]
        self._crowd = Crowd(connections_max, protocol, servers)
        self._acceptor = Acceptor(sockets, self._crowd)

    @classmethod
    def of(cls, endpoint: Endpoint, sockets: Sequence[socket.socket], *, console: bool = False) -> Server:
        """Of an Endpoint: the lane before Hypercorn. `console`: this process may serve it too."""
        hosts = Hosts.on(sockets, endpoint.config)
        hypercorn = Hypercorn(app(endpoint), endpoint.config, hosts)
        lane = Lane(endpoint, hypercorn.take_over, hosts)
        protocol = lane.connection if endpoint.config.lane else hypercorn.protocol
        return cls(sockets, protocol, hypercorn, lane, connections_max(endpoint.config, console=console))

    @classmethod
    def of_app(
        cls, app: AsgiApp, http: HttpConfig, sockets: Sequence[socket.socket], hosts: Hosts, say: Saying
    ) -> Server:
        """Of an ASGI application that is no Endpoint: Hypercorn alone. `http`: limits and timeouts; how large
        a body may be is the application's to say. `hosts`: the names it is asked under. `say`: how it puts
        what is refused before it is asked."""
        hypercorn = Hypercorn(app, http, hosts, say)
        return cls(sockets, hypercorn.protocol, hypercorn, None, console_connections_max())

    @property
    def listens(self) -> bool:
        return self._acceptor.listens

    def close(self) -> None:
        """Accept nothing more. Idempotent."""
        self._acceptor.close()

    async def drain(self, drain_ms: int) -> None:
        """Requests that run have `drain_ms` to end, and what is left is cut off."""
        self.close()
        await self._acceptor.settled()
        if self._lane is not None:
            await _drain(self._lane, self._hypercorn, drain_ms / 1000)
        else:
            await _drain_app(self._hypercorn, drain_ms / 1000)
        await self._crowd.end()


async def serve(
    endpoint: Endpoint,
    sockets: Sequence[socket.socket],
    shutdown: asyncio.Event,
    *,
    drain_ms: int = 10_000,
) -> None:
    """Serve `endpoint` until `shutdown`, and drain."""
    server = Server.of(endpoint, sockets)
    try:
        await shutdown.wait()
    finally:
        await server.drain(drain_ms)


async def _drain_app(hypercorn: Hypercorn, drain_s: float) -> None:
    ended = asyncio.ensure_future(hypercorn.ended())
    await hypercorn.close_idle()
    await asyncio.wait((ended,), timeout=drain_s)
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
