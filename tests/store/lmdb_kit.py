"""LMDB stores on one folder, as the conformance suite and the rule machine want them."""

from __future__ import annotations

from pathlib import Path

from store_kit import OpenStores

from iii.errors import StoreClosed
from iii.model import Txn
from iii.store.contract import Limits, Store
from iii.store.lmdb import LmdbStore, sessions
from iii.store.lmdb.worker import started_by


class LmdbKit(OpenStores):
    def __init__(self, folder: Path) -> None:
        super().__init__()
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

    async def kill_committing(self, store: Store, txn: Txn) -> bool:
        """The writer may have been awake: then the Txn lands although its process dies at once."""
        future = store.submit(txn)
        await self.kill(store)
        return not isinstance(future.exception(), StoreClosed)

    async def kill_all(self) -> None:
        for store in self.stores:
            assert isinstance(store, LmdbStore)
            await store.crash()
        self.stores.clear()

    async def bury(self, store: Store, peer: Store) -> None:
        assert isinstance(peer, LmdbStore)
        session = store.session
        started = started_by(peer.path, session)
        await peer.call(lambda applier: sessions.recover(applier, session, started))
