"""The console as a duty of the engine: takes its port, serves while the engine runs, ends with its drain.

One of the instances on a data folder serves it. What it is made of (Starlette, the pages) is imported in a
thread once the engine is ready: start-up does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from socket import socket
from typing import TYPE_CHECKING

from iii.config import Config, HttpConfig
from iii.console.hub import Hub
from iii.console.means import InstanceRow, Means
from iii.errors import ConfigError
from iii.running.duty import Duty, ignored
from iii.threads import in_thread
from iii.web.port import listen, owners, url_of

if TYPE_CHECKING:
    from iii.web.server import Server

__all__ = ["Console", "take"]

DRAIN_MS = 1_000

log = logging.getLogger("iii.console")


def take(
    config: Config,
    given: bool | Sequence[socket],
    roster: Callable[[], Sequence[InstanceRow]],
    own_session: int,
) -> Console | None:
    """The console on `given` sockets, or (True) on its own port; None where it is not wanted, or another
    instance on the same store has the port already.

    ConfigError: somebody else has it, or the token keeps nobody out.
    """
    if not given:
        return None
    console = config.console
    if (fault := console.token_fault) is not None:
        raise ConfigError(fault, field="console.token")
    if not isinstance(given, bool):
        return Console(given)
    try:
        file = str(config.file or "")
        return Console(listen(console.host, console.port, file=file, field="console.port"))
    except ConfigError:
        siblings = {row.pid for row in roster() if row.session != own_session}
        having = siblings.intersection(owners(console.port))
        if not having:
            raise
        log.info("The console is served by instance pid %d already", min(having))
        return None


class Console:
    """`sockets` listen already; it closes them."""

    def __init__(self, sockets: Sequence[socket]) -> None:
        self._sockets = list(sockets)
        self.address = url_of(self._sockets)
        self._duty: Duty | None = None
        self._made: tuple[Server, Hub] | None = None

    def start(self, means: Means) -> None:
        self._duty = Duty(
            "The console",
            partial(self._serve, means),
            lost="what runs here goes on without it",
            failed=ignored,
            until=means.stopping,
        )

    async def stop(self) -> None:
        """After `means.stopping` was set, or where the engine did not start."""
        if self._duty is not None:
            await self._duty.ended()
        for each in self._sockets:
            each.close()

    async def _serve(self, means: Means) -> None:
        if self._made is None:
            made = await in_thread(partial(import_module, "iii.console.app"))
            server = (await in_thread(partial(import_module, "iii.web.server"))).Server
            from iii.console.bodies import BODY_BYTES_MAX  # with Starlette, which `made` has brought in

            application, http = made.app(means), HttpConfig(body_bytes_max=BODY_BYTES_MAX)
            await application.open()
            served = server.of_app(application, http, self._sockets, application.hosts, made.refused)
            self._made = served, application.hub
        server, hub = self._made
        await means.stopping.wait()
        hub.close()  # streams end as the drain begins
        await server.drain(DRAIN_MS)
