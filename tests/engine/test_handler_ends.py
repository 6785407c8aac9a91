"""A handler's end is not its commit: a death between the two is no crash of the message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deadline import DEADLINE_S
from engine_kit import config, step

from iii import Context, Snooze, queue
from iii.engine import Engine
from iii.store.lmdb import LmdbStore
from iii.store.lmdb.worker import started_by


class Gate:
    """Holds the writer's thread before its next commits."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.shut, self.open = self._open.clear, self._open.set

    def __call__(self, stage: str, number: int) -> None:
        if stage == "before":
            self._open.wait()


async def at_once(data: Any, ctx: Context) -> None:
    await ctx.state.set("ns", "k", 1)


async def waits(data: Any, ctx: Context) -> None:
    await asyncio.sleep(0)


async def snoozes(data: Any, ctx: Context) -> Snooze:
    await asyncio.sleep(0)
    return Snooze(5)


async def raises(data: Any, ctx: Context) -> None:
    await asyncio.sleep(0)
    raise ValueError


def plain(data: Any, ctx: Context) -> None:
    """In a thread."""


@pytest.mark.parametrize("handler", [at_once, waits, snoozes, raises, plain])
async def test_the_board_is_clear_when_the_handler_has_ended_before_its_commit(
    handler: Callable[..., Any], tmp_path: Path
) -> None:
    gate, begun = Gate(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def condition(data: Any, ctx: Context) -> bool:
        seen.append(started_by(store.path, store.session))
        gate.shut()  # what it leads to is not committed
        loop.call_soon_threadsafe(begun.set)
        return True

    seen: list[set[int]] = []
    store = LmdbStore(tmp_path / "data", probe=gate)
    work = step(handler, queue("jobs", condition=condition))
    async with Engine(config(), [work], store=store) as engine:
        try:
            await engine.enqueue("jobs", 1)
            await begun.wait()
            assert len(seen[0]) == 1, "it runs"
            async with asyncio.timeout(DEADLINE_S):
                while started_by(store.path, store.session):
                    await asyncio.sleep(0.005)
            assert [row.state for row in store.waiting("jobs")] == ["leased"], "nothing is committed"
        finally:
            gate.open()
