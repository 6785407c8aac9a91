"""`pipeline`, `pipeline_2`: the example's POST, its worker without the simulated work, its state trigger."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

from bench.load.closed import Load, Request, bare_server, closed_loop
from bench.project import Project, example, iii_run
from bench.scenarios.hello import require_handled
from bench.settings import Result, Round, WrongResult
from bench.watching import LOOK_S, STUCK_S, values, watching
from iii.model import Lane
from iii.store.lmdb import LmdbStore

POST = Request(
    "POST",
    "/messages",
    '{"text":"Process this message","priority":"high","metadata":{"source":"api"}}',
)
ANSWER = '{"messageId":"msg-1767225600000-k3x9q2a","status":"enqueued"}'
SENT, CHANGED = Lane("message.sent", "ProcessMessage"), Lane("$state/NotifyCompletion", "NotifyCompletion")
PROCESSED = Lane("message.processed", "")
QUIET_S = 0.2


def measure(round: Round, instances_min: int = 1) -> Result:
    settings = round.settings
    seconds = settings.seconds(10, 1)
    project = Project(round, example(round))
    with iii_run(project, max(instances_min, settings.instances)) as running:
        round.say("requests")
        load = closed_loop(running.address, POST, seconds)
        round.say("to the end of processing")
        accepted, figures = asyncio.run(_finish(project, load))
    require_handled(accepted, load)
    round.say("the limit: a bare protocol")
    with bare_server(ANSWER) as address:
        limit = closed_loop(address, POST, seconds).per_s
    return {
        "requests_per_s": load.per_s,
        "errors": load.errors,
        **figures,
        "limit_requests_per_s": limit,
        "ratio_to_limit": load.per_s / limit,
    }


async def _finish(project: Project, load: Load) -> tuple[int, Result]:
    """Wait for the end, see that all of it is there once; (requests accepted, figures)."""
    over = time.perf_counter()
    async with watching(project.data) as store:
        waiting = sum(row.ready + row.leased for row in store.stats() if row.step)
        behind_s = await _until_quiet(store) - over
        messages = values(store, "messages")
        _require_all(store, messages)
    accepted = len(messages)
    return accepted, {
        "messages_per_s": accepted / (load.seconds + behind_s),
        "behind_max_s": max(behind_s, *(_lag_s(message) for message in messages.values())),
        "behind_end_s": behind_s,
        "behind_end_messages": waiting,
    }


async def _until_quiet(store: LmdbStore) -> float:
    """When all had been notified and nothing came any more: wrk leaves what it has under way when it ends."""
    last, since = (-1, 0, 0), time.perf_counter()
    while True:
        done = {Lane(row.topic, row.step): row.done for row in store.stats()}
        now = (dict(store.namespaces()).get("messages", 0), done.get(SENT, 0), done.get(CHANGED, 0))
        at = time.perf_counter()
        if now != last:
            last, since = now, at
        elif len(set(now)) == 1 and at - since > QUIET_S:
            return since
        if at - since > STUCK_S:
            raise WrongResult(f"stored, processed, notified: {now}, and nothing moves any more")
        await asyncio.sleep(LOOK_S)


def _require_all(store: LmdbStore, messages: dict[str, Any]) -> None:
    """Each accepted message was processed, notified and passed on, once."""
    unprocessed = [key for key, value in messages.items() if value["status"] != "processed"]
    done = {Lane(row.topic, row.step): row for row in store.stats()}
    counts = (done[SENT].done, done[CHANGED].done, done[PROCESSED].ready)
    failed = sum(row.failed + row.dead for row in done.values())
    if unprocessed or counts != (len(messages),) * 3 or failed:
        raise WrongResult(
            f"{len(messages)} messages accepted, {len(unprocessed)} of them unprocessed; "
            f"processed, notified, passed on: {counts}; failed: {failed}"
        )


def _lag_s(message: dict[str, Any]) -> float:
    """From the request to the worker's write."""
    accepted, processed = (datetime.fromisoformat(message[at]) for at in ("createdAt", "processedAt"))
    return (processed - accepted).total_seconds()
