"""A disk of which only what was synced is sure: the record of power_writes.c, played back up to any moment.

A write is sure once an fdatasync of the file, or its own O_DSYNC write, has returned. Until then any of its
512-byte sectors may be there or not: a power cut keeps any subset of them. So with the file's name: it may be
there from the renaming on, and is after the next fsync of the folder.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

SECTOR_BYTES = 512
_HEAD = struct.Struct("=IIQQQQ")
Kind: TypeAlias = Literal["write", "sync", "synced", "naming", "named"]
_KINDS: dict[int, Kind] = {1: "write", 2: "sync", 3: "synced", 4: "naming", 5: "named"}


class Event(NamedTuple):
    kind: Kind
    pid: int
    at_ns: int
    offset: int = 0
    content: bytes = b""
    number: int = 0  # of the write, in its process


def read(path: Path) -> list[Event]:
    """The events in the order in which they happened."""
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        kind, pid, at_ns, offset, size, number = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        found.append(Event(_KINDS[kind], pid, at_ns, offset, raw[at : at + size], number))
        at += size
    return found


class Disk:
    def __init__(self) -> None:
        self.sure = bytearray()
        self.loose: list[Event] = []  # writes in their order
        self.name: Literal["none", "loose", "sure"] = "none"

    def apply(self, event: Event) -> None:
        match event.kind:
            case "write":
                self.loose.append(event)
            case "sync":
                for write in self.loose:
                    _lay(self.sure, write.offset, write.content)
                self.loose.clear()
            case "synced":
                write = next(w for w in self.loose if (w.pid, w.number) == (event.pid, event.number))
                _lay(self.sure, write.offset, write.content)
                self.loose.remove(write)
            case "naming":
                self.name = "loose"
            case "named":
                self.name = "sure"

    def image(self, keep: Callable[[], bool]) -> bytes | None:
        """The file after a cut now, None = there is none.

        `keep` is asked for its name where that is loose, then sector by sector, of each loose write in turn.
        """
        if self.name == "none" or (self.name == "loose" and not keep()):
            return None
        found = bytearray(self.sure)
        for write in self.loose:
            for offset, part in _sectors(write):
                if keep():
                    _lay(found, offset, part)
        return bytes(found)


def _lay(file: bytearray, offset: int, content: bytes) -> None:
    if len(file) < offset:
        file.extend(bytes(offset - len(file)))
    file[offset : offset + len(content)] = content


def _sectors(write: Event) -> Iterator[tuple[int, bytes]]:
    at, end = write.offset, write.offset + len(write.content)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield at, write.content[at - write.offset : until - write.offset]
        at = until


class Cut(NamedTuple):
    """The power goes: after the event of this number, before `before_ns`."""

    number: int
    before_ns: int
    survives: str
    image: bytes | None


def cuts(events: list[Event], numbers: Iterable[int], dice: random.Random, torn: int = 2) -> Iterator[Cut]:
    """At each of these events: nothing loose survives, all of it does, and so many random parts of it."""
    disk, wanted = Disk(), set(numbers)
    for number, event in enumerate(events):
        disk.apply(event)
        if number not in wanted:
            continue
        before_ns = events[number + 1].at_ns if number + 1 < len(events) else event.at_ns + (1 << 60)
        yield Cut(number, before_ns, "nothing", disk.image(lambda: False))
        if disk.name == "loose" or (disk.name == "sure" and disk.loose):
            yield Cut(number, before_ns, "everything", disk.image(lambda: True))
            for _ in range(torn):
                share = dice.random()
                image = disk.image(partial(_falls_below, share, dice))
                yield Cut(number, before_ns, f"{share:.0%} of the sectors", image)


def _falls_below(share: float, dice: random.Random) -> bool:
    return dice.random() < share
