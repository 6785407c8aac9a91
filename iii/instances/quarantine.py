"""The quarantine: an instance that runs suspects, one at a time, so that a death is that message's alone.

    a suspect is ready                it is started, but for where another one runs on the store already
    it died, and had run something    it is started again at once: each such death leads to a dead letter
    it died otherwise                 it is started again after a pause (restarts.py)
    QUIET_S without a message         it ends by itself

Whoever keeps it is its parent, as a supervisor is an instance's: it drains when that ends (seat.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from iii.instances.instance import Instance
from iii.instances.restarts import PAUSE_S, Restarts
from iii.instances.seat import GRACE_S
from iii.stores import roster_of

__all__ = ["OwnQuarantine", "Quarantine", "until_quiet"]

QUIET_S = 60.0
LOOK_S = 1.0
LOOK_AGAIN_S = 2.0  # what instances said of suspects may be older than its end
REAP_S = 0.1

log = logging.getLogger("iii.instances")

_Duty: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"


class Queues(Protocol):
    """What runs messages in the quarantine."""

    delivered: int

    @property
    def running(self) -> int: ...


async def until_quiet(queues: Queues, quiet_s: float = QUIET_S) -> None:
    """Returns once nothing has been delivered, and nothing has run, for so long."""
    now_s = asyncio.get_running_loop().time
    seen, since_s = queues.delivered, now_s()
    while now_s() - since_s < quiet_s:
        await asyncio.sleep(min(LOOK_S, quiet_s))
        if queues.running or queues.delivered != seen:
            seen, since_s = queues.delivered, now_s()


class Quarantine:
    """`spawn` starts the process (OSError: it cannot); `data`, `stale_ms`: where others would be seen."""

    def __init__(self, spawn: Callable[[], Instance], data: Callable[[], tuple[Path, int]]) -> None:
        self._spawn, self._data = spawn, data
        self._restarts = Restarts()
        self._wanted = asyncio.Event()
        self.instance: Instance | None = None

    def tell(self, suspects: bool) -> None:
        """Whether a suspect is ready."""
        if suspects:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(await self._run())

    def replace(self) -> None:
        """Let it drain; where it is still needed, another one starts."""
        if self.instance is not None:
            self.instance.ask_to_stop()

    async def _run(self) -> float:
        """One from its start to its end; how many seconds until the next."""
        try:
            if any(row.quarantine for row in roster_of(*self._data())):
                return LOOK_AGAIN_S
            instance = self.instance = self._spawn()
        except OSError as error:
            pause_s = self._restarts.died_at_start()
            log.error("the quarantine: cannot start a process: %s; next try in %.1f s", error, pause_s)
            return pause_s
        log.info("suspects are ready: a quarantine starts, pid %d", instance.pid)
        if await instance.until_started():
            self._restarts.ready()
        await instance.until_ended()
        self.instance = None
        return self._ended(instance)

    def _ended(self, instance: Instance) -> float:
        lived_s, outside = instance.lived_s, instance.ended_from_outside
        if instance.exit_code == 0:
            log.info("the quarantine (pid %d) has ended", instance.pid)
            return LOOK_AGAIN_S
        if lived_s is None:
            pause_s = self._restarts.died_at_start(outside=outside)
        elif instance.began:
            pause_s = PAUSE_S
        else:
            pause_s = self._restarts.died(lived_s, outside=outside)
        when = "at start" if lived_s is None else f"after {lived_s:.1f} s"
        told = "the quarantine (pid %d) died %s, %s; where it is needed, the next one starts in %.1f s"
        log.warning(told, instance.pid, when, instance.cause, pause_s)
        return pause_s


class OwnQuarantine:
    """The one of a single instance, which has no supervisor: it ends with this process."""

    def __init__(self, spawn: Callable[[], Instance], data: Path, stale_ms: int, drain_ms: int) -> None:
        self._data, self._limit_s = data, drain_ms / 1000 + GRACE_S
        self._quarantine = Quarantine(spawn, lambda: (data, stale_ms))
        self.tell = self._quarantine.tell
        self._duties: dict[_Duty, asyncio.Task[None]] = {}
        self._over: set[_Duty] = set()
        for duty in (self._quarantine.keep, self._reap):
            self._begin(duty)

    def _begin(self, duty: _Duty) -> None:
        """It begins anew where it ends before its time: a handler may cancel all tasks."""
        task = self._duties[duty] = asyncio.get_running_loop().create_task(duty())
        task.add_done_callback(partial(self._ended, duty))

    def _ended(self, duty: _Duty, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the quarantine is not looked after", exc_info=error)
        if duty not in self._over:
            asyncio.get_running_loop().call_later(LOOK_S, self._begin_again, duty)

    def _begin_again(self, duty: _Duty) -> None:
        if duty not in self._over:
            self._begin(duty)

    def _end(self, duty: _Duty) -> None:
        self._over.add(duty)
        self._duties[duty].cancel()

    async def _reap(self) -> None:
        """Whether it has ended: SIGCHLD is the event loop's, for what steps start."""
        while True:
            await asyncio.sleep(REAP_S if self._quarantine.instance is not None else LOOK_S)
            if (instance := self._quarantine.instance) is not None:
                instance.reap()

    def stop(self) -> None:
        """Let it drain; no other one starts."""
        self._end(self._quarantine.keep)
        self._quarantine.replace()

    async def close(self) -> None:
        """`stop`, and see it end; where it does not in time, kill it."""
        self.stop()
        self._end(self._reap)
        limit_s, now_s = self._limit_s, asyncio.get_running_loop().time
        until_s, told = now_s() + limit_s, False
        if (instance := self._quarantine.instance) is not None:
            while instance.exit_code is None:
                instance.reap()
                if now_s() > until_s and not told:
                    told = True
                    log.error("the quarantine (pid %d) does not end: killed", instance.pid)
                    self.kill()
                await asyncio.sleep(REAP_S)
        await asyncio.gather(*self._duties.values(), return_exceptions=True)

    def kill(self) -> None:
        """End it now, which blames no message."""
        if (instance := self._quarantine.instance) is not None:
            with suppress(OSError):
                instance.kill(self._data)
