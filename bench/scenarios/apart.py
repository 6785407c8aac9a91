"""`drain_apart`, `latency_apart`: the producer is a process of its own, as a web application is.

The consumer is `iii run` without HTTP; the producer embeds an engine that has no steps.
"""

from __future__ import annotations

from bench.child import ask
from bench.percentiles import named
from bench.project import PROJECTS, Project, iii_run
from bench.scenarios.drain import COUNT
from bench.scenarios.latency import PONG
from bench.settings import Result, Round
from bench.watching import check_settled, wait_until_done

AWAITING = (64, 512)


def measure_drain(round: Round) -> Result:
    figures: Result = {}
    for producers in AWAITING:
        figures |= {f"{producers}_{name}": value for name, value in _drain(round, producers).items()}
    return figures


def _drain(round: Round, producers: int) -> Result:
    settings = round.settings
    each = max(1, settings.size(100_000, 12_800) // producers)
    total = producers * each
    round.say(f"{producers} awaiting, {total:,} messages")
    project = Project(round, PROJECTS / "count", name=f"drain-{producers}", concurrency={"bench": 1024})
    asked = {
        "config": str(project.beside("producer")),
        "producers": producers,
        "messages": each,
        "text_bytes": 0,
        "settled_in": [COUNT.topic, COUNT.step],
    }
    with iii_run(project, settings.instances, http=False):
        result = ask("bench.programs.drain", asked)
    project.ledger().require_once(0, total)
    check_settled(project.data, {COUNT: total})
    return {name: result[name] for name in ("messages_per_s", "accepted_per_s", "writes_per_group")}


def measure_latency(round: Round) -> Result:
    """One at a time, from `engine.enqueue` in one process to the start of the handler in another."""
    idle = round.settings.size(300, 60)
    project = Project(round, PROJECTS / "latency", concurrency={"ping": 256})
    asked = {"config": str(project.beside("producer")), "idle": idle, "loads": {}}
    with iii_run(project, round.settings.instances, http=False):
        commit_ms = ask("bench.programs.latency", asked)["idle_commit_p50_ms"]
        wait_until_done(project.data, {PONG: idle})
    ledger = project.ledger()
    ledger.require_once(0, idle)
    check_settled(project.data, {PONG: idle})
    late = named("idle", ledger.samples["idle"])
    p50_ms, p99_ms = late["idle_p50_ms"], late["idle_p99_ms"]
    return {
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "commit_p50_ms": commit_ms,
        "over_commit_p50_ms": p50_ms - commit_ms,
        "over_commit_p99_ms": p99_ms - commit_ms,
    }
