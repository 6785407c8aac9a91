"""The soak: an engine under mixed load for minutes; what it uses, and how fast it answers, must stay flat.

    python tests/crash/soak.py [--minutes 10] [--rate 100]

Compares the last third of the time with the second one, the first being warm-up; ends with 1 where anything
grew by more than its tolerance, or an engine logged an error.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson
from crash_kit import EngineProcess, Project, until
from journal_runs import share

ROWS = 12
SAMPLE_S = 1.0
IN_FLIGHT_MAX = 200
KEY_EVERY = 4

CONFIG = """
http: {port: 0, idempotency_ttl: 10s}
console: {enabled: false}
log: {level: error}
history: {keep: 1000}
"""


class Sample(NamedTuple):
    at_ns: int
    anon_kib: int
    file_bytes: int
    files: int
    threads: int


class Took(NamedTuple):
    at_ns: int
    ms: float


class Record(NamedTuple):
    """What was seen from `from_ns` on."""

    from_ns: int
    to_ns: int
    samples: list[Sample]
    requests: list[Took]
    messages: list[Took]

    def part(self, index: int, of: int) -> Record:
        span = (self.to_ns - self.from_ns) / of
        low, high = int(self.from_ns + index * span), int(self.from_ns + (index + 1) * span)

        def within(each: Sample | Took) -> bool:
            return low <= each.at_ns < high

        return Record(
            low,
            high,
            [each for each in self.samples if within(each)],
            [each for each in self.requests if within(each)],
            [each for each in self.messages if within(each)],
        )


# ------------------------------------------------------------------------------------------- what is flat


class Measure(NamedTuple):
    """`most`: what the last third may reach, given the second one."""

    name: str
    of: Callable[[Record], float]
    most: Callable[[float], float]
    tolerance: str


def _p(part: float, field: str) -> Callable[[Record], float]:
    return lambda record: share([took.ms for took in getattr(record, field)], part)


MEASURES = [
    Measure(
        "RssAnon MiB",
        lambda record: statistics.median(s.anon_kib for s in record.samples) / 1024,
        lambda before: before * 1.05 + 2,
        "5 % + 2 MiB",
    ),
    Measure(
        "file MiB",
        lambda record: max(s.file_bytes for s in record.samples) / (1 << 20),
        lambda before: before * 1.1 + 1,
        "10 % + 1 MiB",
    ),
    Measure("open files", lambda r: max(s.files for s in r.samples), lambda before: before + 2, "2"),
    Measure("threads", lambda r: max(s.threads for s in r.samples), lambda before: before + 32, "a pool"),
    Measure("request p50 ms", _p(0.5, "requests"), lambda before: before * 1.5 + 1, "50 % + 1 ms"),
    Measure("request p99 ms", _p(0.99, "requests"), lambda before: before * 2 + 20, "100 % + 20 ms"),
    Measure("message p50 ms", _p(0.5, "messages"), lambda before: before * 1.5 + 1, "50 % + 1 ms"),
    Measure("message p99 ms", _p(0.99, "messages"), lambda before: before * 2 + 20, "100 % + 20 ms"),
]


def grown(record: Record) -> list[str]:
    """Sentences about what is not flat."""
    found = []
    for measure in MEASURES:
        before, now = measure.of(record.part(1, 3)), measure.of(record.part(2, 3))
        if now > measure.most(before):
            found.append(f"{measure.name}: {before:.1f}, then {now:.1f}; {measure.tolerance} more at most")
    return found


def table(record: Record) -> str:
    words = [measure.name.split(" ") for measure in MEASURES]
    depth = max(map(len, words))
    heads = [[""] * (depth - len(each)) + each for each in words]
    lines = [
        f"{'minute' * (row == depth - 1):>8}" + "".join(f"{h[row]:>9}" for h in heads) for row in range(depth)
    ]
    for index in range(ROWS):
        part = record.part(index, ROWS)
        if part.samples and part.requests:
            minute = (part.from_ns - record.from_ns) / 60e9
            lines.append(f"{minute:8.1f}" + "".join(f"{measure.of(part):9.1f}" for measure in MEASURES))
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------- load


class Load:
    """Requests at a steady rate, whether or not the last one is answered."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._running: set[asyncio.Task[None]] = set()
        self.took: list[Took] = []
        self.wrong: list[str] = []

    async def run(self, rate: float, end: float) -> None:
        began = time.monotonic()
        for number in itertools.count():
            due = began + number / rate
            if due >= end:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._running) < IN_FLIGHT_MAX:
                task = asyncio.create_task(self._ask(number))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        await asyncio.gather(*self._running)

    async def _ask(self, number: int) -> None:
        at_ns = time.monotonic_ns()
        headers = {"idempotency-key": f"k{number}"} if number % KEY_EVERY == 0 else {}
        answer = await self._http.post("/work", json={"number": number, "at_ns": at_ns}, headers=headers)
        self.took.append(Took(at_ns, (time.monotonic_ns() - at_ns) / 1e6))
        if not answer.is_success:
            self.wrong.append(f"request {number}: {answer.status_code} {answer.text}")


def look(pid: int, file: Path) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Sample(
        time.monotonic_ns(),
        int(fields["RssAnon"].split()[0]),
        file.stat().st_blocks * 512,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(fields["Threads"]),
    )


async def _sample(engine: EngineProcess, file: Path, samples: list[Sample], end: float) -> None:
    while time.monotonic() < end:
        samples.append(look(engine.pid, file))
        await asyncio.sleep(SAMPLE_S)


async def soak(folder: Path, minutes: float, rate: float) -> tuple[Record, list[str]]:
    project = Project(folder, "soak_steps", CONFIG)
    samples: list[Sample] = []
    try:
        engine = project.start()
        address = await engine.address()
        began_ns, end = time.monotonic_ns(), time.monotonic() + 60 * minutes
        async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as http:
            load = Load(http)
            await asyncio.gather(
                load.run(rate, end), _sample(engine, project.folder / "data/data.mdb", samples, end)
            )
        async with project.store() as store:
            lanes = [(row.topic, row.step) for row in store.stats() if not row.topic.startswith("$cron/")]
            await until(lambda: store.unsettled(lanes) == 0, "everything settled", lambda: store.stats())
            wrong = [*load.wrong, *store.verify()]
        engine.ask_to_stop()
        if code := await engine.died():
            wrong.append(f"the engine ended with {code}")
        wrong += [f"the engine said: {line}" for line in engine.logged.splitlines()]
        return Record(began_ns, int(end * 1e9), samples, load.took, _messages(folder / "times")), wrong
    finally:
        project.clean_up()


def _messages(times: Path) -> list[Took]:
    lines = [line.split() for line in times.read_text().splitlines()]
    return [Took(int(at_ns), int(us) / 1000) for at_ns, us in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description="Load an engine for minutes and see that nothing grows.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--json", type=Path, help="write every sample there")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="iii-soak-"))
    record, wrong = asyncio.run(soak(folder / "project", given.minutes, given.rate))
    if given.json:
        given.json.write_bytes(orjson.dumps(record))
    print(f"{len(record.requests):,} requests and all that follows from them, in {given.minutes:g} minutes\n")
    print(table(record))
    found = [*grown(record), *_few(wrong)]
    print(
        "\n" + "\n".join(f"  ! {each}" for each in found)
        if found
        else "\n  flat: the last third is as the second"
    )
    shutil.rmtree(folder)
    return 1 if found else 0


def _few(wrong: Sequence[str]) -> list[str]:
    return [*wrong[:10], *([f"and {len(wrong) - 10} more"] if len(wrong) > 10 else [])]


if __name__ == "__main__":
    sys.exit(main())
