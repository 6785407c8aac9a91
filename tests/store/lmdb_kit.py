"""LMDB stores on one folder, as the conformance suite and the rule machine want them."""

from __future__ import annotations

from pathlib import Path

from iii.clock import FakeClock
from iii.store.contract import Limits, Store
from iii.store.lmdb import LmdbStore


class LmdbKit:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.stores: list[Store] = []
        self._folder = folder / "data"

    async def make(self, limits: Limits | None = None) -> Store:
        store = LmdbStore(self._folder, clock=self.clock, limits=limits, map_bytes=1 << 30)
        await store.open()
        self.stores.append(store)
        return store

    async def kill(self, store: Store) -> None:
        """Peers are told at once, as a pidfd tells them of a process."""
        assert isinstance(store, LmdbStore)
        self.stores.remove(store)
        await store.crash()
        for peer in self.stores:
            assert isinstance(peer, LmdbStore)
            await peer.recover_dead()

    async def close(self, store: Store) -> None:
        self.stores.remove(store)
        await store.close()

    async def close_all(self) -> None:
        for store in tuple(self.stores):
            await self.close(store)
