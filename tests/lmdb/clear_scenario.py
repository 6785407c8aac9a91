"""An engine whose one message clears more than a Txn holds; it may be killed at any commit."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from iii import Context, queue
from iii.config import Config, ConsoleConfig, HistoryConfig, HttpConfig, StoreConfig
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.model import Put, Txn
from iii.store.contract import Limits
from iii.store.lmdb import LmdbStore

KEYS = 3_000
LIMITS = Limits(ops_max=1_100)


async def clean(data: Any, ctx: Context) -> None:
    """As a step's clean-up: what it says of the attempt lands with it."""
    await ctx.state.clear("many")
    await ctx.state.set("out", "attempt", ctx.attempt)


class Cleaning:
    """`commits`: how many this process has made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commits = folder, 0

    def store(self, stage: str = "", number: int = 0) -> LmdbStore:
        def probe(at: str, commit: int) -> None:
            self.commits = commit
            if (at, commit) == (stage, number):
                os.kill(os.getpid(), signal.SIGKILL)

        return LmdbStore(self.folder, limits=LIMITS, map_bytes=64 << 20, probe=probe)

    def engine(self, store: LmdbStore) -> Engine:
        here = self.folder.parent
        config = Config(
            root=here,
            steps=here,
            store=StoreConfig(path=self.folder),
            http=HttpConfig(enabled=False),
            console=ConsoleConfig(enabled=False),
            history=HistoryConfig(keep=0),
        )
        step = make_step({"name": "Clean", "triggers": [queue("clean")]}, clean)
        return Engine(config, (step,), store=store)

    async def fill(self) -> None:
        store = self.store()
        await store.open()
        for start in range(0, KEYS, 1_000):
            await store.commit(
                Txn([Put("many", f"{number:05}", b"1") for number in range(start, start + 1_000)])
            )
        await store.close()

    async def run(self, stage: str = "", number: int = 0, *, send: bool = True) -> None:
        """Let the message run to its end, or to the kill."""
        async with self.engine(self.store(stage, number)) as engine:
            if send:
                await engine.enqueue("clean")
            await engine.idle(30)

    async def left(self) -> tuple[int, bool, int]:
        """(keys, whether the outcome is there, messages that wait)"""
        store = self.store()
        await store.open()
        try:
            assert store.verify() == []
            found = len(store.scan("many", limit=2 * KEYS)), store.get("out", "attempt") is not None
            return *found, store.unsettled()
        finally:
            await store.close()


def run_until(folder: Path, stage: str, number: int) -> None:
    asyncio.run(Cleaning(folder).run(stage, number))
