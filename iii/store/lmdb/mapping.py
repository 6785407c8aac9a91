"""Memory that processes share: files of u64 words in native order, mapped MAP_SHARED.

What is written outlives a SIGKILL of the writer (the page cache has it) and needs no fsync: after a
power cut every session is dead anyway. An aligned word is read and written whole.

A forked child inherits the mappings and could write through them, so everything here and whatever
called `poison_after_fork` is closed in the child; any use there raises StoreClosed and touches nothing.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from contextlib import suppress
from typing import Protocol, cast

from iii.errors import StoreClosed, StoreFull

__all__ = ["FORKED", "WORD_BYTES", "Inherited", "SharedWords", "poison_after_fork", "reserve"]

FORKED = "the store was opened by the process this one was forked from: open it again in this process"
WORD_BYTES = 8


class Inherited(Protocol):
    def poison(self) -> None:
        """Runs in a forked child: let go of what is inherited, without a trace in the parent. Idempotent."""


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def poison_after_fork(part: Inherited) -> None:
    """`part.poison()` is called in every child that this process forks."""
    _inherited.add(part)


def _poison_all() -> None:
    for part in tuple(_inherited):
        part.poison()


os.register_at_fork(after_in_child=_poison_all)


class _Closed:
    """Stands where the words were, so that a use after close costs the live path no check."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getitem__(self, index: int | slice) -> int:
        raise StoreClosed(self._reason)

    def __setitem__(self, index: int, word: int) -> None:
        raise StoreClosed(self._reason)


class SharedWords:
    """A mapped file of u64 words: read and write `words[i]`. The file descriptor stays the caller's."""

    words: memoryview[int]

    def __init__(self, fd: int, count: int) -> None:
        self._map = mmap.mmap(fd, count * WORD_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.words = memoryview(self._map).cast("Q")
        poison_after_fork(self)

    def close(self, reason: str = "the store is closed") -> None:
        """Idempotent; any use afterwards raises StoreClosed(reason)."""
        words, self.words = self.words, cast("memoryview[int]", _Closed(reason))
        if isinstance(words, memoryview):
            words.release()
            self._map.close()

    def poison(self) -> None:
        with suppress(BufferError):  # a thread that was not forked along was just reading a slice
            self.close(FORKED)


def reserve(fd: int, count: int, path: str | os.PathLike[str]) -> None:
    """Give the file its blocks now: a hole in a mapped file is a SIGBUS once the disk is full."""
    try:
        os.posix_fallocate(fd, 0, count * WORD_BYTES)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StoreFull(f"{path}: no room for {count * WORD_BYTES} bytes: free some disk space") from error
