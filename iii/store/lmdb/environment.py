"""The LMDB environment of a store folder: opened once per process, checked before anybody uses it.

Owns the file's identity (format number, creation) and the free room; a new file is made by creation.py, a
copy by backup.py. Two stores of one process share one environment, as LMDB demands; a forked child may use
none of it. A file is refused unchanged where others may look into its folder, where it is of another format,
cut off, or where its pages contradict each other (all of them are looked at in a file of up to
CHECKED_BYTES_MAX, and by verify.py in any).

The map is as large as the largest that any process has asked for, which LMDB keeps in the file: where
another one asks for more later and the file outgrows this map, it follows (`adopt_map`). How much of it new
work may use is each process's own `map_bytes`.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Final, Literal, NamedTuple

import lmdb
import msgspec

from iii import files
from iii.clock import SystemClock
from iii.errors import StoreBusy, StoreDamaged, StoreError, StoreIncompatible
from iii.store.lmdb import creation
from iii.store.lmdb.creation import sync
from iii.store.lmdb.damage import damaged, explained, explaining, page_findings
from iii.store.lmdb.disk import no_access
from iii.store.lmdb.keys import FORMAT, TABLES, u64
from iii.store.lmdb.machine import Anchor, BootClock, anchor, boot_id
from iii.store.lmdb.presence import Presence, gone

Fsync = Literal["commit", "meta", "interval"]

FILE = "data.mdb"
MAP_BYTES = 64 << 30
READERS_MAX = 512
CHECKED_BYTES_MAX = 8 << 20
PAGE_BYTES_MIN = 4096
MAP_RESERVE_BYTES = 4 << 20
META_MAP_AT: Final = 32
"""Where a meta page holds the size of the map: behind the page's head, magic, version and address."""
TIGHT_BYTES = 128 << 20
"""Twice what may be pending: nearer to its end, what of the file is used is counted, and each Txn weighed."""
FOLLOW_MAP_S = 10.0

FORMAT_KEY: Final = b"format"
CREATED: Final = b"created_ms"
CLOCK: Final = b"clock"
decode_anchor = msgspec.msgpack.Decoder(Anchor).decode


class Tables(NamedTuple):
    """The handles of the named databases, by the names of keys.TABLES."""

    meta: lmdb._Database
    counter: lmdb._Database
    mark: lmdb._Database
    lane: lmdb._Database
    ready: lmdb._Database
    later: lmdb._Database
    group: lmdb._Database
    behind: lmdb._Database
    lease: lmdb._Database
    body: lmdb._Database
    unique: lmdb._Database
    expiry: lmdb._Database
    state: lmdb._Database
    change: lmdb._Database
    session: lmdb._Database
    run: lmdb._Database
    audit: lmdb._Database


class Environment:
    """An open store file. `acquire` and `release` count its users within this process."""

    def __init__(
        self,
        path: Path,
        fsync: Fsync,
        map_bytes: int,
        writes: Callable[[], None],
        checked_bytes_max: int,
        create: bool,
    ) -> None:
        self.path, self.fsync = path, fsync
        self.users = 0
        self.file = path / FILE
        self.writing = threading.Lock()  # around transactions off the loop: the map stays where it is
        self.presence = _made(self.file, map_bytes, create)
        try:
            self.env = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=len(TABLES),
                max_readers=READERS_MAX,
                max_spare_txns=4,
                sync=fsync != "interval",
                metasync=fsync == "commit",
                readahead=False,
                mode=0o600,
            )
        except lmdb.Error as error:
            raise _cannot_open(error, self.file, map_bytes) from error
        try:
            self.presence.opened()
            self._page_bytes = self.env.stat()["psize"]
            self._require_whole_pages(checked_bytes_max)
            self._fit_map(map_bytes)
            self.tables = self._tables(writes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.env.close()
        self.presence.close()  # last: while it is there, nobody else makes a lock.mdb

    def _fit_map(self, map_bytes: int) -> None:
        """A file that is larger than what is asked for still gets pages to settle its messages with."""
        self.map_bytes = map_bytes
        least = max(map_bytes, self._file_bytes() + MAP_RESERVE_BYTES)
        most, limit = max(least, self._recorded_map()), resource.getrlimit(resource.RLIMIT_AS)[0]
        try:
            self.env.set_mapsize(least if limit != resource.RLIM_INFINITY and most > limit else most)
        except lmdb.MemoryError as error:
            raise _cannot_open(error, self.file, map_bytes) from error

    def _recorded_map(self) -> int:
        """The largest map that the file was given. Asking LMDB for it would map as much."""
        with self.file.open("rb") as file:
            metas = [os.pread(file.fileno(), 8, page * self._page_bytes + META_MAP_AT) for page in (0, 1)]
        return max(int.from_bytes(meta, sys.byteorder) for meta in metas)

    def adopt_map(self) -> None:
        """Another process let the file grow beyond this map. On the loop, and with no read going on there."""
        with self.writing:
            self._fit_map(self.map_bytes)

    def follow_map(self, loop: AbstractEventLoop) -> None:
        """adopt_map on the loop, where the reads are; waits for it. Any other thread."""
        done = threading.Event()

        def follow() -> None:
            try:
                self.adopt_map()
            finally:
                done.set()

        loop.call_soon_threadsafe(follow)
        done.wait(FOLLOW_MAP_S)

    def _tables(self, writes: Callable[[], None]) -> Tables:
        try:
            self._require_known_format()
            self.env.reader_check()
            writes()
            with self.env.begin(write=True) as txn:
                self._require_no_other_file()
                tables = _tables(self.env, txn)
                raw = txn.get(CREATED, db=tables.meta)
                self.made_ms = u64.unpack(raw)[0] if raw else 0
                return tables
        except lmdb.Error as error:
            raise _cannot_open(error, self.file) from error

    def _require_no_other_file(self) -> None:
        """`iii compact` puts another file in place while it holds the write lock."""
        if not self.presence.is_same_data():
            raise StoreBusy(f"{self.file} was compacted just now: try again")

    def _require_whole_pages(self, checked_bytes_max: int) -> None:
        """A page beyond the file's end is a SIGBUS when it is touched; only free ones may lie there."""
        size = self.file.stat().st_size
        if self._file_bytes() > size:
            self._require_sound_pages("it is cut off: ")
        elif size <= checked_bytes_max:
            self._require_sound_pages()

    def _require_sound_pages(self, what: str = "") -> None:
        with self.env.begin():
            findings = page_findings(self.file)
        if findings:
            more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
            raise damaged(self.file, f"{what}{findings[0]}{more}")

    def _file_bytes(self) -> int:
        """What the file has grown to, free pages included."""
        last: int = self.env.info()["last_pgno"]
        return (last + 1) * self._page_bytes

    def _require_known_format(self) -> None:
        with self.env.begin() as txn:
            try:
                meta = self.env.open_db(b"meta", txn=txn, create=False)
            except lmdb.NotFoundError:
                if txn.stat()["entries"]:
                    self._require_sound_pages()
                    raise StoreIncompatible(
                        f"{self.file} is an LMDB file of another program; name another folder"
                    ) from None
                return
            raw = txn.get(FORMAT_KEY, db=meta)
        number = u64.unpack(raw)[0] if raw and len(raw) == u64.size else 0
        if number > FORMAT:
            raise StoreIncompatible(
                f"{self.file} has format {number}, this version reads up to {FORMAT}: "
                "run the newer version of iii that wrote it"
            )
        if number < 1:
            raise damaged(self.file, "it names no format")

    def begin_read(self) -> lmdb.Transaction[bytes]:
        """A read transaction, which the caller ends before the next one. On the loop only."""
        try:
            return self.env.begin()
        except lmdb.MapResizedError:
            self.adopt_map()
            return self.env.begin()
        except lmdb.Error as error:
            raise explained(error, self.file) or error from error

    def anchored_clock(self) -> BootClock:
        """The delay clock of this store: CLOCK_BOOTTIME, carried on over reboots, equal in all instances."""
        now, boot = SystemClock(), boot_id()
        with explaining(self.file), self.writing, self.env.begin(write=True) as txn:
            raw = txn.get(CLOCK, db=self.tables.meta)
            stored = decode_anchor(raw) if raw else None
            offset_ms = anchor(boot, stored, now.delay_ms(), now.wall_ms())
            if stored is None or stored.boot_id != boot:
                reading = Anchor(boot, offset_ms, now.delay_ms() + offset_ms, now.wall_ms())
                txn.put(CLOCK, msgspec.msgpack.encode(reading), db=self.tables.meta)
        return BootClock(offset_ms)

    def left(self, used_max: float, free_bytes_min: int) -> tuple[int, str]:
        """Bytes until so much of the map is used or so little of the disk is free, and what to do then."""
        stat = os.statvfs(self.path)
        free = stat.f_bavail * stat.f_frsize
        of_disk, used = free - free_bytes_min, self._file_bytes()
        most = int(used_max * self.map_bytes)
        if most - used < TIGHT_BYTES:
            used = self.used_bytes()
        of_map = most - used
        if of_disk < of_map:
            kept = f"{free_bytes_min >> 20} are kept: free some disk space"
            return of_disk, f"{free >> 20} MiB free on the disk of {self.path}, {kept}"
        return of_map, (
            f"{used} of {self.map_bytes} bytes of the map are used, of which {used_max:.0%} may be: "
            "raise store.map_size"
        )

    def used_bytes(self) -> int:
        """Bytes of all pages that hold something, those that a delete gave back left out."""
        with self.writing, self.env.begin() as txn:
            stats = [txn.stat(db) for db in self.tables]
        return sum(
            (each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"]) * each["psize"]
            for each in stats
        )


# ------------------------------------------------------------------------------- one per process and file

_open: dict[tuple[int, int], Environment] = {}
_lock = threading.Lock()


def acquire(
    path: Path,
    fsync: Fsync,
    map_bytes: int,
    writes: Callable[[], None] = lambda: None,
    checked_bytes_max: int = CHECKED_BYTES_MAX,
    *,
    create: bool = True,
) -> Environment:
    """The environment of this folder, opened if this process has not opened it yet. StoreGone where there is
    none and none may be made (`create`), StoreError where others may look into it.

    The pages of a file of up to `checked_bytes_max` are looked at, each of them, before anything uses them.
    `writes` is called when the file has passed its checks, before the first write transaction is asked for.
    """
    with _lock:
        try:
            if create and not path.exists():
                files.make_folder(path)
            stat = path.stat()
            if not S_ISDIR(stat.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            if create or (path / FILE).exists():
                files.require_closed(path)
        except FileNotFoundError as error:
            raise gone(path / FILE) from error
        except OSError as error:
            raise no_access(path, error) from error
        identity = (stat.st_dev, stat.st_ino)
        environment = _open.get(identity)
        if environment is None:
            environment = _open[identity] = Environment(
                path, fsync, map_bytes, writes, checked_bytes_max, create
            )
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """One user less; the last one closes it."""
    with _lock:
        environment.users -= 1
        if environment.users:
            return
        for identity in [key for key, value in _open.items() if value is environment]:
            del _open[identity]
        if environment.fsync != "commit":
            with suppress(lmdb.Error):
                environment.env.sync(True)
        environment.close()


def _forget_after_fork() -> None:
    """A forked child inherits maps and locks that belong to its parent: it starts without any."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def _made(file: Path, map_bytes: int, create: bool) -> Presence:
    """The file is made where there is none; its name is on disk from here on."""
    try:
        if not file.exists():
            if not create:
                raise gone(file)
            creation.make(file, map_bytes, len(TABLES), _fill)
        if (size := file.stat().st_size) < 2 * PAGE_BYTES_MIN:  # LMDB would make it anew
            raise damaged(file, f"it is cut off at {size} bytes")
        sync(file.parent)
        return Presence(file, READERS_MAX)
    except lmdb.Error as error:
        raise _cannot_open(error, file, map_bytes) from error
    except OSError as error:
        raise no_access(Path(error.filename or file), error) from error


def _fill(env: lmdb.Environment) -> None:
    with env.begin(write=True) as txn:
        _tables(env, txn)


def _tables(env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> Tables:
    """The handles; a new file gets its identity in the transaction that makes the tables."""
    tables = Tables(*(env.open_db(name.encode(), txn=txn) for name in TABLES))
    if txn.get(FORMAT_KEY, db=tables.meta) is None:
        txn.put(FORMAT_KEY, u64.pack(FORMAT), db=tables.meta)
        txn.put(CREATED, u64.pack(SystemClock().wall_ms()), db=tables.meta)
    return tables


def _cannot_open(error: lmdb.Error, file: Path, map_bytes: int = 0) -> StoreError:
    """The error of the tree that fits what LMDB said."""
    if isinstance(error, lmdb.VersionMismatchError | lmdb.IncompatibleError):
        return StoreIncompatible(f"{file} is of another LMDB format ({error}): open it with what wrote it")
    told = explained(error, file)
    return told if isinstance(told, StoreDamaged) else no_access(file, error, map_bytes)
