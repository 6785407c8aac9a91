"""What `iii run` has to do with a quarantine: to be one, or to keep one beside a single engine."""

from __future__ import annotations

import asyncio

from iii.engine import Engine
from iii.instances import loop
from iii.instances.instance import QUARANTINE, Command, Instance
from iii.instances.quarantine import OwnQuarantine, until_quiet
from iii.instances.seat import Line

__all__ = ["own_quarantine", "until_it_is_to_end"]


async def until_it_is_to_end(engine: Engine, stop: asyncio.Event, line: Line | None) -> None:
    if engine.suspects != "only":
        await loop.until(stop, engine.failed)
        return
    if line is not None:
        engine.queues.on_delivery = line.began
    quiet = asyncio.Event()
    watch = asyncio.ensure_future(until_quiet(engine.queues))
    watch.add_done_callback(lambda _: quiet.set())
    await loop.until(stop, engine.failed, quiet)
    watch.cancel()


def own_quarantine(engine: Engine, command: Command) -> OwnQuarantine:
    config = engine.config
    own = OwnQuarantine(
        lambda: Instance(command, QUARANTINE, lambda _: None),
        config.store.path,
        stale_ms=config.store.stale_after_ms,
        drain_ms=config.shutdown_timeout_ms,
    )
    engine.store.on_suspects(own.tell)
    return own
