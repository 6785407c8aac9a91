"""What a handler sees as `ctx.message_id`: the same for a message whatever befalls it, and in every place."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine_kit import config, step

from iii import Context, Engine, Snooze, http, queue
from iii.config import HistoryConfig, QueueConfig
from iii.handling.blocking import BlockingContext
from iii.observe.runs import runs
from iii.store.lmdb import LmdbStore
from iii.testing import harness

RULES = {"in": QueueConfig(max_retries=1, retry_delay_ms=1)}


class Seen:
    """What each attempt is called: it snoozes, fails twice, and succeeds when it comes back."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def waiting(self, data: Any, ctx: Context) -> object:
        return self._next(ctx.message_id)

    def threaded(self, data: Any, ctx: BlockingContext) -> object:
        return self._next(ctx.message_id)

    def _next(self, id: str) -> object:
        self.ids.append(id)
        tries = self.ids.count(id)
        if tries == 1:
            return Snooze(1)
        if tries < 4:
            raise ValueError(f"try {tries}")
        return None


@asynccontextmanager
async def engine(folder: Path, seen: Seen) -> AsyncIterator[Engine]:
    steps = [
        step(seen.waiting, queue("in"), name="Waiting"),
        step(seen.threaded, queue("in"), name="Threaded"),
    ]
    rules = config(RULES, history=HistoryConfig())
    async with Engine(rules, steps, store=LmdbStore(folder, map_bytes=1 << 30)) as engine:
        yield engine


async def test_a_message_is_called_the_same_on_every_try_after_restarts_and_redriven(tmp_path: Path) -> None:
    seen = Seen()
    async with engine(tmp_path / "data", seen) as first:
        sent = await first.enqueue("in")
        await first.idle(20)
    assert len(set(sent)) == 2 and sorted(seen.ids) == sorted(sent * 3), "each subscriber's copy has its own"
    async with engine(tmp_path / "data", seen) as second:
        assert await second.redrive("in") == 2
        await second.idle(20)
        recorded = [row.run.message_id for row in runs(second.store)]
    assert sorted(seen.ids) == sorted(recorded) == sorted(sent * 4)


async def test_what_a_restored_backup_runs_has_its_old_id_and_what_it_enqueues_a_new_one(
    tmp_path: Path,
) -> None:
    seen = Seen()
    async with engine(tmp_path / "data", seen) as original:
        kept = await original.enqueue("in", delay="1h")
        await original.store.backup(tmp_path / "copy")
        lost = await original.enqueue("in", delay="1h")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")
    async with engine(tmp_path / "data", seen) as restored:
        given = await restored.enqueue("in", delay="1h")
        there = [restored.store.message_id(each.id) for each in restored.store.waiting("in")]
    assert sorted(there) == sorted(kept + given)
    assert not set(given) & set(lost)
    assert [id.split("-")[1] for id in given] == [id.split("-")[1] for id in lost]


async def test_a_request_is_called_by_its_span() -> None:
    async def handler(request: Any, ctx: Context) -> dict[str, Any]:
        return {"status": 200, "body": ctx.message_id}

    async with harness([step(handler, http("GET", "/"), name="Web")]) as app:
        names = {(await app.get("/")).text for _ in range(2)}
        assert len(names) == 2 and all(name.startswith("http-") for name in names)


async def test_the_harness_names_messages_as_handlers_do() -> None:
    seen: list[str] = []

    async def handler(data: Any, ctx: Context) -> None:
        seen.append(ctx.message_id)
        raise ValueError("no")

    rules = {"max_retries": 0}
    async with harness([step(handler, queue("in", config=rules), name="Work")]) as app:
        sent = await app.enqueue("in", delay="1m")
        assert sent == [each.id for each in app.queued("in")] == ["000000000000-1"]
        await app.advance("1m")
        assert seen == [each.id for each in app.dead("in.failed")] == sent
