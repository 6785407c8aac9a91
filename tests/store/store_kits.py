"""The stores that must keep the contract. The first one is the model."""

from __future__ import annotations

import importlib.util

from store_kit import MemoryKit

KITS: dict[str, type] = {"memory": MemoryKit}
if importlib.util.find_spec("lmdb_kit"):
    from lmdb_kit import LmdbKit

    KITS["lmdb"] = LmdbKit
