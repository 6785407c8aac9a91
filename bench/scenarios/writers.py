"""`writers`: two instances that write as fast as they can; what a rare writer's commit takes beside them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import orjson

from bench.child import Child
from bench.project import Project
from bench.settings import Result, Round, WrongResult
from bench.watching import watching

HOT_CALLERS = 64
HOT = ("hot-1", "hot-2")
RARE = "rare"


def measure(round: Round) -> Result:
    seconds = round.settings.seconds(8, 1)
    round.say("the rare writer alone")
    alone = _write(round, "alone", (RARE,), seconds / 2)[RARE]
    round.say("beside two hot ones")
    beside = _write(round, "beside", (*HOT, RARE), seconds)
    rare = beside[RARE]
    return {
        "commit_p50_ms": rare["commit_p50_ms"],
        "commit_p99_ms": rare["commit_p99_ms"],
        "commit_p99_9_ms": rare["commit_p99_9_ms"],
        "hot_writes_per_s": sum(beside[key]["writes"] for key in HOT) / seconds,
        "limit_commit_p50_ms": alone["commit_p50_ms"],
        "limit_commit_p99_ms": alone["commit_p99_ms"],
    }


def _write(round: Round, name: str, keys: tuple[str, ...], seconds: float) -> dict[str, Result]:
    """Writers of these keys at the same time, an instance each; each counts what it wrote."""
    project = Project(round, name=name)
    (project.folder / "steps").mkdir()
    with ExitStack() as stack:
        writers = {}
        for key in keys:
            callers = 0 if key == RARE else HOT_CALLERS
            asked = {"config": str(project.config), "callers": callers, "key": key, "seconds": seconds}
            writers[key] = stack.enter_context(Child("bench.programs.writer", asked))
        for child in writers.values():
            child.wait_until_ready()
        for child in writers.values():
            child.go_on()
        results = {key: child.result() for key, child in writers.items()}
    asyncio.run(_require_counts(project, {key: int(result["writes"]) for key, result in results.items()}))
    return results


async def _require_counts(project: Project, written: dict[str, int]) -> None:
    """Each increment that a writer was told is durable counts, once."""
    async with watching(project.data) as store:
        kept = {entry.key: orjson.loads(entry.value)["count"] for entry in store.scan("writers")}
    if kept != written:
        raise WrongResult(f"written {written}, kept {kept}")
