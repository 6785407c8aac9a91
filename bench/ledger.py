"""What the handlers of one process saw: which messages, how often, how late. The steps of projects/ write it.

With BENCH_LEDGER in the environment the process leaves it in that folder when it ends; `collect` adds up
those of all processes that worked on one store; `require_once` checks that nothing was lost or doubled.
"""

from __future__ import annotations

import atexit
import os
from array import array
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import msgspec

from bench.settings import WrongResult

FOLDER = "BENCH_LEDGER"
SHOWN_MAX = 5

_Written = tuple[bytes, dict[str, bytes], dict[str, int]]


class Ledger:
    """`times[n]`: how often message n ran, 255 at most. By name: `samples` in milliseconds, `calls`."""

    def __init__(self) -> None:
        self.times = bytearray()
        self.calls: Counter[str] = Counter()
        self.samples: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    def saw(self, number: int) -> None:
        """Message `number` runs now."""
        times = self.times
        if number >= len(times):
            times.extend(bytes(max(65_536, number + 1 - len(times))))
        if times[number] < 255:
            times[number] += 1

    def took(self, name: str, milliseconds: float) -> None:
        self.samples[name].append(milliseconds)

    def write(self, file: Path) -> None:
        samples = {name: values.tobytes() for name, values in self.samples.items()}
        file.write_bytes(msgspec.msgpack.encode((bytes(self.times), samples, self.calls)))

    def add(self, file: Path) -> None:
        """Count in what another process wrote."""
        times, samples, calls = msgspec.msgpack.decode(file.read_bytes(), type=_Written)
        for number in (n for n, count in enumerate(times) if count):
            for _ in range(times[number]):
                self.saw(number)
        for name, values in samples.items():
            self.samples[name].frombytes(values)
        self.calls.update(calls)

    @property
    def total(self) -> int:
        return sum(self.times)

    def require_once(self, first: int, count: int) -> None:
        """Messages first .. first+count-1 ran once each, and no other; WrongResult names some."""
        seen = self.times[first : first + count].ljust(count, b"\0")
        if seen == b"\1" * count and self.total == count:
            return
        lost = [first + n for n, times in enumerate(seen) if times == 0]
        doubled = [n for n, times in enumerate(self.times) if times > 1]
        others = self.total - sum(seen)
        raise WrongResult(
            f"of {count} messages {len(lost)} did not run {_some(lost)}, {len(doubled)} ran more than once "
            f"{_some(doubled)}, and {others} ran that were not sent"
        )


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN_MAX]))
    return f"({shown}{', ...' if len(numbers) > SHOWN_MAX else ''})" if numbers else ""


def collect(folder: Path) -> Ledger:
    """What the processes that have ended left in `folder`."""
    ledger = Ledger()
    for file in folder.iterdir():
        ledger.add(file)
    return ledger


@lru_cache(maxsize=1)
def of_this_process() -> Ledger:
    """The one ledger that steps and program of this process share."""
    ledger = Ledger()
    if folder := os.environ.get(FOLDER):
        atexit.register(lambda: ledger.write(Path(folder) / str(os.getpid())))
    return ledger
