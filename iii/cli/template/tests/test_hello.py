"""The real engine on a store in memory and a clock that the test turns: a test takes milliseconds."""

import asyncio
from pathlib import Path

from iii.testing import harness

STEPS = Path(__file__).parent.parent / "steps"


def test_each_name_is_greeted_and_counted() -> None:
    async def scenario() -> None:
        async with harness(STEPS) as app:
            first = await app.post("/hello", json={"name": "Ada"})
            assert (first.status, first.json()) == (200, {"greeting": "Hello, Ada!"})
            await app.post("/hello", json={"name": "Ada"})
            await app.settle()
            assert await app.state.get("greetings", "Ada") == {"count": 2}

    asyncio.run(scenario())


def test_a_name_is_required() -> None:
    async def scenario() -> None:
        async with harness(STEPS) as app:
            refused = await app.post("/hello", json={"name": ""})
            assert refused.status == 400
            assert refused.json()["details"][0]["path"] == "name"

    asyncio.run(scenario())
