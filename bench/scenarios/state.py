"""`state`: set, get, update and list, on one key and on many, unwatched and under a state trigger."""

from __future__ import annotations

from bench.child import ask
from bench.limits import raw_lmdb
from bench.project import PROJECTS, Project
from bench.settings import Result, Round
from bench.watching import check_settled
from iii.model import Lane

CALLERS = 256
WATCH = Lane("$state/Watch", "Watch")


def measure(round: Round) -> Result:
    settings = round.settings
    writes = max(CALLERS, settings.size(50_000, 5_000) // CALLERS * CALLERS)
    round.say(f"{writes:,} writes each")
    project = Project(round, PROJECTS / "state")
    asked = {"writes": writes, "reads": settings.size(200_000, 20_000), "lists": settings.size(100, 20)}
    result = ask("bench.programs.state", {"config": str(project.config), **asked}, project.ledgers)
    check_settled(project.data, {WATCH: writes})
    round.say("the limit: raw LMDB")
    limit = raw_lmdb(
        round.folder / "raw",
        rows=writes,
        group=max(1, int(result["writes_per_group"])),
        fsync=settings.fsync,
        delete=False,
    )
    return {**result, "limit_set_spread_per_s": limit, "ratio_to_limit": result["set_spread_per_s"] / limit}
