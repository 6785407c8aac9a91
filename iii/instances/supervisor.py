"""`--instances N`: starts N equal engines, restarts the dead, replaces all one by one, ends them.

    store       whoever is ready says when its store was made; who starts later on that path finds it or ends
    place       one of N; holds an instance, and starts the next when that died (restarts.py says when)
    SIGHUP      for each place in turn: start another, and when it is ready let the old one drain. One that
                does not start, or not in time, changes nothing: the old ones stay
    quarantine  while instances say that suspects are ready, another one runs these alone (quarantine.py)
    stuck       an instance whose event loop stands still is killed (loops.py), and counts a crash
    SIGTERM     all drain; who has not in `shutdown_timeout` is killed, which blames none of its messages

Imports no user code and opens no store: what a step does cannot hurt it. The sockets are its own, so that the
port stays open however many instances come and go, until it stops.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from socket import socket
from typing import Any

from msgspec.structs import replace

from iii.config import Config
from iii.errors import IIIError
from iii.instances.instance import QUARANTINE, Command, Instance
from iii.instances.loops import watch_loops
from iii.instances.quarantine import Quarantine
from iii.instances.restarts import Restarts
from iii.instances.seat import GRACE_S
from iii.instances.signals import Signals

__all__ = ["Supervisor"]

START_S = 60.0
START_TIMES = 3.0
"""A replacement may take so long to be ready, or so many times as long as the slowest start so far."""

log = logging.getLogger("iii.instances")


class Supervisor:
    """`reload` reads the configuration anew (IIIError: it is wrong); `show` prints the start report."""

    def __init__(
        self,
        config: Config,
        command: Command,
        *,
        sockets: Sequence[socket],
        reload: Callable[[], Config],
        show: Callable[[Sequence[str]], object],
    ) -> None:
        self.config, self.command = config, command
        self._sockets, self._reload, self._show = sockets, reload, show
        self._alive: set[Instance] = set()
        self._places = [_Place(self, number) for number in range(1, command.of + 1)]
        self._quarantine = Quarantine(
            lambda: self.spawn(QUARANTINE), lambda: (self.config.store.path, self.config.store.stale_after_ms)
        )
        self._any_ran = self._shown = False
        self._slowest_start_s = 0.0
        self._stopping, self._hopeless = asyncio.Event(), asyncio.Event()
        self._none_ready = asyncio.Event()
        self._roll_asked = asyncio.Event()

    async def run(self) -> int:
        """Until a signal; the exit code. IIIError where no instance starts."""
        loop = asyncio.get_running_loop()
        Signals(stop=self._stop, end=self._end_at_once, reload=self._ask_to_roll)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        duties = [*(place.keep() for place in self._places), self._roll(), self._stopping.wait()]
        duties.append(self._quarantine.keep())
        duties.append(watch_loops(lambda: self.config, lambda: tuple(self._alive)))
        try:
            await _first_of(*duties, self._hopeless.wait())
        finally:
            clean = await self._end_all()
        if self._hopeless.is_set():
            raise IIIError(f"no instance starts, given up: {self._places[0].cause}")
        if not clean:
            log.error("Stopped, but not every instance ended as it should")
            return 1
        log.info("Stopped")
        return 0

    # -- what the places need

    def spawn(self, number: int) -> Instance:
        """OSError where the system has no room for another."""
        instance = Instance(self.command, number, self._ready, self._hear_of_suspects)
        self._alive.add(instance)
        return instance

    async def leave(self, instance: Instance) -> None:
        """Let it drain; where it does not in time, kill it."""
        instance.ask_to_stop()
        limit_s = self.config.shutdown_timeout_ms / 1000 + GRACE_S
        try:
            await asyncio.wait_for(instance.until_ended(), limit_s)
        except TimeoutError:
            log.error("%s (pid %d) does not end: killed", instance.name, instance.pid)
            instance.kill(self.config.store.path)
            await instance.until_ended()

    @property
    def start_limit_s(self) -> float:
        return max(START_S, START_TIMES * self._slowest_start_s)

    def look_if_hopeless(self) -> None:
        if all(place.hopeless(self._any_ran) for place in self._places):
            self._hopeless.set()

    async def pause(self, pause_s: float) -> None:
        """Let so much time pass, but not where no instance is ready: nobody runs the messages then."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none_ready.wait(), pause_s)

    @property
    def is_any_ready(self) -> bool:
        return any(instance.ready for instance in self._alive if instance.number != QUARANTINE)

    def _ready(self, instance: Instance) -> None:
        if instance.number == QUARANTINE:
            return
        self._any_ran = True
        self._none_ready.clear()
        self._slowest_start_s = max(self._slowest_start_s, instance.start_s)
        if instance.made_ms:
            stores = {**self.command.stores, instance.store: instance.made_ms}
            self.command = replace(self.command, stores=stores)
        log.info("instance %d is ready, pid %d", instance.number, instance.pid)
        if not self._shown and all(place.ready for place in self._places):
            self._shown = True
            self._show(self._places[0].report)  # who serves the console, too

    # -- signals

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            log.info("Stopping: running handlers may finish; send the signal again to end at once")

    def _ask_to_roll(self) -> None:
        if not self._stopping.is_set():
            self._roll_asked.set()

    def _end_at_once(self, number: signal.Signals) -> None:
        for instance in self._alive:
            instance.kill(self.config.store.path)
        os._exit(128 + number)

    def _reap(self) -> None:
        for instance in tuple(self._alive):
            instance.reap()
            if instance.exit_code is not None:
                self._alive.discard(instance)
                self._hear_of_suspects()
        if not self.is_any_ready:
            self._none_ready.set()

    def _hear_of_suspects(self) -> None:
        self._quarantine.tell(any(instance.suspects for instance in self._alive))

    # -- duties

    async def _roll(self) -> None:
        """Replace all instances, one at a time, whenever that is asked."""
        while True:
            await self._roll_asked.wait()
            self._roll_asked.clear()
            try:
                self.config = self._reload()
            except IIIError as error:
                log.error("nothing is restarted, the configuration is wrong: %s", error)
                continue
            log.info("Restarting all instances, one at a time")
            for place in self._places:
                if not await place.replace():
                    log.error("the other instances stay as they are")
                    break
            else:
                self._quarantine.replace()
                log.info("All instances are restarted")

    async def _end_all(self) -> bool:
        """Whether all ended by themselves and well. From here on the port is closed."""
        for each in self._sockets:
            each.close()
        alive = list(self._alive)
        await asyncio.gather(*map(self.leave, alive))
        return all(_ended_well(each) for each in alive)


class _Place:
    """One of N: there is an instance in it, or soon again."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor, self.number = supervisor, number
        self._restarts = Restarts()
        self._instance: Instance | None = None
        self.cause = ""

    @property
    def ready(self) -> bool:
        return self._instance is not None and self._instance.ready

    @property
    def report(self) -> Sequence[str]:
        return self._instance.report if self._instance is not None else ()

    def hopeless(self, any_ran: bool) -> bool:
        return not self.ready and self._restarts.hopeless(any_ran=any_ran)

    async def keep(self) -> None:
        """Start an instance, and another one whenever it died."""
        while True:
            try:
                instance = self._instance = self._instance or self._supervisor.spawn(self.number)
            except OSError as error:
                self.cause = f"cannot start a process: {error}"
                log.error("instance %d: %s", self.number, self.cause)
                await self._pause(self._restarts.died_at_start())
                continue
            if await instance.until_started():
                self._restarts.ready()
            await instance.until_ended()
            if self._instance is instance:  # and no other took its place
                self._instance = None
                await self._pause(self._died(instance))

    async def replace(self) -> bool:
        """Start another, then let the present one drain. False where the other does not start."""
        try:
            instance = self._supervisor.spawn(self.number)
        except OSError as error:
            log.error("instance %d is not replaced: %s", self.number, error)
            return False
        if not await self._starts(instance):
            return False
        old, self._instance = self._instance, instance
        if old is not None:
            await self._supervisor.leave(old)
        return True

    async def _starts(self, replacement: Instance) -> bool:
        limit_s = self._supervisor.start_limit_s
        try:
            if await replacement.until_started(limit_s):
                return True
            log.error("instance %d is not replaced, the new one died: %s", self.number, replacement.cause)
        except TimeoutError:
            replacement.kill(self._supervisor.config.store.path)
            await replacement.until_ended()
            log.error(
                "instance %d is not replaced, the new one (pid %d) was not ready in %.0f s: killed",
                self.number,
                replacement.pid,
                limit_s,
            )
        return False

    def _died(self, instance: Instance) -> float:
        self.cause, lived_s, outside = instance.cause, instance.lived_s, instance.ended_from_outside
        if lived_s is None:
            when = "at start"
            for_good, gone = instance.for_good, instance.gone
            pause_s = self._restarts.died_at_start(outside=outside, for_good=for_good, gone=gone)
        else:
            when = f"after {lived_s:.1f} s"
            pause_s = self._restarts.died(lived_s, outside=outside)
        if self._restarts.may_be_at_once and not self._supervisor.is_any_ready:
            pause_s = 0.0
        log.error(
            "instance %d (pid %d) died %s, %s; next start in %.1f s",
            instance.number,
            instance.pid,
            when,
            instance.cause,
            pause_s,
        )
        return pause_s

    async def _pause(self, pause_s: float) -> None:
        self._supervisor.look_if_hopeless()
        if self._restarts.may_be_at_once:
            await self._supervisor.pause(pause_s)
        else:
            await asyncio.sleep(pause_s)


def _ended_well(instance: Instance) -> bool:
    """One that was starting up may not have known yet what a SIGTERM asks for."""
    return instance.exit_code == 0 or (instance.lived_s is None and instance.exit_code == -signal.SIGTERM)


async def _first_of(*duties: Coroutine[Any, Any, object]) -> None:
    """Run them until one ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(duty) for duty in duties]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()
