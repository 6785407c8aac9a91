"""What the engine keeps on a disk is its user's alone: folders 0700, files 0600, from their first byte on.

    folder   made closed, whatever the umask; one that is there and open to others is refused
    file     made closed, never closed afterwards; behind a symbolic link or a second name, or where it is a
             FIFO or a device, it is refused: whoever put that there would choose what is written over

Knows modes and names, not what is in the files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from iii.errors import StoreError

__all__ = ["Unsafe", "closed", "make_folder", "open_file", "require_closed", "write_file"]

FOLDER_MODE, FILE_MODE = 0o700, 0o600
OTHERS = 0o077


class Unsafe(OSError):
    """A name in the way that is no file, or no folder, of ours. `strerror` says what it is and what to do."""


def closed(path: Path) -> str:
    """How `path` is open to others, in words; "" where it is not. OSError."""
    found = os.stat(path)
    mode, own = stat.S_IMODE(found.st_mode), os.geteuid()
    if mode & OTHERS:
        return f"is open to other users (mode {mode:04o})"
    if own not in (0, found.st_uid):
        return f"belongs to another user ({found.st_uid}; this is {own})"
    return ""


def require_closed(folder: Path) -> None:
    """StoreError where others may look into this data folder. OSError."""
    if how := closed(folder):
        raise StoreError(
            f"{folder} {how}, and what lies there is nobody else's: `chmod 700 {folder}` as its owner; where "
            "its mode must stay (a volume of a group), name a folder below it, which iii makes (store.path)"
        )


def make_folder(path: Path) -> bool:
    """A folder with those above it, each closed; False where it is there. Unsafe: something else is."""
    try:
        path.mkdir(FOLDER_MODE)
        return True
    except FileNotFoundError:
        make_folder(path.parent)
        return make_folder(path)
    except FileExistsError:
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            raise _unsafe(path, mode, "folder") from None
        return False


def open_file(path: str | os.PathLike[str], flags: int, is_kind: Callable[[int], bool] = stat.S_ISREG) -> int:
    """As os.open, with O_CLOEXEC, of a file of our own; Unsafe where it is none. Never waits.

    is_kind: of which kind it has to be (stat.S_ISREG, stat.S_ISFIFO)."""
    try:
        safe = flags & ~os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, safe, FILE_MODE)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO) or is_kind(mode := os.lstat(path).st_mode):
            raise
        raise _unsafe(path, mode, "file") from None
    found = os.fstat(fd)
    if not is_kind(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise _unsafe(path, found.st_mode, "file")
    if flags & os.O_TRUNC:
        os.ftruncate(fd, 0)
    return fd


def write_file(path: Path, content: bytes) -> None:
    """A new closed file with this content; the caller renames it when it is whole. OSError."""
    path.unlink(missing_ok=True)
    with open(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)


def _unsafe(path: str | os.PathLike[str], mode: int, wanted: str) -> Unsafe:
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
    }  # fmt: skip
    found = kinds.get(stat.S_IFMT(mode), "a file" if wanted == "folder" else "a file with a second name")
    return Unsafe(
        errno.EPERM,
        f"it is {found}, and must be a {wanted} of its own: remove it, and it is made anew",
        str(path),
    )
