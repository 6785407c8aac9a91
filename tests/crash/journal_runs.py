"""What ran when, from the journal of the steps, with the deaths and stops of processes laid over it. Pure.

A run ends where its handler wrote so; else with its process. Of a process that stood still longer than its
peers wait (STALE_S) the leases are taken away: its runs end where it was stopped, whatever they still write.
Deaths count from before the signal is sent, so no run seems to last longer than it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

STALE_S = 10.0
NEVER_NS = 1 << 63


class Run(NamedTuple):
    topic: str
    message: int
    attempt: int
    client: str
    pid: int
    start_ns: int
    stop_ns: int  # NEVER_NS: it wrote none


class Death(NamedTuple):
    """Between two moments: before the signal was sent, and when the process was seen to be gone."""

    pid: int
    at_ns: int
    gone_ns: int
    heirs: tuple[int, ...]  # engines that were up beside it


class Stop(NamedTuple):
    """A process stood still."""

    pid: int
    from_ns: int
    to_ns: int


def read(path: Path) -> list[Run]:
    """In order of their starts."""
    return parse(path.read_text().splitlines()) if path.exists() else []


def parse(lines: Iterable[str]) -> list[Run]:
    runs: list[Run] = []
    open_at: dict[tuple[str, ...], int] = {}
    for line in lines:
        what, *same, at = line.split()
        topic, message, attempt, client, pid = key = tuple(same)
        if what == "start":
            open_at[key] = len(runs)
            runs.append(Run(topic, int(message), int(attempt), client, int(pid), int(at), NEVER_NS))
        else:
            index = open_at.pop(key)
            runs[index] = runs[index]._replace(stop_ns=int(at))
    return runs


def cut(runs: Iterable[Run], deaths: Iterable[Death], stops: Iterable[Stop]) -> list[Run]:
    """Runs as long as their lease lasted. A process ends the runs that it began before: pids come again."""
    ends: dict[int, list[tuple[int, int]]] = {}
    for death in deaths:
        ends.setdefault(death.pid, []).append((death.at_ns, death.gone_ns))
    for stop in stops:
        if stop.to_ns - stop.from_ns >= STALE_S * 0.8e9:
            ends.setdefault(stop.pid, []).append((stop.from_ns, stop.to_ns))
    ended = []
    for run in runs:
        own = [from_ns for from_ns, to_ns in ends.get(run.pid, ()) if run.start_ns <= to_ns]
        ended.append(run._replace(stop_ns=max(run.start_ns, min([run.stop_ns, *own]))))
    return ended


def most_at_once(runs: Iterable[Run]) -> int:
    """One that ends as the next begins is not at once with it."""
    edges = sorted(edge for run in runs for edge in ((run.start_ns, 1), (run.stop_ns, -1)))
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def together(runs: Iterable[Run], key: str) -> list[tuple[Run, Run]]:
    """Pairs that overlap although they are of one message, or one client: key names the field."""
    last: dict[object, Run] = {}
    found = []
    for run in sorted(runs, key=lambda run: run.start_ns):
        name = getattr(run, key)
        before = last.get(name)
        if before is not None and before.stop_ns > run.start_ns:
            found.append((before, run))
        if before is None or run.stop_ns >= before.stop_ns:
            last[name] = run
    return found


def recoveries_ms(runs: Sequence[Run], deaths: Sequence[Death], stops: Iterable[Stop]) -> list[float]:
    """Per death: until the first of its leased messages ran elsewhere, the same attempt again.

    Only where one that was up beside it neither died nor stood still until then: else there was nobody.
    """
    of_pid: dict[int, list[Run]] = {}
    of_attempt: dict[tuple[int, int], list[Run]] = {}
    for run in runs:
        of_pid.setdefault(run.pid, []).append(run)
        of_attempt.setdefault((run.message, run.attempt), []).append(run)
    struck = [(death.pid, death.at_ns) for death in deaths] + [(stop.pid, stop.from_ns) for stop in stops]
    found = []
    for death in deaths:
        again = min(
            (
                later.start_ns
                for run in of_pid.get(death.pid, ())
                for later in of_attempt[run.message, run.attempt]
                if later.pid != death.pid and later.start_ns > death.at_ns
            ),
            default=NEVER_NS,
        )
        lost = {pid for pid, at_ns in struck if death.at_ns <= at_ns <= again}
        if again < NEVER_NS and set(death.heirs) - lost:
            found.append((again - death.at_ns) / 1e6)
    return found


def share(values: Sequence[float], part: float) -> float:
    """The value below which this part of them lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
