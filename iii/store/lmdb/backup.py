"""A copy of the store in a folder of its own, made while engines go on: whole, or not there at all.

    folder 0700, new or empty -> room for it -> data.mdb.part 0600 -> copy, fsync -> rename to data.mdb
    -> fsync the folders

A copy that a kill left behind is called data.mdb.part, and no store is opened from it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from iii import files
from iii.errors import StoreDamaged, StoreError, StoreFull
from iii.store.lmdb.creation import sync
from iii.store.lmdb.damage import explained
from iii.store.lmdb.environment import FILE, Environment

__all__ = ["backup"]

PART = f"{FILE}.part"
FREE_BYTES_MIN = 1 << 20


def backup(opened: Environment, dest: Path) -> None:
    """A consistent, compacted, fsynced copy into the new or empty folder `dest`. StoreError."""
    if dest.resolve().is_relative_to(opened.path.resolve()):
        raise StoreError(f"{dest} lies inside the store's own folder: name one outside {opened.path}")
    try:
        with _folder(dest) as folder:
            _require_room(opened, dest)
            _copy(opened, dest, folder)
            os.fsync(folder)
    except OSError as error:
        raise StoreError(f"cannot copy into {error.filename or dest}: {error.strerror}") from error


@contextmanager
def _folder(dest: Path) -> Iterator[int]:
    """Its descriptor; what was made of it and above it goes where the copy fails."""
    missing = [each for each in (dest, *dest.parents) if not os.path.lexists(each)]
    if dest.is_symlink():
        raise StoreError(f"{dest} is a symbolic link: name the folder itself")
    if not missing and not dest.is_dir():
        raise StoreError(f"{dest} is a file: a backup needs a new folder")
    try:
        files.make_folder(dest)
        folder = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.listdir(folder):
                raise StoreError(f"{dest} is not empty: a backup needs a new folder")
            _close_to_others(dest, folder)
            yield folder
        finally:
            os.close(folder)
    except BaseException:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise
    for each in missing or (dest,):
        sync(each.parent)


def _close_to_others(dest: Path, folder: int) -> None:
    if stat.S_IMODE(os.fstat(folder).st_mode) & files.OTHERS:
        with suppress(PermissionError):
            os.fchmod(folder, files.FOLDER_MODE)
    if how := files.closed(dest):
        raise StoreError(f"{dest} {how}, and cannot be closed: name a new folder, on a disk that has modes")


def _require_room(opened: Environment, dest: Path) -> None:
    used, found = opened.used_bytes(), os.statvfs(dest)
    free = found.f_bavail * found.f_frsize
    if free < used + FREE_BYTES_MIN:
        raise StoreFull(
            f"the copy needs {used >> 20} MiB in {dest}, and {free >> 20} MiB are free there: free some disk "
            "space, or name a folder on another disk"
        )


def _copy(opened: Environment, dest: Path, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(PART, flags, files.FILE_MODE, dir_fd=folder)
    try:
        opened.env.copyfd(fd, compact=True)
        os.fsync(fd)
        os.rename(PART, FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException as error:
        os.unlink(PART, dir_fd=folder)
        if isinstance(error, lmdb.Error | OSError):
            raise _failed(opened, dest, error) from error
        raise
    finally:
        os.close(fd)


def _failed(opened: Environment, dest: Path, error: lmdb.Error | OSError) -> StoreError:
    found = explained(error, opened.file) if isinstance(error, lmdb.Error) else None
    if isinstance(found, StoreDamaged):
        return found
    code = getattr(error, "errno", None) or getattr(error, "code", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"no room for the copy in {dest} ({error}): free some, or name another disk")
    return StoreError(f"the copy into {dest} failed: {error}")
