"""How a process ends that is the engine's alone and whose event loop stands still; nothing stops in order.

    the watchdog sees it                   it logs the stacks of all threads, then calls `end`
    it does not come to that: C code       GRACE_BEATS later a native thread that needs no lock
    keeps the interpreter's lock, or who   (iii_core.deadman) writes the stacks and ends the process; all that
    holds the loop keeps the log's         ran counts a crash, since nothing can tell any more whose it is

`faulthandler.dump_traceback_later` measures time instead of counting: it would end a process that was stopped
(SIGSTOP, a paused container) as soon as that goes on.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
from collections.abc import Callable, Collection

from iii.observe.streams import Patient
from iii.running.watchdog import BEAT_S, Stuck
from iii_core.deadman import Deadman

__all__ = ["LastResort"]

DUMP = signal.SIGRTMAX - 2
"""A signal that nobody else is likely to use."""
GRACE_BEATS = 8
STDERR = 2


class LastResort:
    """`arm` it on the loop, before the first handler runs but after what takes long in a start; the end of
    the `with` disarms it. stuck_after_ms: 0 = never."""

    def __init__(self, stuck_after_ms: int) -> None:
        self._beats = round(stuck_after_ms / (1000 * BEAT_S)) + GRACE_BEATS if stuck_after_ms else 0
        self._deadman: Deadman | None = None

    def __enter__(self) -> LastResort:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._deadman is not None:
            self._next_turn.cancel()
            self._deadman.stop()

    def arm(self) -> None:
        if not self._beats:
            return
        faulthandler.register(DUMP, file=STDERR, all_threads=True, chain=False)
        words = (
            " keeps the interpreter's lock in C code, or the log's: the event loop has not turned for "
            f"{self._beats * BEAT_S:.0f} s; ended, the stacks are above"
        )
        self._loop = asyncio.get_running_loop()
        self._deadman = Deadman(BEAT_S, self._beats, DUMP, STDERR, words.encode())
        self._turn(self._deadman)

    @staticmethod
    def end(stuck: Stuck, blame: Callable[[Collection[int]], object]) -> None:
        """Any thread. The last word goes past the log: who holds the loop may be inside it."""
        if stuck.message_ids is not None:
            blame(stuck.message_ids)
        Patient(STDERR).write(f"error: {stuck.error}; ended\n".encode())
        os._exit(1)

    def _turn(self, deadman: Deadman) -> None:
        deadman.turn()
        self._next_turn = self._loop.call_later(BEAT_S, self._turn, deadman)
