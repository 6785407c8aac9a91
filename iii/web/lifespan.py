"""The lifespan of an ASGI application: its engine starts before the first request and stops after the last.

Starlette and FastAPI take a `Lifespan` as it is (`lifespan=engine.lifespan`); `serve_lifespan` answers the
events of a server where no framework does. Either way the stop comes however the server ends, cancelled too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

from iii.errors import IIIError

__all__ = ["Lifespan", "serve_lifespan"]

Event: TypeAlias = MutableMapping[str, Any]
Hook: TypeAlias = Callable[[], Awaitable[object]]


class Lifespan:
    """`engine.lifespan`: `async with engine.lifespan(app)`, which a framework writes itself.

    It gives a framework no state (None): an engine is no mapping. Several applications of one event loop may
    have the same one: it starts with the first of them and stops with the last.
    """

    def __init__(self, start: Hook, stop: Hook) -> None:
        self._start, self._stop = start, stop
        self._apps = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()

    def __call__(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """What lasts as long as `app`; which application that is does not matter."""
        return self._held()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        self._check_loop()
        async with self._turn:  # nobody serves before the engine has started
            if not self._apps:
                await self._start()
            self._apps += 1
        try:
            yield
        finally:
            self._apps -= 1
            if not self._apps:
                await self._stop()

    def _check_loop(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise IIIError(
                "an engine runs on asyncio, and this server runs on another kind of event loop (trio?): "
                "start it with its asyncio backend"
            ) from None
        if self._apps and loop is not self._loop:
            raise IIIError(
                "an engine runs on one event loop, and an application of another thread has started this "
                "one: make an engine for each"
            )
        self._loop = loop


async def serve_lifespan(
    lifespan: Lifespan | None,
    receive: Callable[[], Awaitable[Event]],
    send: Callable[[Event], Awaitable[None]],
) -> None:
    """The ASGI events of a server. What fails is told to it and raised."""
    await receive()
    phase = "startup"
    try:
        async with lifespan() if lifespan is not None else nullcontext():
            await send({"type": "lifespan.startup.complete"})
            phase = "shutdown"
            await receive()
    except Exception as error:
        await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
