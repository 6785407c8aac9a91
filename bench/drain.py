"""`drain`: producers that each await durability, a no-op step that consumes, until the last is settled.

A process of its own, set up as `iii run` does it, that prints one JSON object:
`python bench/drain.py '{"messages": 200000, ...}'`.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import orjson
import uvloop

from iii import Engine, queue
from iii.cli.run import collect_rarely
from iii.config import Config, load
from iii.definitions.loader import make_step
from iii.store.lmdb import LmdbStore

PAYLOAD = {"messageId": "msg-1234567890-abc123", "text": "Process this message", "priority": "high"}


async def drain(settings: dict[str, int], folder: Path, fsync: str) -> dict[str, float]:
    """Returns figures of one drain; raises AssertionError when a message was lost or ran twice."""
    handled = 0

    async def count(_: object) -> None:
        nonlocal handled
        handled += 1

    knobs = {"concurrency": settings["concurrency"]}
    step = make_step({"name": "Count", "triggers": [queue("bench", config=knobs)]}, count)
    engine = Engine(_config(folder, fsync), [step])
    producers, messages = settings["producers"], settings["messages"] // settings["producers"]

    async def produce() -> None:
        for _ in range(messages):
            await engine.enqueue("bench", PAYLOAD)

    async with engine:
        store = engine.store
        assert isinstance(store, LmdbStore)
        groups_before = store.meter.groups
        started = time.perf_counter()
        await asyncio.gather(*(produce() for _ in range(producers)))
        accepted_s = time.perf_counter() - started
        await engine.idle()
        seconds = time.perf_counter() - started
        meter = store.meter
        groups = meter.groups - groups_before
        lane = next(row for row in store.stats() if (row.topic, row.step) == ("bench", "Count"))
    total = producers * messages
    assert handled == total and lane.done == total, f"{total} sent, {handled} handled, {lane.done} done"
    assert lane.ready + lane.later + lane.behind + lane.leased + lane.dead == 0, lane
    return {
        "messages_per_s": total / seconds,
        "accepted_per_s": total / accepted_s,
        "groups": groups,
        "writes_per_group": 2 * total / groups,
        "commit_ms": meter.commit_ns / groups / 1e6,
        "lock_us_per_message": meter.lock_ns / total / 1e3,
        "apply_us_per_message": (meter.apply_ns - meter.grant_ns) / total / 1e3,
        "grant_us_per_message": meter.grant_ns / total / 1e3,
        "commit_us_per_message": meter.commit_ns / total / 1e3,
    }


def _config(folder: Path, fsync: str) -> Config:
    file = folder / "iii-config.yaml"
    file.write_text(
        f"store: {{path: data, fsync: {fsync}}}\nhttp: {{enabled: false}}\nhistory: {{keep: 0}}\n"
    )
    return load(file)


def main() -> None:
    settings = orjson.loads(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="iii-bench-", dir=settings.pop("dir", None)))
    collect_rarely()
    try:
        result = uvloop.run(drain(settings, folder, settings.pop("fsync", "commit")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(orjson.dumps(result).decode() + "\n")


if __name__ == "__main__":
    main()
