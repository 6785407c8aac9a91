"""A store's file with something in every table, and ways to spoil pages of it behind the store's back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from worker import take_now

from iii.model import ARCHIVE, DeadLetter, Enqueue, Lane, LanePolicy, Mark, Put, Record, Txn, Unique
from iii.store.lmdb import LmdbStore

JOBS = Lane("jobs", "Work")
PAGE_BYTES = 4096
MAP_BYTES = 64 << 20
NEEDLE = b"the value of a state key"

Spoil: TypeAlias = Callable[[bytes], bytes]

SPOILT: dict[str, Spoil] = {
    "zeros": lambda page: bytes(PAGE_BYTES),
    "noise": lambda page: os.urandom(PAGE_BYTES),
    "another kind of page": lambda page: page[:10] + b"\x04\x00" + page[12:],
    "rows of noise": lambda page: page[:16] + os.urandom(PAGE_BYTES - 16),
}


async def fill(folder: Path) -> None:
    """Rows in every table, some tables more than one page deep."""
    store = LmdbStore(folder, map_bytes=MAP_BYTES)
    await store.open()
    await store.open_session([LanePolicy(*JOBS)])
    letter = DeadLetter("jobs", "Work", "no", 1, 0)
    for part in range(3):
        await store.commit(
            Txn(
                [
                    *(Put("ns", f"{part}-{n}", NEEDLE + bytes(100)) for n in range(40)),
                    *(Enqueue("jobs", bytes(100), group=f"g{n % 5}") for n in range(20)),
                    *(Enqueue("jobs", bytes(100), delay_ms=3_600_000) for n in range(20)),
                    *(
                        Enqueue("jobs", bytes(100), unique=Unique(f"{part}-{n}", 1_000_000))
                        for n in range(20)
                    ),
                    Enqueue("jobs", bytes(9_000)),
                    Enqueue("nobody", b"waits"),
                    Enqueue("jobs.failed", b"", step=ARCHIVE, dead=letter),
                    Mark(f"mark-{part}", 1, None),
                    Record("run", b"run"),
                    Record("audit", b"audit"),
                ]
            )
        )
    await take_now(store, {JOBS: 10})
    await store.crash()


def pages(file: Path) -> int:
    return file.stat().st_size // PAGE_BYTES


def pages_with(file: Path, content: bytes) -> list[int]:
    """The B-tree leaves that hold it."""
    held = file.read_bytes()
    found = range(2, len(held) // PAGE_BYTES)
    return [n for n in found if content in held[n * PAGE_BYTES : (n + 1) * PAGE_BYTES]]


def spoil(file: Path, page: int, how: Spoil) -> None:
    with file.open("r+b") as opened:
        opened.seek(page * PAGE_BYTES)
        before = opened.read(PAGE_BYTES)
        opened.seek(page * PAGE_BYTES)
        opened.write(how(before))


@contextmanager
def spoilt(file: Path, content: bytes) -> Iterator[None]:
    """The pages with this content cannot be read within, and are as they were afterwards."""
    before = {page: file.read_bytes()[page * PAGE_BYTES :][:PAGE_BYTES] for page in pages_with(file, content)}
    assert before
    for page in before:
        spoil(file, page, SPOILT["another kind of page"])
    try:
        yield
    finally:
        for page, as_it_was in before.items():
            spoil(file, page, lambda _, as_it_was=as_it_was: as_it_was)  # type: ignore[misc]
