"""Power cuts: what processes write and sync is recorded, then played back up to any moment, and looked at.

    python tests/crash/power_cut.py [--cuts 300] [--seconds 4] [--seed N]

Two recordings. `life`: the scenario that is killed at every commit elsewhere, cut at every write and sync;
on each image it is lived to its end. `engines`: two of them under load from outside, cut at random; each
image is weighed, and on some of them an engine goes on and everything is reckoned as in the kill loop. Needs
gcc.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import power_disk
from accounts import audit, gather
from client_ledger import Line, Work, fold
from crash_kit import HERE, EngineProcess, Project, free_ports, until, values
from kill_loop import CONFIG, Client, settle
from power_disk import Cut, Event

sys.path += [str(HERE.parent), str(HERE.parent / "lmdb")]  # for those who run this file without pytest
from crash_scenario import Ledger, Life, live_on

from iii.errors import StoreDamaged
from iii.files import make_folder
from iii.store.contract import Store
from iii.store.lmdb import LmdbStore

SHOWN_MAX = 10


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: what is looked at there need not reach a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="iii-power-cut-", dir=memory if memory.is_dir() else None
    ) as name:
        yield Path(name)


class Recorder:
    """What runs with `environment` has its writes to data.mdb recorded."""

    def __init__(self, folder: Path) -> None:
        library = folder / "power_writes.so"
        source = HERE / "power_writes.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._log = folder / "writes"
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "III_WRITES": str(self._log)}

    def events(self) -> list[Event]:
        return power_disk.read(self._log)


# ------------------------------------------------------------------------------------------------- life


class TimedLedger(Ledger):
    """Each line begins with the moment at which it was acknowledged."""

    def add(self, line: str) -> None:
        super().add(f"{time.monotonic_ns()} {line}")


def live(folder: Path) -> None:
    """What the recorded process does."""

    async def run() -> None:
        life = Life(folder / "data", TimedLedger(folder / "ledger"))
        store = life.store()
        await life.live(store)
        await store.close()

    asyncio.run(run())


def record_life(folder: Path) -> tuple[list[Event], list[tuple[int, str]]]:
    """The events, and (moment, line) for everything acknowledged."""
    folder.mkdir()
    recorder = Recorder(folder)
    command = [sys.executable, str(HERE / "power_cut.py"), "--live", str(folder)]
    subprocess.run(command, env=recorder.environment, check=True)
    lines = [line.split(" ", 1) for line in (folder / "ledger").read_text().splitlines()]
    return recorder.events(), [(int(at), line) for at, line in lines]


def live_on_after(cut: Cut, acknowledged: Sequence[tuple[int, str]], folder: Path) -> str | None:
    """The rest of the life on this image; what is wrong with it."""
    told = [line for at, line in acknowledged if at < cut.before_ns]
    with _image(cut, folder):
        (folder / "ledger").write_text("".join(f"{line}\n" for line in told))
        try:
            asyncio.run(live_on(folder))
        except Exception as error:
            return f"{_named(cut)}: {type(error).__name__}: {error}"
    return None


def _named(cut: Cut) -> str:
    return f"cut after event {cut.number}, {cut.survives} of the unsynced survives"


@contextmanager
def _image(cut: Cut, folder: Path) -> Iterator[None]:
    """The store as the cut leaves it, in `folder`/data."""
    shutil.rmtree(folder, ignore_errors=True)
    _lay(cut, folder / "data")
    try:
        yield
    finally:
        shutil.rmtree(folder)


def _lay(cut: Cut, data: Path) -> None:
    make_folder(data)
    if cut.image is not None:
        (data / "data.mdb").write_bytes(cut.image)


# ------------------------------------------------------------------------------------------------ engines


async def record_engines(folder: Path, seconds: float) -> tuple[list[Event], list[Line]]:
    """Two engines and a client outside, for so long; then they are killed."""
    project = Project(folder, "load_steps", CONFIG)
    recorder = Recorder(folder)
    ports = free_ports(2)
    client: Client | None = None
    try:
        for port in ports:
            project.start("--port", str(port), environment=recorder.environment)
        for engine in project.engines:
            await engine.address()  # nobody looks into the store: who opens it writes, and must be recorded
        client = Client(project, ports, pause_ms=10.0)
        await asyncio.sleep(seconds)
        await client.stop()
    finally:
        if client is not None:
            client.clean_up()
        project.clean_up()
    return recorder.events(), client.lines()


def told_before(cut: Cut, lines: Sequence[Line]) -> dict[str, Work]:
    """What the client knew when the power went."""
    return fold(line for line in lines if line.at_ns < cut.before_ns)


async def weigh(cut: Cut, lines: Sequence[Line], folder: Path) -> list[str]:
    """Whether everything acknowledged is there, and each piece of work in exactly one place of each chain."""
    told = {id for id, work in told_before(cut, lines).items() if work.end == "accepted"}
    with _image(cut, folder):
        store = LmdbStore(folder / "data")
        try:
            await store.open()
        except StoreDamaged as error:
            return [f"{_named(cut)}: {error}"]
        try:
            broken = [*store.verify(), *_misplaced(store)]
            lost = told - values(store, "work").keys()
        finally:
            await store.close()
    found = [*broken, *[f"{id} was acknowledged and is not there" for id in sorted(lost)]]
    return [f"{_named(cut)}: {each}" for each in found]


def _misplaced(store: Store) -> Iterator[str]:
    """A chain moves on by one commit: a message of it waits, or what its last step wrote is there."""
    effects, capped = values(store, "effects"), values(store, "capped")
    again = {f"{client}-{n}" for client, numbers in values(store, "ordered.again").items() for n in numbers}
    chains = {
        "first, second": [
            *_waiting(store, "first", "second"),
            *[i for i in effects if "second" in effects[i]],
        ],
        "ordered": [*_waiting(store, "ordered", "ordered.again"), *again],
        "capped": [*_waiting(store, "capped"), *capped],
    }
    work = sorted(values(store, "work"))
    for name, places in chains.items():
        if sorted(places) != work:
            yield f"the chain {name} holds {len(places)} of {len(work)} pieces of work"


def _waiting(store: Store, *topics: str) -> Iterator[str]:
    for topic in topics:
        for message in store.waiting(topic, limit=1_000_000):
            yield str(orjson.loads(message.payload)["id"])


async def go_on(cut: Cut, lines: Sequence[Line], folder: Path) -> list[str]:
    """An engine starts on the image, works off what is there, and everything is reckoned."""
    told = told_before(cut, lines)
    for work in told.values():
        work.end = "accepted" if work.end == "accepted" else "unknown"
    shutil.rmtree(folder, ignore_errors=True)
    project = Project(folder, "load_steps", CONFIG)
    _lay(cut, folder / "data")
    try:
        engine: EngineProcess = project.start("--no-http")
        async with project.store() as store:
            await until(
                lambda: store.sessions() and store.sessions()[0].pid == engine.pid, "it", project.said
            )
            wrong = await settle(store)
            engine.ask_to_stop()
            await engine.died()
            wrong += audit(gather(store, told, [])).all()
            return [f"{_named(cut)}: {each}" for each in wrong]
    finally:
        project.clean_up()
        shutil.rmtree(folder)


# --------------------------------------------------------------------------------------------------- tool


def cut_life(folder: Path, dice: random.Random) -> tuple[str, list[str]]:
    events, acknowledged = record_life(folder / "life")
    images, wrong = 0, []
    for cut in power_disk.cuts(events, range(len(events)), dice):
        images += 1
        wrong += [each for each in [live_on_after(cut, acknowledged, folder / "image")] if each]
    return _row("life", events, len(acknowledged), images, 0, wrong), wrong


async def cut_engines(folder: Path, dice: random.Random, count: int, seconds: float) -> tuple[str, list[str]]:
    events, lines = await record_engines(folder / "engines", seconds)
    numbers = dice.sample(range(len(events)), min(count, len(events)))
    going_on = set(numbers[: max(1, count // 50)])
    images, went_on, wrong = 0, 0, []
    for cut in power_disk.cuts(events, numbers, dice, torn=1):
        images += 1
        wrong += await weigh(cut, lines, folder / "image")
        if cut.number in going_on and cut.survives != "everything" and told_before(cut, lines):
            went_on += 1
            wrong += await go_on(cut, lines, folder / "image")
    accepted = sum(line.event == "accepted" for line in lines)
    return _row("engines", events, accepted, images, went_on, wrong), wrong


def _row(name: str, events: list[Event], told: int, images: int, went_on: int, wrong: list[str]) -> str:
    writes = sum(event.kind == "write" for event in events)
    further = f", {went_on} with an engine going on" if went_on else ""
    return (
        f"  {name:<8} {writes:,} writes, {len(events) - writes:,} syncs, {told:,} acknowledgements: "
        f"{images:,} images{further}, {len(wrong)} wrong"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power at recorded moments and look what is left.")
    parser.add_argument("--cuts", type=int, default=300, help="of the engines' recording")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load that is recorded")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--live", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.live:
        live(given.live)
        return 0
    dice = random.Random(given.seed)
    print(f"power cuts, seed {given.seed}\n")
    with scratch() as folder:
        row, wrong = cut_life(folder, dice)
        print(row, flush=True)
        row, more = asyncio.run(cut_engines(folder, dice, given.cuts, given.seconds))
        print(row)
    for each in [*wrong, *more][:SHOWN_MAX]:
        print(f"  ! {each}")
    return 1 if wrong or more else 0


if __name__ == "__main__":
    sys.exit(main())
