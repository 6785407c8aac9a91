"""`backlog`: a million messages lie there when `iii run` starts; until the last is settled."""

from __future__ import annotations

import asyncio
import time

from bench.child import ask
from bench.limits import raw_lmdb
from bench.machine import engines, rss_anon_mib
from bench.project import PROJECTS, Project, iii_run
from bench.scenarios import drain
from bench.settings import Result, Round
from bench.watching import check_settled, until_done, watching
from iii.model import Lane, Pause, Txn

CHUNK = 5_000
CONCURRENCY = 1024
GROUP = CONCURRENCY // 2


def measure(round: Round) -> Result:
    settings = round.settings
    chunks = max(1, settings.size(1_000_000, 50_000) // CHUNK)
    size = min(CHUNK, settings.size(1_000_000, 50_000))
    total = chunks * size
    project = Project(round, PROJECTS / "count", PROJECTS / "load", concurrency={"bench": CONCURRENCY})
    with iii_run(project, http=False):
        pass  # from now on the store knows who takes the topic
    project.call("queue", "pause", "bench")
    round.say(f"storing {total:,} messages")
    stored = ask("bench.programs.preload", {"config": str(project.config), "chunks": chunks, "size": size})
    round.say(f"draining {total:,} messages")
    result = {**stored, **_drained(project, total, settings.instances)}
    project.ledger().require_once(0, total)
    check_settled(project.data, {drain.COUNT: total, Lane("load", "Load"): chunks})
    reference = drain.reference(round)["messages_per_s"]
    limit = raw_lmdb(round.folder / "raw", rows=total, group=GROUP, fsync=settings.fsync)
    return {
        **result,
        "ratio_to_drain": result["messages_per_s"] / reference,
        "limit_messages_per_s": limit,
        "ratio_to_limit": result["messages_per_s"] / limit,
    }


def _drained(project: Project, total: int, count: int) -> Result:
    with iii_run(project, count, http=False) as running:
        pids, rss = engines(running.pid), list[float]()

        async def watch() -> float:
            """Seconds from when the queue is resumed to the last message settled."""
            async with watching(project.data) as store:
                rss.extend(map(rss_anon_mib, pids))
                began = time.perf_counter()
                await store.commit(Txn((Pause(*drain.COUNT, paused=False),)))
                await until_done(store, {drain.COUNT: total}, lambda: rss.extend(map(rss_anon_mib, pids)))
                return time.perf_counter() - began

        seconds = asyncio.run(watch())
    return {
        "messages_per_s": total / seconds,
        "start_ms": running.up_ms,
        "rss_anon_max_mib": max(rss),
    }
