"""Who is alive, who is dead and who has stopped: sessions as they show themselves and as peers see them.

Files in <data>/sessions, by session id: `.lock` (held = alive), `.board` (what it runs), `.bell` (how to
wake it). Must not know the tables: what follows from a death is recovery's.

    verdict   known by                                                          recovery
    dead      nobody holds the lock                                             takes its leases
    stale     locked, but its heartbeat stood still over 40 of the watcher's    takes its leases; it wakes up
              own beats (10 s, store.stale_after); no clocks are compared       to LeaseLost and a new session
    alive     neither; also a locked session whose board is missing or of       -
              another layout: what a newer version writes is not judged
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from iii.clock import SystemClock
from iii.errors import StoreIncompatible
from iii.files import Unsafe, make_folder
from iii.store.contract import Health
from iii.store.lmdb import machine, session_lock
from iii.store.lmdb.board import SLOTS, Board
from iii.store.lmdb.disk import no_access
from iii.store.lmdb.mapping import poison_after_fork

__all__ = [
    "BEAT_S",
    "STALE_BEATS",
    "Heartbeat",
    "OwnSession",
    "Peer",
    "Staleness",
    "Verdict",
    "beats",
    "mark_supervised",
    "refuse_foreign",
    "remove_files",
    "session_file",
    "session_ids",
    "verdict",
]

BEAT_S = 0.25
STALE_BEATS = 40

Verdict: TypeAlias = Literal["alive", "dead", "stale"]

_log = logging.getLogger("iii.store")


def beats(duration_ms: int) -> int:
    """How many heartbeats that is, one at least."""
    return max(1, round(duration_ms / (1000 * BEAT_S)))


def session_file(folder: Path, session_id: int, kind: Literal["lock", "board", "bell"]) -> Path:
    """Where a session keeps its lock, board or bell; `folder` is the data folder."""
    return folder / "sessions" / f"{session_id}.{kind}"


def session_ids(folder: Path) -> list[int]:
    """Every session that has left files, alive or not."""
    stems = (path.stem for path in (folder / "sessions").glob("*.lock"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def remove_files(folder: Path, session_id: int) -> bool:
    """Remove what a dead session left behind. False, and nothing removed, while its lock is held."""
    lock = session_file(folder, session_id, "lock")
    return session_lock.remove_if_free(lock, _companions(folder, session_id))


def _companions(folder: Path, session_id: int) -> list[Path]:
    """The files of a session that its lock protects."""
    return [folder / "sessions" / f"{session_id}.{kind}" for kind in ("board", "fresh", "bell")]


class OwnSession:
    """This process's session: its lock and its board, from construction to `close`.

    `start` and `end` are O(1) and belong to one thread. Where more than `slots` messages run at once, the
    surplus is only counted (`unlisted`) until a slot comes free: a death is no crash of theirs.
    """

    def __init__(
        self, folder: Path, session_id: int, *, slots: int = SLOTS, number: int = 0, quarantine: bool = False
    ) -> None:
        """`number`: which of its supervisor's instances this process is; 0 = of none."""
        self.folder, self.session_id, self._number = folder, session_id, number
        try:
            make_folder(folder / "sessions")
        except Unsafe as error:
            raise no_access(folder / "sessions", error) from error
        self._lock = session_lock.SessionLock(session_file(folder, session_id, "lock"))
        try:
            self._board = Board.create(session_file(folder, session_id, "board"), slots, quarantine)
        except BaseException:
            self._lock.release(remove=True)
            raise
        self._free = list(range(slots - 1, -1, -1))
        self._slot_of: dict[int, int] = {}
        self._unlisted: dict[int, None] = {}  # oldest first
        self._closed = False
        self._clock = SystemClock()
        poison_after_fork(self)
        self.beat()

    def beat(self, requests: int = 0) -> None:
        """Bump the heartbeat, and note how many HTTP requests are being answered."""
        self._board.requests = requests
        self._board.beat(self._clock.delay_ms())

    def turn(self) -> None:
        """The event loop comes by: called by the loop alone, every BEAT_S."""
        self._board.turn(self._clock.delay_ms(), self._number)

    def blame(self, message_ids: Collection[int]) -> None:
        """This process ends now, and these alone are to blame. Any thread; nothing is started after it."""
        self._board.list_only(message_ids)

    def show(self, health: Health, lanes: int) -> None:
        """For whoever lists the instances (roster.py)."""
        self._board.health, self._board.lanes = health, lanes

    def start(self, message_id: int) -> None:
        """The handler of this message begins now; a second start of it changes nothing."""
        if message_id in self._slot_of:
            return
        if self._free:
            slot = self._slot_of[message_id] = self._free.pop()
            self._board.write(slot, message_id)
        else:
            self._unlisted[message_id] = None
            self._board.unlisted = len(self._unlisted)

    def settled(self, message_ids: Sequence[int]) -> None:
        """These messages are settled, whether they had started or not."""
        for message_id in self._slot_of.keys() & message_ids:
            self.end(message_id)
        for message_id in self._unlisted.keys() & message_ids:
            self.end(message_id)
        self._board.settled += len(message_ids)

    def end(self, message_id: int) -> None:
        """Its handler has ended; nothing happens where it never started, or has ended before."""
        slot = self._slot_of.pop(message_id, None)
        if slot is None:
            if message_id not in self._unlisted:
                return
            del self._unlisted[message_id]
        elif self._unlisted:
            oldest = next(iter(self._unlisted))
            del self._unlisted[oldest]
            self._list(oldest, slot)
        else:
            self._board.write(slot, 0)
            self._free.append(slot)
            return
        self._board.unlisted = len(self._unlisted)

    def _list(self, message_id: int, slot: int) -> None:
        self._board.write(slot, message_id)
        self._slot_of[message_id] = slot

    def running(self) -> list[int]:
        """The ids that the board lists."""
        return self._board.running()

    def is_whole(self) -> bool:
        """Whether its files are still there: others see nothing of it otherwise, or take it for dead."""
        companions = (session_file(self.folder, self.session_id, kind) for kind in ("board", "bell"))
        return self._lock.is_in_place() and all(path.exists() for path in companions)

    def close(self, *, remove: bool = True) -> None:
        """Give up the lock. Idempotent. `remove=False` leaves the files as a kill would (tests)."""
        if self._closed:
            return
        self._closed = True
        self._board.close()
        if remove:
            for path in _companions(self.folder, self.session_id):
                path.unlink(missing_ok=True)
        self._lock.release(remove=remove)

    def poison(self) -> None:
        self._closed = True


class Peer:
    """A session as another process sees it. Opens nothing that could drop a lock this process owns."""

    def __init__(self, folder: Path, session_id: int) -> None:
        self.folder, self.session_id = folder, session_id
        self._lock_path = session_file(folder, session_id, "lock")
        self._mapped: Board | None = None

    def is_dead(self) -> bool:
        """Nobody holds its lock; asks the kernel."""
        return not session_lock.is_held(self._lock_path)

    @property
    def process(self) -> tuple[int, int] | None:
        """(pid, start time), None where it has no board."""
        board = self.board()
        return None if board is None else (board.pid, board.start)

    @property
    def heartbeat(self) -> int | None:
        """None where no board of a known layout shows it."""
        board = self.board()
        return None if board is None else board.heartbeat

    @property
    def supervised(self) -> bool:
        """Its supervisor ends it: no handler is to blame for its death."""
        board = self.board()
        return board is not None and board.supervised

    @property
    def unlisted(self) -> int:
        """How many messages it runs that found no slot on its board."""
        board = self.board()
        return 0 if board is None else board.unlisted

    def running_ids(self) -> list[int]:
        """The messages its death counts against: none after a reboot or where its supervisor ended it."""
        board = self.board()
        if board is None or board.supervised or not board.of_this_boot:
            return []
        return board.running()

    def same_namespace(self) -> bool:
        """Its pids mean the same here; also True where it has no board to tell."""
        board = self.board()
        return board is None or board.namespace == machine.pid_namespace()

    def mark_supervised(self) -> None:
        """Its death from now on counts against no message."""
        board = self.board()
        if board is not None:
            board.supervised = True

    def close(self) -> None:
        """Let go of the mapping; a later use maps it again."""
        board, self._mapped = self._mapped, None
        if board is not None:
            board.close()

    def board(self) -> Board | None:
        """Its board as it is now, None where it has none."""
        if self._mapped is None:
            self._mapped = Board.open(session_file(self.folder, self.session_id, "board"))
        return self._mapped


class Staleness:
    """Which peers' heartbeats stand still, counted in samples of the watcher: one per peer and own beat.

    A watcher that was itself stopped took no samples, so it accuses nobody when it wakes up.
    """

    def __init__(self, beats_max: int = STALE_BEATS) -> None:
        self._beats_max = beats_max
        self._seen: dict[int, tuple[int, int]] = {}  # session -> heartbeat, samples it stood still

    def sample(self, session_id: int, heartbeat: int | None) -> None:
        """A session without a readable heartbeat (None) is never stale: its lock alone speaks for it."""
        if heartbeat is None:
            self.forget(session_id)
            return
        last, still = self._seen.get(session_id, (-1, 0))
        self._seen[session_id] = (heartbeat, still + 1 if heartbeat == last else 0)

    def is_stale(self, session_id: int) -> bool:
        return self.stands_still(session_id, self._beats_max)

    def stands_still(self, session_id: int, beats: int) -> bool:
        """Over so many of the watcher's own beats."""
        return session_id in self._seen and self._seen[session_id][1] >= beats

    def forget(self, session_id: int) -> None:
        self._seen.pop(session_id, None)


def verdict(peer: Peer, staleness: Staleness) -> Verdict:
    """The table above, as seen now."""
    if peer.is_dead():
        return "dead"
    return "stale" if staleness.is_stale(peer.session_id) else "alive"


class Heartbeat:
    """A thread that does its duties once per beat: bump, sample the peers, unfreeze the writer.

    A duty that raises is reported and the beat goes on: a session must not look dead because of a log line.
    Stop it before closing what the duties use.
    """

    def __init__(self, duties: Sequence[Callable[[], object]], *, interval_s: float = BEAT_S) -> None:
        self._duties, self._interval_s = tuple(duties), interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="iii-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns once the beat in flight has ended. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            for duty in self._duties:
                try:
                    duty()
                except Exception:
                    _log.exception("heartbeat: %r failed", duty)


def refuse_foreign(folder: Path) -> None:
    """StoreIncompatible where a living session of another PID namespace has the store open."""
    for peer in _peers(folder):
        if not peer.same_namespace() and not peer.is_dead():
            raise StoreIncompatible(
                f"{folder}: session {peer.session_id} has it open from another PID namespace, and neither "
                f"side can see who lives there: run all instances of a store in one container, or share "
                f"the PID namespace between them (docker run --pid, shareProcessNamespace)"
            )


def mark_supervised(folder: Path, pid: int) -> int:
    """A supervisor is about to end this process: no message is to blame. Returns how many sessions it has."""
    stat = machine.process_stat(pid)
    if stat is None:
        return 0
    marked = 0
    for peer in _peers(folder):
        if peer.process == (pid, stat.start):
            peer.mark_supervised()
            marked += 1
    return marked


def _peers(folder: Path) -> Iterator[Peer]:
    for session_id in session_ids(folder):
        peer = Peer(folder, session_id)
        try:
            yield peer
        finally:
            peer.close()
