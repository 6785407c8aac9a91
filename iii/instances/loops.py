"""The supervisor's watch over its instances' event loops, from outside: for what they cannot see themselves.

An instance whose loop stands still ends itself after health.stuck_after and says who holds it. One that does
not come to that is killed here, GRACE_BEATS later. Either death is a crash of what ran.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from iii.config import Config
from iii.instances.instance import Instance
from iii.store.lmdb.liveness import BEAT_S, beats
from iii.store.lmdb.turns import Turns

__all__ = ["watch_loops"]

GRACE_BEATS = 12

log = logging.getLogger("iii.instances")


async def watch_loops(config: Callable[[], Config], alive: Callable[[], Iterable[Instance]]) -> None:
    """Until cancelled. Both are asked at each beat: a reload changes the one, deaths and starts the other."""
    turns = Turns(config().store.path)
    try:
        while True:
            await asyncio.sleep(BEAT_S)
            stuck_after_ms = config().health.stuck_after_ms
            if not stuck_after_ms:
                continue
            try:
                still = turns.sample()
            except OSError as error:  # no more files can be opened: the next look may see them
                log.debug("the instances' event loops are not seen: %s", error)
            else:
                _end_stuck(alive(), still, beats(stuck_after_ms) + GRACE_BEATS)
    finally:
        turns.close()


def _end_stuck(instances: Iterable[Instance], still: dict[int, int], beats_max: int) -> None:
    for instance in instances:
        if instance.ready and still.get(instance.pid, 0) >= beats_max:
            log.error(
                "%s (pid %d) stands still, its event loop has not turned for %.0f s: killed",
                instance.name,
                instance.pid,
                still[instance.pid] * BEAT_S,
            )
            instance.kill_blaming()
