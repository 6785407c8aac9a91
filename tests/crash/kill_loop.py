"""The kill loop: engines under load from outside, killed and stopped again and again; then the reckoning.

    python tests/crash/kill_loop.py --kills 500 --instances 3 [--supervised] [--seconds 900] [--seed N]

Ends with 1 where anything acknowledged was lost, any effect doubled, or any other promise broken. The dice
(who is struck, how, when) follow the seed; what the processes make of it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import client_ledger
import journal_runs
import orjson
from accounts import Evidence, Findings, audit, gather, in_flight
from client_ledger import Line, Work, fold
from crash_kit import HERE, Project, free_ports, until
from fleet import Fleet, Separate, Supervised, Tormentor
from msgspec import Struct

from iii.store.contract import Store

CLIENTS = 16
SHOWN_MAX = 10
SETTLE_S, STUCK_S, QUIET_S = 180.0, 30.0, 5.0

CONFIG = """
console: {enabled: false}
log: {level: error}
queues:
  first: {max_crashes: 1000, concurrency: 8}
  second: {max_crashes: 1000, concurrency: 4}
  ordered: {max_crashes: 1000}
  ordered.again: {max_crashes: 1000}
  capped: {max_crashes: 1000}
  once: {max_crashes: 1000}
  doomed: {max_crashes: 1000}
  $state/Notice: {max_crashes: 1000}
  $cron/Tick: {max_crashes: 1000}
"""


class Plan(Struct, frozen=True):
    kills: int
    instances: int
    seconds: float
    seed: int
    supervised: bool = False
    pause_s: float = 0.4  # between two signals, on average
    long_stops: float = 1 / 12  # the share of stops that outlasts the patience of the peers (10 s)
    pause_ms: float = 20.0  # of a client between two requests, on average


class Result(Struct, frozen=True):
    plan: Plan
    findings: Findings
    wrong: list[str]  # what else should not be
    evidence: Evidence
    sent: Counter[str]
    ended_by_peers: int
    recoveries_ms: list[float]
    seconds: float

    @property
    def failed(self) -> list[str]:
        return [*self.findings.all(), *self.wrong]


class Client:
    """load_client.py in a process of its own."""

    def __init__(self, project: Project, ports: Sequence[int], pause_ms: float) -> None:
        self.path = project.folder / "ledger"
        self.path.touch()
        self._said = (project.folder / "client.txt").open("w+")
        command = [sys.executable, str(HERE / "load_client.py"), str(self.path), str(CLIENTS), str(pause_ms)]
        self.process = subprocess.Popen([*command, *map(str, ports)], stdout=self._said, stderr=self._said)

    async def stop(self) -> dict[str, Work]:
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: self.process.poll() is not None, "the end of the client")
        if self.process.returncode:
            self._said.seek(0)
            raise RuntimeError(f"the client ended with {self.process.returncode}: {self._said.read()}")
        return fold(self.lines())

    def lines(self) -> list[Line]:
        return client_ledger.read(self.path)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._said.close()


async def kill_again_and_again(plan: Plan, folder: Path) -> Result:
    """A whole run in `folder`."""

    def fleet(project: Project, ports: list[int]) -> Fleet:
        return Supervised(project, ports[0], plan.instances) if plan.supervised else Separate(project, ports)

    return await under_load(plan, folder, fleet, lambda torment: torment.run(plan.kills, plan.seconds))


async def under_load(
    plan: Plan,
    folder: Path,
    made: Callable[[Project, list[int]], Fleet],
    done: Callable[[Tormentor], Awaitable[None]],
) -> Result:
    """The fleet that is `made` under load, while all that is to be `done` to it is; then the reckoning."""
    project = Project(folder, "load_steps", CONFIG)
    ports = free_ports(1 if plan.supervised else plan.instances)
    client: Client | None = None
    began = time.monotonic()
    try:
        fleet = made(project, ports)
        async with project.store() as store:
            torment = Tormentor(fleet, store, random.Random(plan.seed), plan.pause_s, plan.long_stops)
            await _up(torment, fleet, plan.instances, project)
            client = Client(project, ports, plan.pause_ms)
            await until(lambda: client.path.stat().st_size > 10_000, "the load", project.said)
            await done(torment)
            asked = await client.stop()
            unsettled = await settle(store)
            await _up(torment, fleet, plan.instances, project)
            torment.look()
            wrong = [
                *unsettled,
                *torment.wrong,
                *[f"an engine exits {code}" for code in await fleet.stop() if code],
            ]
            journal = journal_runs.cut(journal_runs.read(folder / "journal"), torment.deaths, torment.stops)
            evidence = gather(store, asked, journal)
    finally:
        if client is not None:
            client.clean_up()
        project.clean_up()
    checked = project.check()
    if checked.returncode:
        wrong.append(f"iii check: {checked.stdout}{checked.stderr}")
    return Result(
        plan=plan,
        findings=audit(evidence),
        wrong=[*wrong, *_complaints(project, torment)],
        evidence=evidence,
        sent=torment.sent,
        ended_by_peers=torment.ended_by_peers,
        recoveries_ms=journal_runs.recoveries_ms(evidence.runs, torment.deaths, torment.stops),
        seconds=time.monotonic() - began,
    )


async def _up(torment: Tormentor, fleet: Fleet, instances: int, project: Project) -> None:
    def look() -> bool:
        assert any(engine.runs for engine in project.engines), project.said()
        return len(torment.up()) >= instances

    await until(look, "all engines up", project.said)


async def settle(store: Store) -> list[str]:
    """Until nothing is left to run but the next tick, and the state trigger has seen every record.

    Where something was lost that does not come: it is enough then that nothing moves any more.
    """
    last: tuple[object, float] = (None, 0.0)

    def settled() -> bool:
        nonlocal last
        lanes = [row for row in store.stats() if not row.topic.startswith("$cron/")]
        moved = [(row.topic, row.done, row.failed) for row in lanes]
        if moved != last[0]:
            last = (moved, time.monotonic())
        noticed = sum(row.done for row in lanes if row.topic == "$state/Notice")
        if store.unsettled([(row.topic, row.step) for row in lanes]):
            return time.monotonic() - last[1] > STUCK_S
        whole = noticed >= dict(store.namespaces()).get("work", 0)
        return whole or time.monotonic() - last[1] > QUIET_S

    try:
        await until(settled, "everything settled", lambda: store.stats(), deadline_s=SETTLE_S)
    except AssertionError as error:
        return [str(error)]
    return []


def _complaints(project: Project, torment: Tormentor) -> list[str]:
    """What was logged as an error, without the dead letters of `doomed` and the deaths we brought about."""
    ours = {str(each.pid) for each in (*torment.deaths, *torment.stops)}
    found = []
    for engine in project.engines:
        for line in filter(None, engine.logged.splitlines()):
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                said = {}
            message = said.get("message", "")
            supervised = said.get("logger") == "iii.instances"
            killed = supervised and bool(ours.intersection(re.findall(r"pid (\d+)", message)))
            interrupted = supervised and ("not replaced" in message or "stay as they are" in message)
            if not (killed or interrupted or said.get("step") == "Doomed"):
                found.append(f"engine {engine.pid} said: {line}")
    return found


def report(result: Result) -> str:
    evidence, findings, sent = result.evidence, result.findings, result.sent
    ends = Counter(work.end for work in evidence.ledger.values())
    unknown = [id for id, work in evidence.ledger.items() if work.end in ("unknown", "asked")]
    landed = sum(id in evidence.work for id in unknown)
    how = "under a supervisor" if result.plan.supervised else "as processes of their own"
    signals = ", ".join(f"{sent[kind]:,} {kind}" for kind in ("SIGSTOP", "SIGTERM", "SIGHUP") if sent[kind])
    times, most = result.recoveries_ms, in_flight(evidence.runs)
    again = len(evidence.runs) - len({(run.message, run.attempt) for run in evidence.runs})
    settled = sum(evidence.done.values())
    requests = f"{ends['accepted']:,} acknowledged, {len(unknown):,} unknown ({landed:,} landed)"
    recovery = f"p50 {journal_runs.share(times, 0.5):.0f} ms, p99 {journal_runs.share(times, 0.99):.0f} ms"
    lines = [
        f"{result.plan.instances} engines {how} on one data folder, seed {result.plan.seed}",
        "",
        f"  kills          {sent['SIGKILL']:,} in {result.seconds:.0f} s; {signals or 'no other signals'}",
        f"                 {sent['long stop']} stops over 10 s, {result.ended_by_peers} ended by the peers",
        f"  requests       {requests}, {ends['refused']:,} refused",
        f"  messages       {settled:,} done, {evidence.letters.total():,} dead letters, {again:,} runs again",
        f"  lost           {len(findings.lost):,}",
        f"  doubled        {len(findings.doubled):,}",
        f"  out of order   {len(findings.out_of_order):,}",
        f"  max_in_flight  {'exceeded' if findings.over_the_cap else 'kept'} (3; {most} most at a time)",
        f"  counters       {'wrong' if findings.counts else 'equal a recount'}",
        f"  recovery       {recovery}, max {max(times, default=0):.0f} ms",
        f"                 from the death to its first message elsewhere, {len(times):,} deaths",
    ]
    lines += [f"  ! {each}" for each in result.failed[:SHOWN_MAX]]
    if len(result.failed) > SHOWN_MAX:
        lines.append(f"  ! and {len(result.failed) - SHOWN_MAX:,} more")
    return "\n".join(lines)


def _plan() -> Plan:
    parser = argparse.ArgumentParser(description="Kill engines under load and count what is lost.")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1800.0, help="stop after so long, however many kills"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--supervised", action="store_true", help="one `iii run --instances N`")
    given = parser.parse_args()
    return Plan(given.kills, given.instances, given.seconds, given.seed, given.supervised)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="iii-kill-loop-"))
    result = asyncio.run(kill_again_and_again(_plan(), folder / "project"))
    print(report(result))
    if result.failed:
        print(f"  everything is left in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
