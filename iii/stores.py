"""The store that a configuration asks for, and the instances that live on it. One of the few who know its
kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iii.clock import Clock
from iii.config import Config
from iii.errors import ConfigError
from iii.sections import KEEP_FAILED
from iii.store.contract import Limits, Store

if TYPE_CHECKING:
    from iii.store.lmdb.roster import InstanceRow

__all__ = ["expect", "limits_of", "made_ms_of", "require_shared", "roster_of", "store_of"]


def store_of(config: Config, clock: Clock | None = None, number: int = 0) -> Store:
    """Not opened yet. `number`: which of its supervisor's instances asks; 0 = of none."""
    limits = limits_of(config)
    if config.store.kind == "memory":
        from iii.store.memory import MemoryStore

        return MemoryStore(clock, limits)
    from iii.store.lmdb import LmdbStore
    from iii.store.lmdb.patience import Patience

    kept = config.store
    return LmdbStore(
        kept.path,
        clock=clock,
        limits=limits,
        fsync=kept.fsync,
        map_bytes=kept.map_bytes,
        patience=Patience.of(kept.lock_after_ms, kept.stale_after_ms),
        number=number,
    )


def require_shared(config: Config) -> None:
    """ConfigError where several instances would not see each other's work."""
    if config.store.kind == "memory" and config.instances > 1:
        raise ConfigError(
            f"each of {config.instances} instances would have a store of its own; use `type: lmdb`",
            file=str(config.file or ""),
            field="store.type",
        )


def limits_of(config: Config) -> Limits:
    """For whoever writes to the store, commands too: what is over a bound goes with the next commit."""
    history, failed_max = config.history, config.history.keep_failed
    if failed_max is None:
        failed_max = KEEP_FAILED if history.keep else 0
    return Limits(
        runs_max=history.keep,
        runs_failed_max=failed_max,
        runs_age_ms_max=history.max_age_ms,
        runs_bytes_max=history.max_bytes,
        changes_bytes_max=config.store.changes_bytes_max,
        kept_bytes_max=config.http.idempotency_bytes_max,
    )


def expect(store: Store, made_ms: int) -> None:
    """Not opened yet: it has to be there, the very one that was made at this time."""
    from iii.store.lmdb import LmdbStore

    assert isinstance(store, LmdbStore), "a store in memory is never there before"
    store.expect(made_ms)


def made_ms_of(store: Store) -> int:
    """When it was made, which a backup of it says too; 0 for a store that lies in memory."""
    from iii.store.lmdb import LmdbStore

    return store.made_ms if isinstance(store, LmdbStore) else 0


def roster_of(data: Path | None, stale_ms: int) -> list[InstanceRow]:
    """Every live session of this data folder; [] for a store that lies in memory."""
    if data is None:
        return []
    from iii.store.lmdb.roster import roster

    return roster(data, stale_ms=stale_ms)
