"""The store in one LMDB file, shared by any number of processes of one machine."""

from __future__ import annotations

from iii.store.lmdb.store import LmdbStore

__all__ = ["LmdbStore"]
