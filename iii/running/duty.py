"""A duty of the engine: a task of its own that lasts until the engine stops. What becomes of it where it
does not:

    it is cancelled       a handler cancels all tasks, say: it goes on, in a new task
    it raises or returns  the engine has failed: it stops and says why, and is started again by its owner

So none of them ends in silence while the others go on. Nothing here waits for ever either: who closes the
loop without stopping the engine cancels every task once and waits for these alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from iii.errors import IIIError

__all__ = ["Duty", "Failed", "ignored"]

Failed = Callable[[IIIError], object]
"""Called when the engine has failed, with the reason."""


def ignored(reason: IIIError) -> None:
    """For who only wants it logged."""


log = logging.getLogger("iii.engine")


class Duty:
    """Begun on construction. `work` may begin anew wherever it was cancelled; `lost`: what nobody does
    without it. Once `until` is set it ends by itself."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        lost: str,
        failed: Failed,
        until: asyncio.Event | None = None,
    ) -> None:
        self._name, self._work, self._lost, self._failed = name, work, lost, failed
        self._until = until or asyncio.Event()
        self._cancelled = False
        self._begin()

    async def cancel(self) -> None:
        """End it now."""
        self._cancelled = True
        self._task.cancel()
        await self.ended()

    async def ended(self) -> None:
        while not self._task.done():
            await asyncio.wait((self._task,))

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and task.cancelling() and not self._cancelled:
            log.warning("%s: cancelled, by a handler that cancels all tasks? It goes on", self._name)
            self._begin()
            return
        error = None if task.cancelled() else task.exception()
        if error is None and (self._cancelled or self._until.is_set()):
            return
        told = f"{self._name} failed: {self._lost}"
        why = "it ended" if error is None else f"{type(error).__name__}: {error}"
        if isinstance(error, IIIError):  # raised on purpose: its text says all
            log.critical("%s (%s)", told, why)
        else:
            log.critical(told, exc_info=error)
        self._failed(IIIError(f"{told} ({why})"))
