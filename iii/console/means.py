"""What the console's pages work with: parts of a running engine, handed over by it. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from iii.config import Config
from iii.console.pulse import Pulse
from iii.handling.outbox import Outbox
from iii.model import Lane
from iii.observe.health import Instance
from iii.observe.metering import Metering
from iii.observe.meters import Figures
from iii.running.bindings import Binding
from iii.sources.cron_jobs import CronJob
from iii.step import Step
from iii.store.contract import Store
from iii.store.reasons import Caps
from iii.trace import Sampler
from iii.web.endpoint import Endpoint

__all__ = ["InstanceRow", "Means", "Pulse"]


class InstanceRow(Instance, Protocol):
    """As the store's roster has it."""

    @property
    def session(self) -> int: ...
    @property
    def health(self) -> str: ...
    @property
    def uptime_ms(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def messages_per_s(self) -> float: ...
    @property
    def lanes(self) -> int: ...
    @property
    def quarantine(self) -> bool: ...


class Means(Struct, frozen=True):
    """`roster`: the instances that live on the store, [] where it is nobody else's. `address`: of HTTP, None
    where it is not served here. `stopping`: set when the engine drains."""

    config: Config
    store: Store
    steps: Sequence[Step]
    bindings: Mapping[Lane, Binding]
    crons: Sequence[CronJob]
    endpoint: Endpoint
    outbox: Outbox
    sampler: Sampler
    roster: Callable[[], Sequence[InstanceRow]]
    address: str | None
    started_ms: int
    stopping: asyncio.Event
    metering: Metering
    figures: Figures
    pulse: Pulse
    version: str

    def caps(self, topic: str, step: str) -> Caps | None:
        """What holds for a lane that a step of ours takes."""
        binding = self.bindings.get(Lane(topic, step))
        return None if binding is None else Caps(binding.rules.concurrency, binding.rules.max_in_flight)
