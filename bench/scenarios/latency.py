"""`latency`, `latency_2`: idle and one at a time, then 1,000 and 10,000 a second at a steady pace.

`enqueue_*`: from `engine.enqueue` to the start of the handler, which may run in another instance.
`request_*`: from a POST that sends one message to its answer. Both count from the time they were meant for.
"""

from __future__ import annotations

from bench.child import ask
from bench.percentiles import named
from bench.project import PROJECTS, Project, iii_run, peers
from bench.settings import Result, Round, WrongResult
from bench.watching import check_settled, wait_until_done
from iii.model import Lane

PONG = Lane("ping", "Pong")
RATES = {"1k": 1_000, "10k": 10_000}
REQUEST_IDLE_PER_S = 100
CONNECTIONS = 256


def measure(round: Round, instances_min: int = 1) -> Result:
    count = max(instances_min, round.settings.instances)
    return {**_enqueues(round, count), **_requests(round, count)}


def _loads(round: Round) -> dict[str, tuple[int, int]]:
    """{name: (rate, count)}"""
    seconds = round.settings.seconds(5, 0.5)
    return {name: (rate, max(1, int(rate * seconds))) for name, rate in RATES.items()}


def _enqueues(round: Round, count: int) -> Result:
    round.say("enqueue to handler")
    project = Project(round, PROJECTS / "latency", name="enqueue", concurrency={"ping": 256})
    loads, idle = _loads(round), round.settings.size(300, 60)
    asked = {"config": str(project.config), "idle": idle, "loads": loads}
    with peers(project, count - 1):
        result = ask("bench.programs.latency", asked, project.ledgers)
    total = idle + sum(messages for _, messages in loads.values())
    ledger = project.ledger()
    ledger.require_once(0, total)
    check_settled(project.data, {PONG: total})
    figures: Result = {}
    for name in ("idle", *loads):
        figures |= named(f"enqueue_{name}", ledger.samples[name])
    commit_ms = result["idle_commit_p50_ms"]
    return {
        **figures,
        "idle_commit_p50_ms": commit_ms,
        "idle_over_commit_p50_ms": figures["enqueue_idle_p50_ms"] - commit_ms,
        "idle_over_commit_p99_ms": figures["enqueue_idle_p99_ms"] - commit_ms,
    }


def _requests(round: Round, count: int) -> Result:
    project = Project(round, PROJECTS / "latency", name="request", concurrency={"ping": 256})
    idle = (REQUEST_IDLE_PER_S, round.settings.size(300, 60))
    figures: Result = {}
    first = 0
    with iii_run(project, count) as running:
        for name, (rate, requests) in {"idle": idle, **_loads(round)}.items():
            round.say(f"request to answer, {rate:,} a second")
            said = ask(
                "bench.load.client",
                {
                    "host": running.host,
                    "port": running.port,
                    "connections": 1 if name == "idle" else CONNECTIONS,
                    "method": "POST",
                    "path": "/pings",
                    "body": '{"load":"' + name + '"}',
                    "rate": rate,
                    "count": requests,
                    "first": first,
                },
            )
            if said["errors"]:
                raise WrongResult(f"{said['errors']:.0f} of {requests} requests at {rate}/s were refused")
            figures |= {
                f"request_{name}_{metric.removeprefix('took_')}": value
                for metric, value in said.items()
                if metric.startswith("took_")
            }
            first += requests
            wait_until_done(project.data, {PONG: first})
    project.ledger().require_once(0, first)
    check_settled(project.data, {PONG: first})
    return figures
