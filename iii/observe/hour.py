"""The last hour, a Point every POINT_S: in memory, and in a file from which whoever starts next goes on.

    <data>/metrics/hour.jsonl   the points, a line each, appended by one of the engines on the folder
    <data>/metrics/hour.lock    locked (flock) by the one that does: the keeper

Each engine makes the points of all instances itself (metering.py), so another one goes on where the keeper
ends, and a gap in the file is a time when no engine ran. Nothing is synced or waited for, and what cannot be
read is left out: the file is worth no failure.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from iii.files import open_file, write_file

__all__ = ["POINT_S", "Hour", "Point"]

POINT_S = 5
HOUR_MS = 3_600_000
POINTS_MAX = HOUR_MS // 1000 // POINT_S
IDLE_POINTS_MAX = 12  # held back, while nothing happens
BYTES_READ_MAX = 1 << 20


class Point(Struct, frozen=True):
    """POINT_S seconds. at_ms: their end, wall clock. depth: messages that wait at that moment; the rest: what
    happened since the point before. run_p50_s, run_p95_s: of the runs, about; None: no run."""

    at_ms: int
    done: int
    failed: int
    requests: int
    server_errors: int
    depth: int
    running: int
    run_p50_s: float | None
    run_p95_s: float | None
    run_p99_s: float | None = None
    enqueued: int = 0

    @property
    def is_idle(self) -> bool:
        return not (self.done or self.failed or self.requests or self.enqueued or self.running)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Point).decode


class Hour:
    """data: the data folder; None: memory alone. The file is written by `keep` and `close` only.

    points: the oldest first; never changed, so that a thread may read it."""

    def __init__(self, data: Path | None) -> None:
        self._folder = data / "metrics" if data is not None else None
        self.points: tuple[Point, ...] = ()
        self._unkept: list[Point] = []
        self._lock = -1  # held by the keeper
        self._lines = 0  # appended since the file was made

    def open(self, wall_ms: int) -> None:
        """Go on with what the file has of the last hour. An OSError is the caller's."""
        if self._folder is not None:
            found = [point for point in _read(self._folder / "hour.jsonl") if point.at_ms <= wall_ms]
            self.points = _of_last_hour(sorted(found, key=lambda point: point.at_ms), wall_ms)

    def add(self, point: Point) -> None:
        self.points = _of_last_hour((*self.points, point), point.at_ms)
        self._unkept = [*self._unkept, point][-POINTS_MAX:]

    def take(self) -> list[Point]:
        """What is due to be kept, to be handed to `keep`, in any thread."""
        is_due = len(self._unkept) >= IDLE_POINTS_MAX or any(not point.is_idle for point in self._unkept)
        if self._folder is None or not is_due:
            return []
        taken, self._unkept = self._unkept, []
        return taken

    def keep(self, points: list[Point]) -> None:
        """Append them, where nobody else is the keeper. An OSError is the caller's."""
        if self._folder is None or not points:
            return
        if self._lock < 0:
            if not self._becomes_keeper():
                return
            self._write_whole()
        elif self._lines > POINTS_MAX:
            self._write_whole()
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with open(open_file(self._folder / "hour.jsonl", flags), "ab") as file:
                file.write(_lines(points))
            self._lines += len(points)

    def close(self) -> None:
        """Leave the rest behind, and the file to the others. An OSError is the caller's."""
        points, self._unkept = self._unkept, []
        try:
            self.keep(points)
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _becomes_keeper(self) -> bool:
        assert self._folder is not None
        fd = open_file(self._folder / "hour.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    def _write_whole(self) -> None:
        """The file anew, without what is over and what was damaged."""
        assert self._folder is not None
        fresh = self._folder / "hour.fresh"
        write_file(fresh, _lines(self.points))
        fresh.replace(self._folder / "hour.jsonl")
        self._lines = 0


def _of_last_hour(points: Iterable[Point], wall_ms: int) -> tuple[Point, ...]:
    return tuple(point for point in points if point.at_ms > wall_ms - HOUR_MS)[-POINTS_MAX:]


def _lines(points: Iterable[Point]) -> bytes:
    """Each begins and ends with a line's end: a line that was cut off spoils no other."""
    return b"".join(b"\n%b\n" % _encode(point) for point in points)


def _read(path: Path) -> list[Point]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - BYTES_READ_MAX))
            content = file.read()
    except FileNotFoundError:
        return []
    found = []
    for line in content.splitlines():
        try:
            found.append(_decode(line))
        except msgspec.DecodeError:
            continue
    return found
