"""A folder that this user may not use as a store needs it: refused with what it needs, and left as it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb.verify  # imported now: the user of these tests may not be able to read where it lies
import pytest

from iii.errors import StoreError
from iii.model import Put, Txn
from iii.store.lmdb import LmdbStore

NOBODY = 65534
MAP_BYTES = 64 << 20

assert lmdb.verify


@pytest.fixture
def folder() -> Iterator[Path]:
    """A store that belongs to who has no rights but those of its owner."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    folder = above / "data"
    asyncio.run(_write(folder))
    if os.geteuid() == 0:
        for path in (above, folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    yield folder
    for path in (above, folder):
        if path.exists():
            path.chmod(0o700)
    shutil.rmtree(above)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may do everything: be nobody for a while."""
    was_root = os.geteuid() == 0
    if was_root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
            os.setegid(0)


async def _write(folder: Path) -> None:
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.commit(Txn([Put("ns", "a", b"1")]))
    await store.close()


REFUSING: dict[str, Callable[[Path], object]] = {
    "a folder one cannot look into": lambda folder: folder.chmod(0o000),
    "a folder one cannot make files in": lambda folder: (
        _remove_all_but_the_data(folder) or folder.chmod(0o500)
    ),
    "a file one cannot read": lambda folder: (folder / "data.mdb").chmod(0o000),
    "a file one cannot write": lambda folder: (folder / "data.mdb").chmod(0o400),
    "a lock one cannot write": lambda folder: (folder / "lock.mdb").chmod(0o400),
    "a holder file one cannot write": lambda folder: (folder / "holder").chmod(0o400),
    "no place to make the folder in": lambda folder: _remove(folder) or folder.parent.chmod(0o500),
}


def _remove_all_but_the_data(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "data.mdb" and path.is_file():
            path.unlink()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("refusing", REFUSING)
def test_what_cannot_be_used_is_refused_with_what_is_needed(folder: Path, refusing: str) -> None:
    REFUSING[refusing](folder)
    with without_privileges(), pytest.raises(StoreError, match="this user may read and write") as refusal:
        asyncio.run(LmdbStore(folder, map_bytes=MAP_BYTES).open())
    assert str(folder.parent) in str(refusal.value)


def test_it_is_usable_by_its_owner(folder: Path) -> None:
    with without_privileges():
        asyncio.run(_write(folder))
