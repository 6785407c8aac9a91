"""N engines on one data folder, each its own `iii run` or all under one supervisor, and what is done to them.

Owns the record of signals, deaths and stops with their times; must not know the load.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from crash_kit import DEADLINE_S, EngineProcess, Project, until
from journal_runs import Death, Stop

from iii.store.contract import Store

SHORT_STOP_S = (0.01, 0.4)
LONG_STOP_S = (10.5, 12.0)
YOUNG = 0.15
"""This share of the signals does not wait until another engine is up, nor for the one it strikes."""


class Fleet(Protocol):
    """What starts engines and takes the place of dead ones."""

    kinds: dict[str, int]
    restarts_by_itself: bool

    def pids(self) -> list[int]:
        """The engines that live, up or not."""
        ...

    def exit_code(self, pid: int) -> int | None:
        """None while it lives; also 0 where only its supervisor knows."""
        ...

    def replace(self, pid: int) -> None:
        """This one has ended: see that another takes its place."""
        ...

    def hang_up(self) -> None:
        """SIGHUP: a rolling restart."""
        ...

    async def stop(self) -> list[int]:
        """SIGTERM to all; the exit codes."""
        ...


class Separate:
    """Each engine has a port of its own, and its successor the same."""

    kinds = {"SIGKILL": 60, "SIGSTOP": 25, "SIGTERM": 15}
    restarts_by_itself = False

    def __init__(self, project: Project, ports: list[int]) -> None:
        self._project = project
        self._engines: dict[int, tuple[EngineProcess, int]] = {}
        for port in ports:
            self._start(port)

    def _start(self, port: int) -> None:
        engine = self._project.start("--port", str(port), python=self.python_of_the_next())
        self._engines[engine.pid] = (engine, port)

    def python_of_the_next(self) -> str:
        """Whose `iii` the next engine runs."""
        return sys.executable

    def pids(self) -> list[int]:
        return [pid for pid, (engine, _) in self._engines.items() if engine.runs]

    def exit_code(self, pid: int) -> int | None:
        return self._engines[pid][0].process.poll()

    def replace(self, pid: int) -> None:
        _, port = self._engines.pop(pid)
        self._start(port)

    def hang_up(self) -> None:
        """An engine without a supervisor takes no notice."""
        for pid in self.pids():
            os.kill(pid, signal.SIGHUP)

    async def stop(self) -> list[int]:
        engines = [engine for engine, _ in self._engines.values()]
        for engine in engines:
            engine.ask_to_stop()
        return [await engine.died() for engine in engines]


class Supervised:
    """`iii run --instances N`: the supervisor starts the successors."""

    kinds = {"SIGKILL": 60, "SIGSTOP": 25, "SIGTERM": 12, "SIGHUP": 3}
    restarts_by_itself = True

    def __init__(self, project: Project, port: int, count: int) -> None:
        self.supervisor = project.start("--instances", str(count), "--port", str(port))

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children")
        assert self.supervisor.runs, f"the supervisor ended:\n{self.supervisor.text}"
        return [int(pid) for pid in children.read_text().split()]

    def exit_code(self, pid: int) -> int | None:
        return None if pid in self.pids() else 0

    def replace(self, pid: int) -> None:
        pass

    def hang_up(self) -> None:
        self.supervisor.process.send_signal(signal.SIGHUP)

    async def stop(self) -> list[int]:
        self.supervisor.ask_to_stop()
        return [await self.supervisor.died()]


class Tormentor:
    """Sends signals by the dice until so many processes were killed, or the time is up."""

    def __init__(
        self, fleet: Fleet, store: Store, dice: random.Random, pause_s: float, long_stops: float
    ) -> None:
        """pause_s: between two signals, on average. long_stops: the share that outlasts the peers."""
        self._fleet, self._store, self._dice = fleet, store, dice
        self._pause_s, self._long_stops = pause_s, long_stops
        self._busy: set[int] = set()
        self._known: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent: Counter[str] = Counter()
        self.deaths: list[Death] = []
        self.stops: list[Stop] = []
        self.ended_by_peers = 0
        self.wrong: list[str] = []

    def up(self) -> list[int]:
        """Engines that have a session and do not stand still."""
        open_now = {session.pid for session in self._store.sessions()}
        return [pid for pid in self._fleet.pids() if pid in open_now and pid not in self._busy]

    async def run(self, kills: int, seconds: float) -> None:
        kinds, weights = list(self._fleet.kinds), list(self._fleet.kinds.values())
        end, enough = time.monotonic() + seconds, min(2, len(self.up()))
        while self.sent["SIGKILL"] < kills and time.monotonic() < end:
            await asyncio.sleep(self._dice.uniform(0, 2 * self._pause_s))
            self.look()
            kind, young = self._dice.choices(kinds, weights)[0], self._dice.random() < YOUNG
            if not young:
                await until(lambda: len(self.up()) >= enough, "engines that take over")
            among = [pid for pid in self._fleet.pids() if pid not in self._busy] if young else self.up()
            victim = self._dice.choice(among) if among else None
            if victim is not None:
                self._strike(kind, victim)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.look()

    def look(self) -> None:
        """Nobody ends but by our hand. (Of those that are supervised their supervisor says so.)"""
        if self._fleet.restarts_by_itself:
            return
        living = set(self._fleet.pids())
        for pid in self._known - living - self._busy:
            self.wrong.append(f"engine {pid} ended ({self._fleet.exit_code(pid)}) by itself")
            self._fleet.replace(pid)
        self._known = living

    def _strike(self, kind: str, pid: int) -> None:
        self.sent[kind] += 1
        match kind:
            case "SIGKILL":
                self._spawn(self._kill(pid), pid)
            case "SIGSTOP":
                self._spawn(self._stop(pid), pid)
            case "SIGTERM":
                self._spawn(self._terminate(pid, pid in self.up()), pid)
            case "SIGHUP":
                self._fleet.hang_up()

    def _spawn(self, work: Coroutine[Any, Any, None], pid: int) -> None:
        self._busy.add(pid)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._busy.discard(pid)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.wrong.append(str(error))

        task.add_done_callback(ended)

    async def _kill(self, pid: int) -> None:
        heirs = tuple(other for other in self.up() if other != pid)
        at_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        await self._gone(pid, at_ns, heirs)

    async def _stop(self, pid: int) -> None:
        alone = len(self.up()) < 1
        long = self._dice.random() < self._long_stops and not alone
        from_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._dice.uniform(*(LONG_STOP_S if long else SHORT_STOP_S)))
        if self._fleet.exit_code(pid) is None:
            os.kill(pid, signal.SIGCONT)
            self.stops.append(Stop(pid, from_ns, time.monotonic_ns()))
            self.sent["long stop"] += long
        else:  # it stood inside a write transaction, and its peers did not wait for it
            self.ended_by_peers += 1
            await self._gone(pid, from_ns)

    async def _terminate(self, pid: int, up: bool) -> None:
        """It drains and exits 0; one that is still starting has nothing to drain yet."""
        at_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGTERM)
        await self._gone(pid, at_ns, expected=(0,) if up else (0, -signal.SIGTERM))

    async def _gone(
        self, pid: int, at_ns: int, heirs: tuple[int, ...] = (), expected: tuple[int, ...] = ()
    ) -> None:
        await until(lambda: self._fleet.exit_code(pid) is not None, f"the end of {pid} within {DEADLINE_S} s")
        self.deaths.append(Death(pid, at_ns, time.monotonic_ns(), heirs))
        code = self._fleet.exit_code(pid)
        if expected and code not in expected:
            self.wrong.append(f"engine {pid} ended with {code} after SIGTERM, expected {expected[0]}")
        self._known.discard(pid)
        self._fleet.replace(pid)
