"""Judges whether the clients of an HTTP/2 connection take what is sent to them.

A stream moves when its window takes PROGRESS_BYTES of what waits, or all of it: a window that opens by a byte
at a time is no progress. One that did not move for the timeout, for want of its own window, is stuck. Where
the connection's window is what lacks, the stream may be waiting for its turn: then the connection is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from iii.web.http2.frames import Frames
from iii.web.http2.stream import Http2Stream

__all__ = ["Progress"]

PROGRESS_BYTES = 1024
LOOKS = 4  # in the time of the timeout


class Progress:
    """Used by what sends: `waits`, `moved`; and where `is_due`, `stuck` and `go_on`."""

    def __init__(self, timeout_s: float, frames: Frames) -> None:
        self._timeout_s, self._frames = timeout_s, frames
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = self._stream_moved_at = self._loop.time()
        self._moved_bytes = 0
        self.is_due = False

    def waits(self, stream: Http2Stream, wake: asyncio.Event) -> None:
        """`stream` has something that is to be sent; `wake` is set when a look is due."""
        stream.since, stream.moved_bytes = self._loop.time(), 0
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s / LOOKS, self._tick, wake)

    def moved(self, stream: Http2Stream, size: int) -> None:
        now = self._loop.time()
        self._moved_bytes += size
        if self._moved_bytes >= PROGRESS_BYTES:
            self._moved_at, self._moved_bytes = now, 0
        if not stream.unsent or stream.moved_bytes >= PROGRESS_BYTES:
            self._stream_moved_at = stream.since = now
            stream.moved_bytes = 0

    def stuck(self, unsent: Iterable[Http2Stream]) -> list[Http2Stream] | None:
        """The streams to reset; None where the whole connection is to end."""
        late = self._loop.time() - self._timeout_s
        stuck = [stream for stream in unsent if stream.since <= late]
        own = [each for each in stuck if self._is_held_by_its_own_window(each)]
        if stuck and (self._stream_moved_at <= late or (len(own) < len(stuck) and self._moved_at <= late)):
            return None
        return own

    def _is_held_by_its_own_window(self, stream: Http2Stream) -> bool:
        return self._frames.own_window(stream.id) < min(PROGRESS_BYTES, len(stream.unsent))

    def go_on(self, wake: asyncio.Event, *, waiting: bool) -> None:
        """After a look: the next one comes where something still waits."""
        self.is_due = False
        self._timer = None
        if waiting:
            self._timer = self._loop.call_later(self._timeout_s / LOOKS, self._tick, wake)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, wake: asyncio.Event) -> None:
        self.is_due = True
        wake.set()
