"""The store in plain dictionaries: the readable specification of contract.py, and the store of tests."""

from __future__ import annotations

from iii.store.memory.store import MemoryStore
from iii.store.memory.tables import MemoryTables

__all__ = ["MemoryStore", "MemoryTables"]
