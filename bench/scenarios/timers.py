"""`timers`: a million delayed messages are stored, some of them due at a steady rate."""

from __future__ import annotations

import asyncio

from bench.child import ask
from bench.limits import raw_lmdb
from bench.percentiles import named
from bench.project import PROJECTS, Project
from bench.scenarios import drain
from bench.settings import Result, Round, WrongResult
from bench.watching import watching
from iii.model import Lane

DUE = Lane("due", "Due")
RATE_PER_S = 10_000
EARLY_MS = 2.0
"""Clocks count whole milliseconds; sooner than that before it is due nothing may run."""


def measure(round: Round) -> Result:
    settings = round.settings
    due = settings.size(100_000, 10_000)
    far = settings.size(900_000, 20_000)
    round.say(f"{far + due:,} delayed messages")
    project = Project(round, PROJECTS / "timers", concurrency={"due": 1024})
    asked = {"config": str(project.config), "far": far, "due": due, "rate": RATE_PER_S}
    result = ask("bench.programs.timers", asked, project.ledgers)
    ledger = project.ledger()
    ledger.require_once(0, due)
    late = ledger.samples["late"]
    if min(late) < -EARLY_MS:
        raise WrongResult(f"a message ran {-min(late):.1f} ms before it was due")
    asyncio.run(_require_waiting(project, due, far))
    round.say("the limit: raw LMDB")
    limit = raw_lmdb(round.folder / "raw", rows=far, group=512, fsync=settings.fsync, delete=False)
    accepted_per_s = drain.reference(round)["accepted_per_s"]
    return {
        "insert_per_s": result["insert_per_s"],
        "insert_ratio_to_drain": result["insert_per_s"] / accepted_per_s,
        **named("late", late),
        "late_max_ms": max(late),
        "limit_insert_per_s": limit,
        "ratio_to_limit": result["insert_per_s"] / limit,
    }


async def _require_waiting(project: Project, done: int, later: int) -> None:
    async with watching(project.data) as store:
        row = next(row for row in store.stats() if (row.topic, row.step) == DUE)
        if (row.done, row.later, row.ready + row.leased + row.dead) != (done, later, 0):
            raise WrongResult(f"{done} messages were to have run and {later} to wait: {row}")
