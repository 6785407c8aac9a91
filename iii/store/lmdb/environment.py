"""The LMDB environment of a store folder: opened once per process, checked before anybody uses it.

Owns the file's identity (format number, creation), the map, the free room, and the copy. Two stores of one
process share one environment, as LMDB demands; a forked child may use none of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

import lmdb
import msgspec

from iii.clock import SystemClock
from iii.errors import StoreDamaged, StoreError, StoreIncompatible
from iii.store.lmdb.keys import FORMAT, TABLES, u64
from iii.store.lmdb.machine import Anchor, BootClock, anchor, boot_id

Fsync = Literal["commit", "meta", "interval"]

FILE = "data.mdb"
MAP_BYTES = 64 << 30
MAP_USED_MAX = 0.95
FREE_BYTES_MIN = 64 << 20
READERS_MAX = 512

_FORMAT: Final = b"format"
_CREATED: Final = b"created_ms"
_CLOCK: Final = b"clock"
_decode_anchor = msgspec.msgpack.Decoder(Anchor).decode


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

    def __init__(self, path: Path, fsync: Fsync, map_bytes: int, writes: Callable[[], None]) -> None:
        self.path, self.fsync = path, fsync
        self.users = 0
        fresh = _require_sound_file(path / FILE)
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
            raise _explained(error, path) from error
        try:
            _require_whole_file(self.env, path)
            self.map_bytes, self._page_bytes = self.env.info()["map_size"], self.env.stat()["psize"]
            self.tables = self._tables(fresh, writes)
        except BaseException:
            self.env.close()
            raise

    def _tables(self, fresh: bool, writes: Callable[[], None]) -> Tables:
        """The handles; a new file gets its identity in the transaction that makes the tables."""
        try:
            if not fresh:
                self._require_known_format()
            self.env.reader_check()
            writes()
            with self.env.begin(write=True) as txn:
                tables = Tables(*(self.env.open_db(name.encode(), txn=txn) for name in TABLES))
                if txn.get(_FORMAT, db=tables.meta) is None:
                    txn.put(_FORMAT, u64.pack(FORMAT), db=tables.meta)
                    txn.put(_CREATED, u64.pack(SystemClock().wall_ms()), db=tables.meta)
            return tables
        except lmdb.Error as error:
            raise _explained(error, self.path) from error

    def _require_known_format(self) -> None:
        with self.env.begin() as txn:
            try:
                meta = self.env.open_db(b"meta", txn=txn, create=False)
            except lmdb.NotFoundError:
                if txn.stat()["entries"]:
                    raise StoreIncompatible(
                        f"{self.path / FILE} is an LMDB file of another program; name another folder"
                    ) from None
                return
            raw = txn.get(_FORMAT, db=meta)
        number = u64.unpack(raw)[0] if raw and len(raw) == u64.size else 0
        if number > FORMAT:
            raise StoreIncompatible(
                f"{self.path / FILE} has format {number}, this version reads up to {FORMAT}: "
                "run the newer version of iii that wrote it"
            )
        if number < 1:
            raise StoreDamaged(f"{self.path / FILE} names no format: restore a backup")

    def anchored_clock(self) -> BootClock:
        """The delay clock of this store: CLOCK_BOOTTIME, carried on over reboots, equal in all instances."""
        now, boot = SystemClock(), boot_id()
        with self.env.begin(write=True) as txn:
            raw = txn.get(_CLOCK, db=self.tables.meta)
            stored = _decode_anchor(raw) if raw else None
            offset_ms = anchor(boot, stored, now.delay_ms(), now.wall_ms())
            if stored is None or stored.boot_id != boot:
                reading = Anchor(boot, offset_ms, now.delay_ms() + offset_ms, now.wall_ms())
                txn.put(_CLOCK, msgspec.msgpack.encode(reading), db=self.tables.meta)
        return BootClock(offset_ms)

    def full(self) -> str | None:
        """Why new work has no room, None while it has."""
        stat = os.statvfs(self.path)
        free = stat.f_bavail * stat.f_frsize
        if free < FREE_BYTES_MIN:
            return (
                f"{free >> 20} MiB free on the disk of {self.path}, at least {FREE_BYTES_MIN >> 20} are kept"
            )
        most = MAP_USED_MAX * self.map_bytes
        if self.env.info()["last_pgno"] * self._page_bytes < most or self.used_bytes() < most:
            return None
        return f"{MAP_USED_MAX:.0%} of the map of {self.map_bytes} bytes are used: raise store.map_size"

    def used_bytes(self) -> int:
        """Bytes of all pages that hold something, those that a delete gave back left out."""
        with self.env.begin() as txn:
            stats = [txn.stat(db) for db in self.tables]
        return sum(
            (each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"]) * each["psize"]
            for each in stats
        )

    def copy(self, dest: Path) -> None:
        """A consistent, compacted, fsynced copy into the new or empty folder `dest`."""
        if dest.resolve().is_relative_to(self.path.resolve()):
            raise StoreError(f"{dest} lies inside the store's own folder: name one outside {self.path}")
        dest.mkdir(parents=True, exist_ok=True)
        if any(dest.iterdir()):
            raise StoreError(f"{dest} is not empty: a backup needs a new folder")
        try:
            self.env.copy(str(dest), compact=True)
            (dest / FILE).chmod(0o600)  # as the original: payloads are nobody else's business
        except lmdb.Error as error:
            raise StoreError(f"the copy into {dest} failed: {error}") from error
        for path in (dest / FILE, dest, dest.parent):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


# ------------------------------------------------------------------------------- one per process and file

_open: dict[tuple[int, int], Environment] = {}
_lock = threading.Lock()


def acquire(
    path: Path, fsync: Fsync, map_bytes: int, writes: Callable[[], None] = lambda: None
) -> Environment:
    """The environment of this folder, opened if this process has not opened it yet.

    `writes` is called when the file has passed its checks, before the first write transaction is asked for.
    """
    with _lock:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            stat = path.stat()
        except OSError as error:
            raise StoreError(f"cannot use {path} as the store's folder: {error.strerror}") from error
        identity = (stat.st_dev, stat.st_ino)
        environment = _open.get(identity)
        if environment is None:
            environment = _open[identity] = Environment(path, fsync, map_bytes, writes)
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
        environment.env.close()


def _forget_after_fork() -> None:
    """A forked child inherits maps and locks that belong to its parent: it starts without any."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def _require_sound_file(file: Path) -> bool:
    """Whether the file is new; StoreDamaged where it is there and cannot be one (LMDB would make it anew)."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return True
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    if size < 2 * 4096:
        raise StoreDamaged(f"{file} is cut off at {size} bytes: restore a backup")
    return False


def _require_whole_file(env: lmdb.Environment, path: Path) -> None:
    """To touch a page beyond the file's end is a SIGBUS. Only free pages, never written, may lie there."""
    file, page_bytes = path / FILE, env.stat()["psize"]
    if (env.info()["last_pgno"] + 1) * page_bytes <= file.stat().st_size:
        return
    findings = _damages(file)
    if findings:
        raise StoreDamaged(f"{file} is cut off ({findings[0]}): restore a backup")


def _damages(file: Path) -> list[str]:
    from lmdb import verify  # 40 ms to import, hardly ever needed

    try:
        findings: list[str] = verify.verify(str(file))  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return [str(error)]
    return findings


def _explained(error: lmdb.Error, path: Path) -> StoreError:
    """The error of the tree that fits what LMDB said."""
    file = path / FILE
    if isinstance(error, lmdb.VersionMismatchError | lmdb.IncompatibleError):
        return StoreIncompatible(f"{file} is of another LMDB format ({error}): open it with what wrote it")
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError):
        return StoreDamaged(f"{file} is damaged ({error}): restore a backup")
    return StoreError(f"cannot open {file}: {error}")
