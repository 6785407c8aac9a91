"""One simulated machine: a store, processes with an engine each, clients, and what befalls them.

storm   clients send; processes crash, stand still, drain and restart; the store is slow, full or fails;
        the calendar is set; handlers misbehave
calm    all of it ends, and everything that was accepted has its end within QUIET_S_MAX
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from sim_checks import STATES, findings
from sim_ledger import Ledger
from sim_loop import SimClock, SimLoop, current
from sim_steps import steps
from sim_store import SimStore

from iii.config import Config, HistoryConfig, StoreConfig
from iii.engine import Engine
from iii.errors import IIIError
from iii.model import Suspects
from iii.store.memory import MemoryTables
from iii.web.request import Request

PROCESSES = 3
POISON = 0.03
BEFALL_MAX = 14
CALM_S = 75
QUIET_S_MAX = 60 * 60
DRAIN_MS = 3_000
HERE = Path(".").absolute()
CONFIG = Config(
    root=HERE,
    steps=HERE,
    store=StoreConfig(path=HERE / "unused", kind="memory"),
    history=HistoryConfig(keep=50),
)


class Outcome(NamedTuple):
    """What a run came to. `findings`: what was broken, [] when nothing was."""

    seed: int
    trace: str
    findings: list[str]
    counts: Counter[str]
    last_events: list[str]

    def report(self) -> str:
        """For a failure: what broke, how it came, how to see it again."""
        lines = [
            f"seed {self.seed}: {len(self.findings)} findings",
            *self.findings[:20],
            "",
            "the last events:",
        ]
        again = f"again: python tests/simulation/run.py --seed {self.seed}"
        return "\n".join([*lines, *self.last_events, "", again])


class Process:
    """An engine with threads of its own, which end with it."""

    def __init__(self, world: World, name: str, version: int, suspects: Suspects) -> None:
        loop = world.loop
        self.name, self.version = name, version
        self.main, self.writer = loop.actor(name), loop.actor(f"{name}-writer")
        self.store = SimStore(loop, world.clock, world.tables, self.main, self.writer, world.ledger)
        self.suspects = suspects
        self.engine = Engine(CONFIG, steps(world, version), store=self.store, suspects=suspects)
        self.store.on_suspects(lambda ready: world.hear_of_suspects(self, ready))
        self.is_up = self.is_leaving = False

    @property
    def actors(self) -> list[Any]:
        return [self.main, self.writer]

    @property
    def is_frozen(self) -> bool:
        return self.main.frozen


class World:
    """Everything of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.loop = SimLoop(seed)
        self.random = self.loop.random
        self.clock = SimClock(self.loop)
        self.tables = MemoryTables()
        self.ledger = Ledger(self.loop, self.tables)
        self.calm = self._ends = False
        self.inside: Counter[tuple[str, str]] = Counter()
        self.most_inside = 0
        self.flushed: set[object] = set()
        self.starts: Counter[object] = Counter()  # of poisons, by key
        self.processes: list[Process] = []
        self._suspects: set[str] = set()  # the processes that say some are ready
        self._quarantines = 0
        self._quarantine_was_hit = False  # by what is not a message's fault
        self._names = self._keys = 0

    async def story(self) -> None:
        for version in (0, 0, 1)[:PROCESSES]:
            self.begin(version)
        for _ in range(self.random.randint(4, BEFALL_MAX)):
            await self.pause(8_000)
            for process in self.live():
                self.loop.spawn(process.main, self.send(process, self.random.randint(1, 8)))
                if self.random.random() < 0.15:
                    self.loop.spawn(process.main, self.burst(process, self.random.randint(20, 120)))
            self.random.choice(self._blows())()
        await self.pause(5_000)
        await self._calm_down()

    async def pause(self, ms_max: int) -> None:
        await asyncio.sleep(self.random.random() * ms_max / 1000)

    def live(self) -> list[Process]:
        """Those that take requests."""
        up = [p for p in self.processes if p.is_up and not p.is_frozen and not p.is_leaving]
        return [p for p in up if p.suspects != "only"]

    # -- processes

    def begin(self, version: int, suspects: Suspects = "none") -> None:
        self._names += 1
        kind = "q" if suspects == "only" else "p"
        process = Process(self, f"{kind}{self._names}v{version}", version, suspects)
        self.processes.append(process)
        self.ledger.tell(f"{process.name} starts")
        self.loop.spawn(process.main, self._start(process))

    async def _start(self, process: Process) -> None:
        """As a supervisor: an engine that cannot start is ended, and another one tried."""
        try:
            await process.engine.start()
            process.is_up = True
        except IIIError as error:
            self.ledger.tell(f"{process.name} cannot start: {error}")
            self.loop.spawn(self.loop.outside, self._begin_again(process))

    async def _begin_again(self, process: Process) -> None:
        self.kill(process)
        await asyncio.sleep(0.5)
        if process.suspects != "only":
            self.begin(process.version)

    def hear_of_suspects(self, process: Process, ready: bool) -> None:
        """As a supervisor: while suspects are ready there is a quarantine, or one in a moment."""
        if ready:
            self._suspects.add(process.name)
        else:
            self._suspects.discard(process.name)
        self._see_to_quarantine()

    def _see_to_quarantine(self) -> None:
        if self._suspects and not self._quarantines:
            self._quarantines += 1
            self.later(500, self._begin_quarantine)

    def _begin_quarantine(self) -> None:
        self.begin(1, "only")
        self.ledger.counts["quarantines"] += 1

    def die(self) -> None:
        """A handler ends the process it runs in, now."""
        process = next(each for each in self.processes if each.main is current.get())
        self.loop.spawn(self.loop.outside, self._die(process))

    async def _die(self, process: Process) -> None:
        if process in self.processes:
            self.kill(process)
            if process.suspects != "only" and not self._ends:
                self.later(3_000, lambda: self.begin(self.random.randint(0, 1)))

    def kill(self, process: Process) -> None:
        self.ledger.tell(f"{process.name} is killed")
        self.ledger.counts["kills"] += 1
        self._end(process)

    def _end(self, process: Process) -> None:
        self.processes.remove(process)
        self._suspects.discard(process.name)
        if process.suspects == "only":
            self._quarantines -= 1
            self.later(100, self._see_to_quarantine)
        process.store.crash(unnoticed=True)
        for actor in process.actors:
            self.loop.kill(actor)
        self._notice()

    def _notice(self) -> None:
        """Those who live hear of a death a moment later, each on its own."""
        for peer in self.processes:
            self.loop.spawn(peer.main, self._look_for_dead(peer))

    async def _look_for_dead(self, peer: Process) -> None:
        await self.pause(30)
        peer.store.recover_dead()

    async def _drain(self, process: Process) -> None:
        await process.engine.stop(DRAIN_MS)
        self.loop.spawn(self.loop.outside, self._left(process))

    async def _left(self, process: Process) -> None:
        if process in self.processes:
            self.ledger.tell(f"{process.name} has drained")
            self._end(process)

    # -- what befalls them

    def _blows(self) -> list[Callable[[], None]]:
        every = [self.crash, self.crash, self.freeze, self.freeze, self.restart, self.restart, self.block]
        return [*every, self.fill_up, self.fail, self.slow_down, self.turn_calendar, self.crash_all]

    def later(self, ms_max: int, call: Callable[[], None]) -> None:
        async def work() -> None:
            await self.pause(ms_max)
            call()

        self.loop.spawn(self.loop.outside, work())

    def one(self) -> Process | None:
        """Whom it hits: a quarantine once at most, since two such deaths would be its message's."""
        process = self.random.choice(self.processes) if self.processes else None
        return process if process is None or self._may_hit(process) else None

    def _may_hit(self, process: Process) -> bool:
        if process.suspects != "only":
            return True
        may, self._quarantine_was_hit = not self._quarantine_was_hit, True
        return may

    def crash(self) -> None:
        process = self.one()
        if process is not None:
            self.kill(process)
            self.later(6_000, lambda: self.begin(self.random.randint(0, 1)))

    def crash_all(self) -> None:
        for process in tuple(self.processes):
            if self._may_hit(process):
                self.kill(process)
        for _ in range(PROCESSES):
            self.later(6_000, lambda: self.begin(self.random.randint(0, 1)))

    def freeze(self) -> None:
        """Stopped as by SIGSTOP or a laptop's lid: its peers may take it for dead before it goes on."""
        process = self.one()
        if process is None or process.is_frozen:
            return
        self.ledger.tell(f"{process.name} stands still")
        self.ledger.counts["freezes"] += 1
        for actor in process.actors:
            actor.frozen = True
        if self.random.random() < 0.7:
            self.later(3_000, lambda: self._bury(process))
        self.later(12_000, lambda: self._thaw(process))

    def _bury(self, process: Process) -> None:
        if process in self.processes and process.is_frozen and process.store.session:
            self.ledger.tell(f"{process.name} is taken for dead")
            self.ledger.counts["burials"] += 1
            self.tables.dead_sessions.add(process.store.session)
            self._notice()

    def _thaw(self, process: Process) -> None:
        if process in self.processes and process.is_frozen:
            self.ledger.tell(f"{process.name} goes on")
            for actor in process.actors:
                actor.frozen = False

    def busiest(self) -> Process | None:
        """The process that has most leases."""

        def leases(process: Process) -> int:
            return sum(1 for _ in self.tables.leased.under(process.store.session))

        return max(self.processes, key=leases, default=None)

    def restart(self) -> None:
        self._restart(self.one())

    def _restart(self, process: Process | None) -> None:
        """A rolling deploy: one drains, another starts beside it, maybe with other steps."""
        if process is None or not process.is_up or process.is_leaving:
            return
        self.ledger.tell(f"{process.name} drains")
        self.ledger.counts["drains"] += 1
        process.is_leaving = True
        self.loop.spawn(process.main, self._drain(process))
        self.later(1_000, lambda: self.begin(self.random.randint(0, 1)))

    def block(self) -> None:
        """A handler burns the loop's thread; the writer goes on."""
        process = self.one()
        if process is not None:
            process.main.blocked_until_us = self.loop.now_us + self.random.randint(1_000, 4_000_000)

    def fill_up(self) -> None:
        self.ledger.tell("the disk is full")
        self.ledger.is_full = True
        self.later(6_000, self._make_room)

    def _make_room(self) -> None:
        self.ledger.is_full = False

    def fail(self) -> None:
        self.ledger.failing = 0.3
        self.later(3_000, self._heal)

    def slow_down(self) -> None:
        self.ledger.slow = 40
        self.later(6_000, self._heal)

    def _heal(self) -> None:
        self.ledger.failing, self.ledger.slow = 0.0, 1

    def turn_calendar(self) -> None:
        by_ms = self.random.choice([-86_400_000, -90_000, -1_500, 1_500, 90_000, 600_000])
        self.ledger.tell(f"the calendar is set by {by_ms} ms")
        self.clock.turned_ms += by_ms

    # -- clients

    async def send(self, process: Process, count: int) -> None:
        """A client inside the process: what returns to it is accepted, even if the process dies then."""
        for _ in range(count):
            await self.pause(400)
            topic = self.random.choice(["jobs", "jobs", "jobs", "ordered", "ordered", "grim", "once", "late"])
            if self.random.random() < POISON:
                topic = "poison"
            self._keys += 1
            key: object = self._keys
            options: dict[str, Any] = {"priority": self.random.choice(["low", "normal", "high"])}
            if self.random.random() < 0.2:
                options["delay"] = self.random.randint(1, 5_000)
            data: dict[str, Any] = {"key": key}
            if topic == "ordered":
                options["group"] = data["group"] = f"g{self._keys % 3}"
            elif topic == "once":
                data["key"] = key = f"u{self._keys % 7}"
                options["unique"] = key
            self.ledger.sending(topic, key)
            if topic == "jobs" and self.random.random() < 0.5:
                await self._post(process, key)
                continue
            try:
                self.ledger.accept(topic, key, await process.engine.enqueue(topic, data, **options))
            except IIIError as error:
                self.ledger.tell(f"{process.name} refuses {topic} {key}: {type(error).__name__}")

    async def burst(self, process: Process, count: int) -> None:
        """Many at once; while they are there, the process that runs them may be told to leave."""
        if self.random.random() < 0.5:
            self.later(100, lambda: self._restart(self.busiest()))
        keys = range(self._keys + 1, self._keys + count + 1)
        self._keys += count

        async def send(key: int) -> None:
            self.ledger.sending("swift", key)
            try:
                self.ledger.accept("swift", key, await process.engine.enqueue("swift", {"key": key}))
            except IIIError as error:
                self.ledger.tell(f"{process.name} refuses swift {key}: {type(error).__name__}")

        await asyncio.gather(*map(send, keys))

    async def _post(self, process: Process, key: object) -> None:
        """By HTTP; now and then twice under one idempotency key, to another process too."""
        live = self.live()
        if live and self.random.random() < 0.3:
            other = self.random.choice(live)
            self.loop.spawn(other.main, self._request(other, key))
        await self._request(process, key)

    async def _request(self, process: Process, key: object) -> None:
        fields = [(b"idempotency-key", f"k{key}".encode())]
        answer = await process.engine.endpoint.answer(Request("POST", f"/jobs/{key}", b"", fields, b""))
        self.ledger.tell(f"{process.name} answers {answer.status} to {key}")
        self.ledger.counts[f"answers {answer.status}"] += 1
        if answer.status == 202:
            self.ledger.accept("jobs", key, [])

    # -- the end

    async def _calm_down(self) -> None:
        self.ledger.tell("calm")
        self.calm = True
        self._make_room()
        self._heal()
        for process in tuple(self.processes):
            self._thaw(process)
        await asyncio.sleep(CALM_S)  # whatever was to befall them still does, and cron looks at the calendar
        end_us = self.loop.now_us + QUIET_S_MAX * 1_000_000
        while not self._is_over():
            self._ends = False
            if self.loop.now_us > end_us:
                self.ledger.findings.append(f"not quiet {QUIET_S_MAX} s after the last fault")
                break
            self.begin(1)
            await self._quiet_or(end_us)
            self._ends = True
            for process in tuple(self.processes):
                if process.is_up:
                    await self._on(process, process.engine.stop(DRAIN_MS))
                if process in self.processes:
                    self._end(process)

    def _is_over(self) -> bool:
        """Nobody is there, and nothing is left to do."""
        return not self.processes and not any(
            self.tables.counted(lane, state)
            for lane, row in self.tables.lane.scan()
            if row.served
            for state in STATES
        )

    async def _quiet_or(self, end_us: int) -> None:
        while self.loop.now_us <= end_us:
            await asyncio.sleep(1)
            up = self.live()
            if (
                up
                and not up[0].store.unsettled()
                and await self._on(up[0], up[0].engine._changes.caught_up())
            ):
                return

    async def _on(self, process: Process, work: Coroutine[Any, Any, Any]) -> Any:
        return await self.loop.spawn(process.main, work)


class _Errors(logging.Handler):
    """What the engine itself calls an error."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.ERROR)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("iii.step"):
            self._ledger.findings.append(f"logged by {record.name}: {record.getMessage()} {record.exc_info}")


def simulate(seed: int) -> Outcome:
    """One run, the same for the same seed."""
    world = World(seed)
    logger, errors, state = logging.getLogger("iii"), _Errors(world.ledger), random.getstate()
    perf_counter, time.perf_counter = time.perf_counter, world.loop.time  # decides how long a turn is
    level, propagates = logger.level, logger.propagate
    logger.addHandler(errors)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    random.seed(seed)  # jitter
    ledger = world.ledger
    try:
        world.loop.run(world.story())
        ledger.findings += findings(world)
    except Exception as error:
        ledger.findings.append(f"the run ended with {error!r}")
    finally:
        random.setstate(state)
        time.perf_counter = perf_counter
        world.loop.close()
        logger.removeHandler(errors)
        logger.setLevel(level)
        logger.propagate = propagates
    ledger.findings += [f"asyncio: {mishap}" for mishap in world.loop.mishaps]
    return Outcome(seed, ledger.trace, ledger.findings, ledger.counts, ledger.last_events)
