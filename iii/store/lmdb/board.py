"""A session's board: the mapped file in which a session says how it is and which messages it runs.

    word   content
    0      magic (format 1)
    1 2    pid, its start time
    3      PID namespace
    4 5    boot id of the machine
    6      heartbeat: bumped every 250 ms
    7      1: the first release rings only who says so
    8      supervised: 1 = its supervisor ends it, no handler is to blame
    9      unlisted: messages that run although every slot was taken
    10     number of slots
    11     messages settled so far
    12     health: 0 starting, 1 ready, 2 draining
    13     HTTP requests being answered, as of the last beat
    14     lanes served
    15     when its event loop last turned, CLOCK_BOOTTIME in ms, in the low 48 bits; above them which of its
           supervisor's instances it is, 0 = of none. All 0: an older version, which does not say
    16..   the slots: id of a message whose handler has started, 0 = free
    then   the pace: (CLOCK_BOOTTIME in ms, messages settled by then) of each of the last beats
    then   1: a quarantine; an earlier version has no such word, and passes over it

Only the owner writes, `supervised` aside. A board of an earlier boot says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final
from uuid import UUID

from iii.files import open_file
from iii.store.contract import HEALTHS, Health
from iii.store.lmdb import machine
from iii.store.lmdb.mapping import WORD_BYTES, SharedWords, reserve

__all__ = ["SLOTS", "Board"]

SLOTS = 4096
_MAGIC = int.from_bytes(b"iiiboar1", "little")
(_PID, _START, _NAMESPACE, _BOOT, _HEARTBEAT, _LISTENS, _SUPERVISED, _UNLISTED, _COUNT) = (
    1, 2, 3, 4, 6, 7, 8, 9, 10,
)  # fmt: skip
_SETTLED, _HEALTH, _REQUESTS, _LANES, _TURNED, _HEADER = 11, 12, 13, 14, 15, 16
_NUMBER_SHIFT: Final = 48
_PACE_BEATS: Final = 41


class Board:
    """`create` makes this process's own, `open` maps a peer's; both read the same way."""

    def __init__(self, shared: SharedWords) -> None:
        self._shared = shared

    @classmethod
    def create(cls, path: Path, slots: int, quarantine: bool = False) -> Board:
        """The file appears whole, under a new inode: whoever still maps an older one keeps that."""
        fresh, count = path.with_suffix(".fresh"), _HEADER + slots + 2 * _PACE_BEATS + 1
        fresh.unlink(missing_ok=True)
        fd = open_file(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            reserve(fd, count, path)
            shared = SharedWords(fd, count)
        except BaseException:
            fresh.unlink()
            raise
        finally:
            os.close(fd)
        _sign(shared.words, slots)
        shared.words[_tail(shared.words)] = quarantine
        fresh.replace(path)
        return cls(shared)

    @classmethod
    def open(cls, path: Path) -> Board | None:
        """None where there is none, or one of another format."""
        try:
            fd = open_file(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            count = os.fstat(fd).st_size // WORD_BYTES
            if count < _HEADER + 2 * _PACE_BEATS:
                return None
            shared = SharedWords(fd, count)
        finally:
            os.close(fd)
        if shared.words[0] != _MAGIC or shared.words[_COUNT] > count - _HEADER - 2 * _PACE_BEATS:
            shared.close()
            return None
        return cls(shared)

    @property
    def pid(self) -> int:
        return self._shared.words[_PID]

    @property
    def start(self) -> int:
        """When the process started, in clock ticks since boot."""
        return self._shared.words[_START]

    @property
    def namespace(self) -> int:
        return self._shared.words[_NAMESPACE]

    @property
    def of_this_boot(self) -> bool:
        words = self._shared.words
        return (words[_BOOT], words[_BOOT + 1]) == _boot_words()

    @property
    def heartbeat(self) -> int:
        return self._shared.words[_HEARTBEAT]

    @property
    def supervised(self) -> bool:
        return self._shared.words[_SUPERVISED] != 0

    @supervised.setter
    def supervised(self, supervised: bool) -> None:
        self._shared.words[_SUPERVISED] = supervised

    @property
    def unlisted(self) -> int:
        return self._shared.words[_UNLISTED]

    @unlisted.setter
    def unlisted(self, count: int) -> None:
        self._shared.words[_UNLISTED] = count

    @property
    def slots(self) -> int:
        return self._shared.words[_COUNT]

    @property
    def quarantine(self) -> bool:
        words = self._shared.words
        return len(words) > _tail(words) and words[_tail(words)] != 0

    @property
    def settled(self) -> int:
        return self._shared.words[_SETTLED]

    @settled.setter
    def settled(self, count: int) -> None:
        self._shared.words[_SETTLED] = count

    @property
    def health(self) -> Health:
        return HEALTHS[self._shared.words[_HEALTH] % len(HEALTHS)]

    @health.setter
    def health(self, health: Health) -> None:
        self._shared.words[_HEALTH] = HEALTHS.index(health)

    @property
    def requests(self) -> int:
        return self._shared.words[_REQUESTS]

    @requests.setter
    def requests(self, count: int) -> None:
        self._shared.words[_REQUESTS] = count

    @property
    def lanes(self) -> int:
        return self._shared.words[_LANES]

    @lanes.setter
    def lanes(self, count: int) -> None:
        self._shared.words[_LANES] = count

    @property
    def turned_ms(self) -> int:
        """CLOCK_BOOTTIME when its event loop last turned; 0 = not known."""
        return self._shared.words[_TURNED] & ((1 << _NUMBER_SHIFT) - 1)

    @property
    def number(self) -> int:
        """Which of its supervisor's instances it is; 0 = of none."""
        return self._shared.words[_TURNED] >> _NUMBER_SHIFT

    def turn(self, boot_ms: int, number: int) -> None:
        """The event loop comes by."""
        self._shared.words[_TURNED] = number << _NUMBER_SHIFT | boot_ms

    def beat(self, boot_ms: int) -> None:
        """One more, at this reading of CLOCK_BOOTTIME."""
        words = self._shared.words
        words[_HEARTBEAT] += 1
        at = self._pace_at() + 2 * (words[_HEARTBEAT] % _PACE_BEATS)
        words[at], words[at + 1] = boot_ms, words[_SETTLED]

    def pace(self) -> list[tuple[int, int]]:
        """(CLOCK_BOOTTIME in ms, messages settled by then) of the last beats, the oldest first."""
        at = self._pace_at()
        words = self._shared.words[at : at + 2 * _PACE_BEATS].tolist()
        return sorted(pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0])

    def _pace_at(self) -> int:
        return _HEADER + self._shared.words[_COUNT]

    def write(self, slot: int, message_id: int) -> None:
        self._shared.words[_HEADER + slot] = message_id

    def list_only(self, message_ids: Collection[int]) -> None:
        """Nothing runs but these."""
        words = self._shared.words
        listed = [*message_ids][: words[_COUNT]]
        words[_UNLISTED] = 0
        for slot in range(words[_COUNT]):
            words[_HEADER + slot] = listed[slot] if slot < len(listed) else 0

    def running(self) -> list[int]:
        """The ids in the slots. O(slots)."""
        words = self._shared.words
        return [id for id in words[_HEADER : _HEADER + words[_COUNT]].tolist() if id]

    def close(self) -> None:
        self._shared.close()


def _tail(words: memoryview[int]) -> int:
    """Where the words behind the pace begin."""
    return _HEADER + words[_COUNT] + 2 * _PACE_BEATS


def _sign(words: memoryview[int], slots: int) -> None:
    pid = os.getpid()
    stat = machine.process_stat(pid)
    assert stat is not None, "this process runs"
    words[_PID], words[_START], words[_NAMESPACE] = pid, stat.start, machine.pid_namespace()
    words[_BOOT], words[_BOOT + 1] = _boot_words()
    words[_COUNT], words[_LISTENS] = slots, 1
    words[0] = _MAGIC


def _boot_words() -> tuple[int, int]:
    number = UUID(machine.boot_id()).int
    return number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF
