"""The project a command works on: its configuration, its store opened without a session, its steps."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from iii.cli.output import keep_apart, say
from iii.config import Config
from iii.definitions.warning import SetupWarning
from iii.errors import ConfigError
from iii.step import Step
from iii.store.contract import Store

__all__ = ["has_store", "load_project_steps", "reading", "writing"]

T = TypeVar("T")

STORE_FILE, HOLDER_FILE = "data.mdb", "holder"


def load_project_steps(config: Config, *, warns: bool = False) -> list[Step]:
    """The checked steps of `config`; what they print goes to stderr. warns: what may be a mistake about them
    is said, too."""
    from iii.definitions.loader import load_steps
    from iii.definitions.together import conflicts, doubts

    keep_apart()
    found: list[SetupWarning] = []
    steps = load_steps(config.steps, found.append)
    for error in conflicts(steps, config):
        raise error
    for warning in (*found, *doubts(steps, config)) if warns else ():
        say(f"warning: {warning}", err=True)
    return steps


def has_store(config: Config) -> bool:
    """Whether a store was made at its path, be it gone since (or a file stands there): opening says what is
    wrong."""
    path = config.store.path
    made = (path / name for name in (STORE_FILE, HOLDER_FILE))
    return any(each.exists() for each in made) or (path.exists() and not path.is_dir())


def reading(config: Config, work: Callable[[Store], Awaitable[T]], *, thorough: bool = False) -> T:
    """What `work` returns about the store; about an empty one where none was made yet, and none is made.

    thorough: all of its file is looked at before it is used, however large it is.
    """
    return asyncio.run(_with_store(_store(config, create=False, thorough=thorough), work))


def writing(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """What `work` returns of its commits; the store is made where there is none."""
    return asyncio.run(_with_store(_store(config, create=True), work))


async def _with_store(store: Store, work: Callable[[Store], Awaitable[T]]) -> T:
    await store.open()
    try:
        return await work(store)
    finally:
        await store.close()


def _store(config: Config, *, create: bool, thorough: bool = False) -> Store:
    if config.store.kind == "memory":
        raise ConfigError(
            "this store lives inside the running engine alone, no other process sees it; "
            "use `type: lmdb` for one that commands can open",
            file=str(config.file or ""),
            field="store.type",
        )
    if not create and not has_store(config):
        from iii.store.memory import MemoryStore

        return MemoryStore()
    from iii.store.lmdb import LmdbStore
    from iii.store.lmdb.environment import CHECKED_BYTES_MAX
    from iii.stores import limits_of

    kept, checked = config.store, sys.maxsize if thorough else CHECKED_BYTES_MAX
    return LmdbStore(
        kept.path,
        limits=limits_of(config),
        fsync=kept.fsync,
        map_bytes=kept.map_bytes,
        checked_bytes_max=checked,
        create=create,
    )
