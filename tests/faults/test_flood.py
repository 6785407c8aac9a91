"""One topic is flooded: the others run all the same, and their messages do not wait behind the flood."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from iii.config import load
from iii.definitions.loader import make_step
from iii.engine import Engine
from iii.model import Enqueue, Txn

FLOOD, OTHERS = 3_000, 20


@pytest.mark.parametrize("waits", [False, True], ids=["handlers that never wait", "handlers that wait"])
async def test_a_flooded_topic_does_not_hold_up_the_others(tmp_path: Path, waits: bool) -> None:
    ran: list[str] = []

    async def handler(topic: Any) -> None:
        ran.append(topic)
        if waits:
            await asyncio.sleep(0)

    (tmp_path / "iii-config.yaml").write_text("store: {path: data}\n")
    (tmp_path / "steps").mkdir()
    steps = [
        make_step({"name": f"Step{name}", "triggers": [{"type": "queue", "topic": name}]}, handler)
        for name in ("flood", "late", "later")
    ]
    async with asyncio.timeout(60), Engine(load(tmp_path / "iii-config.yaml"), steps) as engine:
        await engine.store.commit(Txn([Enqueue("flood", b'"flood"') for _ in range(FLOOD)]))
        await engine.store.commit(
            Txn([Enqueue(name, b'"%s"' % name.encode()) for name in ("late", "later") for _ in range(OTHERS)])
        )
        await engine.idle()
    others = [index for index, topic in enumerate(ran) if topic != "flood"]
    assert len(ran) == FLOOD + 2 * OTHERS
    assert others[-1] < FLOOD // 2, "they ran while the flood still waited"
