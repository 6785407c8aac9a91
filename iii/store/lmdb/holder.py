"""Who holds the one write transaction, and how a frozen holder is made to let go.

LMDB has one writer at a time over all processes; one that is stopped inside its transaction freezes
every other. So each process publishes in a slot of <data>/holder what its writer does:

    idle -> wanting (asks LMDB for the lock) -> inside (has it; numbered, the highest number holds) -> idle

LMDB's lock is unfair: who leaves it gets it again long before a waiter wakes. So who leaves looks whether
somebody wants it, and waits until that one is inside (`hand_on`).

A waiter counts its own heartbeats during which nobody entered. After 4 (1 s) it looks at the one inside:
stopped (SIGSTOP, a debugger), or its heart stood still over `lock_beats` (12: 3 s), it is killed, and LMDB's
robust mutex passes the lock on. After `lock_beats` with nobody inside it looks at those that want: one of
them may have been given the lock and never come round to say so (something else kept the interpreter's lock).
Nothing is killed but what is in the way, after comparing pid, start time and the whole slot again.

    words of the header: magic, newest number, how many slots have been in use at once
    words of a slot: pid, start time, PID namespace, session (0 = none), state, since_ms, number

A slot belongs to whoever holds the OFD lock on its byte: given up with the last descriptor, however a
process ends, and several stores of one process do not drop each other's. More bytes, none of which the file
needs to have, say by their locks what must not outlive a process either:

    slot                   whose slot it is
    SLOTS                  one process at a time takes a slot
    KNOWING + slot         that this one knows epochs (epochs.py); those of the first release do not
    SHARED + number        held by everybody who called `share(number)`
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from iii.errors import StoreBusy, StoreDamaged, StoreIncompatible
from iii.files import open_file
from iii.store.lmdb import machine
from iii.store.lmdb.mapping import WORD_BYTES, SharedWords, poison_after_fork, reserve
from iii.store.lmdb.record_lock import is_locked, lock, record
from iii.store.lmdb.witness import Witness

__all__ = ["Holder", "Killed", "Published", "users"]

LOOK_BEATS, LOCK_BEATS = 4, 12
HAND_ON_S, HAND_ON_LOOK_S, HAND_ON_AGAIN_S = 0.002, 0.00002, 0.02
SLOTS = 511
FILE: Final = "holder"

_log = logging.getLogger("iii.store")

KNOWING, SHARED = 1 << 16, 1 << 62
SHARED_BITS = 56

_MAGIC = int.from_bytes(b"iiihold1", "little")
_NUMBER_NOW, _SLOTS_USED = 1, 2
_SLOT_WORDS = 8
_PID, _START, _NAMESPACE, _SESSION, _STATE, _SINCE, _NUMBER = range(7)
_IDLE, _WANTING, _INSIDE = range(3)
_COUNT = (1 + SLOTS) * _SLOT_WORDS  # the first slot's place is the header


class Published(NamedTuple):
    """One process's slot, as read at one moment. `since_ms` is CLOCK_MONOTONIC."""

    pid: int
    start: int
    namespace: int
    session_id: int
    state: int
    since_ms: int
    number: int


class Killed(NamedTuple):
    """What `unfreeze` did."""

    pid: int
    session_id: int
    reason: Literal["stopped", "stale"]


def _never(session_id: int) -> bool:
    return False


class Holder:
    """This process's slot. `want`, `enter`, `leave`: the writer thread; `unfreeze`: the heartbeat thread."""

    def __init__(self, folder: Path, lock_beats: int = LOCK_BEATS) -> None:
        """StoreBusy where every slot is taken."""
        self._lock_beats = lock_beats
        self._is_stale: Callable[[int], bool] = _never
        self._path = folder / FILE
        self._fd = open_file(self._path, os.O_RDWR | os.O_CREAT)
        try:
            with _opening(self._fd):
                self._shared = _map(self._fd, self._path)
                slot = _take_slot(self._fd, folder)
                self._at = _SLOT_WORDS * (1 + slot)
                words = self._shared.words
                words[_SLOTS_USED] = max(words[_SLOTS_USED], slot + 1)
            self._witness = _only_one(self._path, self._fd, folder / "data.mdb")
        except BaseException:
            os.close(self._fd)
            raise
        self._wants = self._beats = 0
        self._wait = (0, 0)  # which wait `_beats` counts: own wants, newest number
        self._passed_over: list[tuple[int, int]] = []  # waits that did not end when they were handed the lock
        self._again_s = 0.0
        self._sign()
        poison_after_fork(self)

    # ---------------------------------------------------------------------------------- the writer's side

    def serve(self, session_id: int, is_stale: Callable[[int], bool] = _never) -> None:
        """The session whose heartbeat speaks for this process, 0 = none; `is_stale`: whether another's stood
        still over `lock_beats`."""
        self._is_stale = is_stale
        self._shared.words[self._at + _SESSION] = session_id

    def want(self) -> None:
        """Before asking LMDB for a write transaction."""
        words, at = self._shared.words, self._at
        words[at + _SINCE] = _now_ms()
        words[at + _STATE] = _WANTING
        self._wants += 1

    def enter(self) -> None:
        """LMDB gave the write transaction."""
        words, at = self._shared.words, self._at
        number = words[_NUMBER_NOW] = words[_NUMBER_NOW] + 1  # nobody else writes it: the lock is ours
        words[at + _NUMBER] = number
        words[at + _SINCE] = _now_ms()
        words[at + _STATE] = _INSIDE

    def leave(self) -> None:
        """The transaction has committed or aborted, or was not begun after all."""
        self._shared.words[self._at + _STATE] = _IDLE

    def hand_on(self) -> None:
        """After `leave`: let in who waits, within HAND_ON_S. One that does not come, as it is stopped, dead
        or slow, is waited for again only after HAND_ON_AGAIN_S."""
        words = self._shared.words
        if words[_SLOTS_USED] == 1:
            return
        number = words[_NUMBER_NOW]
        waits, now_s = self._waits(), time.monotonic()
        if not waits or (now_s < self._again_s and all(wait in self._passed_over for wait in waits)):
            return
        while words[_NUMBER_NOW] == number:
            if time.monotonic() >= now_s + HAND_ON_S:
                self._passed_over, self._again_s = waits, now_s + HAND_ON_AGAIN_S
                return
            time.sleep(HAND_ON_LOOK_S)

    def _waits(self) -> list[tuple[int, int]]:
        """Who wants the lock, this process aside: (place, since_ms)."""
        words, own = self._shared.words, self._at
        end = _SLOT_WORDS * (1 + words[_SLOTS_USED])
        return [
            (at, words[at + _SINCE])
            for at in range(_SLOT_WORDS, end, _SLOT_WORDS)
            if words[at + _STATE] == _WANTING and at != own
        ]

    def close(self) -> None:
        """Give the slot back. Idempotent."""
        if self._fd < 0:
            return
        if self._witness is not None:
            self._witness.close()
        self._shared.words[self._at] = 0
        self._shared.close()
        os.close(self._fd)
        self._fd = -1

    def require_same_file(self) -> None:
        """StoreDamaged where `holder` was removed or replaced: newcomers do not see this process any more."""
        try:
            same = os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except OSError:
            same = False
        if not same:
            raise StoreDamaged(
                f"{self._path} was removed or replaced while in use, and without it processes do not see "
                "each other: nothing acknowledged is lost, stop all that use the store and start again"
            )

    def poison(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # the parent's descriptor keeps the lock on the slot
            self._fd = -1

    # ---------------------------------------------------------------------------------- the waiter's side

    def current(self) -> Published | None:
        """The living process inside a write transaction, this one included."""
        return self._inside(list(self._living()))

    def unfreeze(self) -> Killed | None:
        """Once per heartbeat: kill what keeps this process's writer waiting, if it is frozen, and log it."""
        if not self._still_waiting():
            return None
        frozen = self._frozen()
        if frozen is None:
            return None
        at, published, reason = frozen
        if not self._kill(at, published):
            return None
        killed = Killed(published.pid, published.session_id, reason)
        _log.warning("killed process %d (session %d): %s inside the write transaction", *killed)
        return killed

    def _still_waiting(self) -> bool:
        """For LOOK_BEATS beats in one and the same wait, with nobody entering meanwhile."""
        wait = (self._wants, self._shared.words[_NUMBER_NOW])
        if self._shared.words[self._at + _STATE] != _WANTING or wait != self._wait:
            self._wait, self._beats = wait, 0
            return False
        self._beats += 1
        return self._beats >= LOOK_BEATS

    def _frozen(self) -> tuple[int, Published, Literal["stopped", "stale"]] | None:
        living = list(self._living())
        inside = self._inside(living)
        for at, published in living:
            suspected = published == inside if inside else self._beats >= self._lock_beats
            if not suspected or published.state == _IDLE or published.pid == os.getpid():
                continue
            stat = machine.process_stat(published.pid)
            if stat is not None and stat.stopped:
                return at, published, "stopped"
            if published.session_id and self._is_stale(published.session_id):
                return at, published, "stale"
        return None

    def _kill(self, at: int, published: Published) -> bool:
        """The pidfd is opened first, so that what is compared after is what is killed."""
        pidfd = machine.open_pidfd(published.pid)
        try:
            if self._read(at) != published:
                return False
            return machine.kill_process(published.pid, published.start, pidfd)
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def others(self) -> list[int]:
        """The pids of those that have the store open beside this holder, whatever their PID namespace."""
        own = self._at // _SLOT_WORDS - 1
        return [
            self._read(_SLOT_WORDS * (1 + slot)).pid
            for slot in range(SLOTS)
            if slot != own and is_locked(self._fd, slot)
        ]

    # ---------------------------------------------------------------------------------- who shares what

    def share(self, number: int) -> None:
        """Say so until this process ends. `number` is below 1 << SHARED_BITS."""
        lock(self._fd, SHARED + number, fcntl.F_RDLCK)

    def is_shared(self, number: int) -> bool:
        """Whether a process beside this one shares it."""
        return is_locked(self._fd, SHARED + number)

    def beside_older(self) -> bool:
        """Whether a process of the first release has the store open, which shares nothing."""
        fd, own = self._fd, self._at // _SLOT_WORDS - 1
        return any(
            is_locked(fd, slot)
            and not is_locked(fd, KNOWING + slot)
            and is_locked(fd, slot)  # it may have ended meanwhile
            for slot in range(SLOTS)
            if slot != own
        )

    # ------------------------------------------------------------------------------------------ the slots

    def _sign(self) -> None:
        words, at, pid = self._shared.words, self._at, os.getpid()
        stat = machine.process_stat(pid)
        assert stat is not None, "this process runs"
        words[at + _STATE], words[at + _SESSION] = _IDLE, 0
        words[at + _START], words[at + _NAMESPACE] = stat.start, machine.pid_namespace()
        words[at + _PID] = pid

    def _read(self, at: int) -> Published:
        return Published(*self._shared.words[at : at + len(Published._fields)].tolist())

    def _living(self) -> Iterator[tuple[int, Published]]:
        """Where and what: the slots whose very process runs in this PID namespace."""
        namespace = machine.pid_namespace()
        for at in range(_SLOT_WORDS, _COUNT, _SLOT_WORDS):
            published = self._read(at)
            if published.pid and published.namespace == namespace:
                stat = machine.process_stat(published.pid)
                if stat is not None and stat.start == published.start:
                    yield at, published

    @staticmethod
    def _inside(living: list[tuple[int, Published]]) -> Published | None:
        inside = [published for _, published in living if published.state == _INSIDE]
        return max(inside, key=lambda published: published.number, default=None)


@contextmanager
def _opening(fd: int) -> Iterator[None]:
    """One process at a time takes a slot, so that nobody does while the file is made anew."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, record(fcntl.F_WRLCK, SLOTS))
    try:
        yield
    finally:
        lock(fd, SLOTS, fcntl.F_UNLCK)


def users(folder: Path) -> list[int]:
    """The pids of the processes that have a slot; [] where there is no file."""
    try:
        fd = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        taken = [slot for slot in range(SLOTS) if is_locked(fd, slot)]
        at = (WORD_BYTES * _SLOT_WORDS * (1 + slot) for slot in taken)
        return [int.from_bytes(os.pread(fd, WORD_BYTES, each), sys.byteorder) for each in at]
    finally:
        os.close(fd)


def _only_one(path: Path, fd: int, data: Path) -> Witness | None:
    """StoreBusy where the store is in use with another file than this one. None where there is no store."""
    if not data.exists():
        return None
    stat = os.fstat(fd)
    witness = Witness(data, FILE, (stat.st_dev, stat.st_ino))
    if witness.is_contradicted():
        witness.close()
        raise StoreBusy(
            f"{path} was removed while another process uses the store, and they would not see each other: "
            "end that process (it stops by itself when it notices), then try again"
        )
    return witness


def _map(fd: int, path: Path) -> SharedWords:
    """The words of the file; one of another layout is made anew where nobody has the store open."""
    reserve(fd, _COUNT, path)
    shared = SharedWords(fd, _COUNT)
    if shared.words[0] not in (0, _MAGIC):
        if any(is_locked(fd, slot) for slot in range(SLOTS)):
            shared.close()
            raise StoreIncompatible(
                f"{path} is of another version of iii, whose instances run: stop all of them, then start"
            )
        for at in range(_COUNT):
            shared.words[at] = 0
    shared.words[0] = _MAGIC
    return shared


def _take_slot(fd: int, folder: Path) -> int:
    """What it knows comes first: nobody sees the slot taken without it."""
    for slot in range(SLOTS):
        if lock(fd, KNOWING + slot):
            if lock(fd, slot):
                return slot
            lock(fd, KNOWING + slot, fcntl.F_UNLCK)
    raise StoreBusy(f"{folder}: {SLOTS} processes have the store open, and no more can")


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
