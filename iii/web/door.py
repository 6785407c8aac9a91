"""The engine's HTTP door: its Endpoint, which exists before the engine has started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from iii.config import HttpConfig
from iii.observe.health import Instance
from iii.running.runner import Runner
from iii.step import Step
from iii.store.contract import Store
from iii.web.endpoint import Endpoint
from iii.web.refused import RETRY_AFTER
from iii.web.request import Request
from iii.web.response import Answer, failure

__all__ = ["Door"]

log = logging.getLogger("iii.engine")


class Door(Endpoint):
    """Answers 503 until `open`; `answered` is called whenever no request is being handled any more."""

    def __init__(
        self,
        steps: Sequence[Step],
        config: HttpConfig,
        answered: Callable[[], object],
        others: Callable[[], Iterable[Instance]],
    ) -> None:
        self.config, self.drained, self.is_drained = config, asyncio.Event(), False
        self.in_flight, self._is_shut = 0, True
        self._steps, self._when_answered, self._when_asked = steps, answered, others
        self._cors, self.begin = None, _not_started

    def open(self, runner: Runner, store: Store) -> None:
        super().__init__(runner, store, self._steps, self.config, self._when_answered, self._when_asked)

    async def finish(self, timeout_ms: int, answered: asyncio.Event) -> None:
        """Wait for the requests being handled, by our server or by one that this engine is mounted in."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self.in_flight:
                    answered.clear()
                    await answered.wait()
        except TimeoutError:
            log.warning("%d requests did not finish in time", self.in_flight)


def _not_started(request: Request, answered: object) -> Answer:
    return failure(503, "the engine is not started", headers=(RETRY_AFTER,))
