"""The stores that must keep the contract."""

from __future__ import annotations

from lmdb_kit import LmdbKit
from store_kit import MemoryKit

KITS: dict[str, type] = {"memory": MemoryKit, "lmdb": LmdbKit}
