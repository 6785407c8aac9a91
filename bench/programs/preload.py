"""Makes a backlog: `chunks` messages to `load`, each of which becomes `size` messages in one commit.

The topic they go to is paused meanwhile. Ends when all of them are stored.
"""

from __future__ import annotations

import asyncio
import time

from bench.programs.drain import MESSAGE
from bench.programs.program import Asked, main
from bench.settings import Result
from iii import Engine


async def preload(asked: Asked) -> Result:
    """asked: config, chunks, size."""
    size = asked["size"]
    async with Engine.from_config(asked["config"]) as engine:
        started = time.perf_counter()
        await asyncio.gather(
            *(
                engine.enqueue("load", {"first": i * size, "count": size, "message": MESSAGE})
                for i in range(asked["chunks"])
            )
        )
        await engine.idle(due_only=True)
        return {"preload_per_s": asked["chunks"] * size / (time.perf_counter() - started)}


if __name__ == "__main__":
    main(preload)
