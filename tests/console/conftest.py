"""The fixture `example`: the steps of the example, and a console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from console_kit import Console, serving

from iii.definitions.loader import load_steps

STEPS = Path(__file__).parents[2] / "steps"


@pytest.fixture
async def example(tmp_path: Path) -> AsyncIterator[Console]:
    async with serving(tmp_path, *load_steps(STEPS)) as console:
        yield console
