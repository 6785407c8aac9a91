from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_kit import StoreKit
from store_kits import KITS


@pytest.fixture(params=KITS)
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreKit]:
    """A fresh state; after the test every table of every store that is still open must be in order."""
    kit: StoreKit = KITS[request.param](tmp_path)
    try:
        yield kit
        for store in kit.stores:
            assert store.verify() == []
    finally:
        await kit.close_all()
