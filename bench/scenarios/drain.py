"""`drain`, `drain_32`: 512 producers that each await durability while a no-op async step consumes."""

from __future__ import annotations

from pathlib import Path

from bench.child import ask
from bench.limits import ROW_BYTES, raw_lmdb
from bench.project import PROJECTS, Project, peers
from bench.settings import Result, Round
from bench.watching import check_settled
from iii.model import Lane

PRODUCERS = 512
COUNT = Lane("bench", "Count")


def measure(
    round: Round,
    concurrency: int,
    *,
    text_bytes: int = 0,
    messages: int | None = None,
    steps: Path = PROJECTS / "count",
) -> Result:
    settings = round.settings
    each = max(1, (messages or settings.size(200_000, 25_600)) // PRODUCERS)
    total = PRODUCERS * each
    round.say(f"{total:,} messages")
    project = Project(round, steps, concurrency={"bench": concurrency})
    asked = {
        "config": str(project.config),
        "producers": PRODUCERS,
        "messages": each,
        "text_bytes": text_bytes,
    }
    with peers(project, settings.instances - 1):
        result = ask("bench.programs.drain", asked, project.ledgers)
    project.ledger().require_once(0, total)
    check_settled(project.data, {COUNT: total})
    round.say("the limit: raw LMDB")
    limit = raw_lmdb(
        round.folder / "raw",
        rows=total,
        group=max(1, int(result["writes_per_group"] / 2)),  # each message is written twice
        value_bytes=ROW_BYTES + text_bytes,
        fsync=settings.fsync,
    )
    return {
        **result,
        "limit_messages_per_s": limit,
        "ratio_to_limit": result["messages_per_s"] / limit,
    }


def reference(round: Round) -> Result:
    """`drain` of this run, or measured now and a quarter as long, for a scenario that is compared with it."""
    if "drain" in round.earlier:
        return round.earlier["drain"]
    folder = round.folder / "drain"
    folder.mkdir()
    apart = Round(round.settings, folder, round.say)
    return measure(apart, 1024, messages=round.settings.size(50_000, 25_600))
